"""From curve to κ: formulas by exact inverses, and by published values of four solids."""

from __future__ import annotations

import numpy as np
import pytest

from harness.plugin import CannotEncode
from harness_potentials.physics import (
    GPA_PER_EV_PER_CUBIC_ANGSTROM,
    debye_temperature,
    describe_solid,
    fit_equation,
    grueneisen_parameter,
    slack_kappa,
)

VOLUMES = 20.0 * np.linspace(0.75, 1.25, 11)

# Measured at room temperature or below: volume of an atom (Å³) from the lattice constant; mean
# mass (u); bulk modulus (GPa) and Debye temperature (K), C. Kittel, Introduction to Solid State
# Physics, and G. Simmons and H. Wang, Single Crystal Elastic Constants (1971); Debye temperature of
# the acoustic modes (K), γ and κ (W/(m·K), 300 K), Morelli and Slack (2006).
PUBLISHED = {
    "Si": (20.02, 28.086, 97.8, 645, 395, 1.06, 166),
    "GaAs": (22.58, 72.322, 75.5, 344, 220, 0.75, 45),
    "NaCl": (22.42, 29.221, 24.9, 321, 220, 1.56, 7.1),
    "MgO": (9.34, 20.152, 162.0, 946, 600, 1.44, 60),
}


def birch_murnaghan(volumes, volume: float, modulus: float, derivative: float):
    """The equation as it stands in textbooks; modulus in GPa, energies in eV."""
    x = (volume / volumes) ** (2 / 3)
    stiffness = modulus / GPA_PER_EV_PER_CUBIC_ANGSTROM
    factor = 9 * volume * stiffness / 16
    return factor * ((x - 1) ** 3 * derivative + (x - 1) ** 2 * (6 - 4 * x))


@pytest.mark.parametrize(
    ("volume", "modulus", "derivative"), [(20.0, 100.0, 4.0), (18.0, 443.0, 3.6), (22.5, 3.0, 8.0)]
)
def test_a_curve_gives_back_what_it_was_made_of(volume, modulus, derivative) -> None:
    energies = -5.3 + birch_murnaghan(VOLUMES, volume, modulus, derivative)
    found = fit_equation(VOLUMES, energies)
    assert (found.volume, found.modulus) == pytest.approx((volume, modulus), rel=1e-6)
    assert found.derivative == pytest.approx(derivative, rel=1e-5)
    assert found.misfit < 1e-9


def test_the_law_does_not_depend_on_the_unit_of_volume() -> None:
    energies = birch_murnaghan(VOLUMES, 20.0, 100.0, 5.0)
    one, other = fit_equation(VOLUMES, energies), fit_equation(8 * VOLUMES, 8 * energies)
    assert other.volume == pytest.approx(8 * one.volume)
    assert (other.modulus, other.derivative) == pytest.approx((one.modulus, one.derivative))


@pytest.mark.parametrize("solid", PUBLISHED)
def test_debye_temperatures_are_within_15_percent_of_measured_ones(solid) -> None:
    volume, mass, modulus, debye, *_ = PUBLISHED[solid]
    assert debye_temperature(volume, modulus, mass) == pytest.approx(debye, rel=0.15)


@pytest.mark.parametrize("solid", PUBLISHED)
def test_slacks_formula_is_within_a_factor_of_3_of_what_is_measured(solid) -> None:
    volume, mass, _, _, acoustic, gamma, measured = PUBLISHED[solid]
    kappa = slack_kappa(acoustic * 2 ** (1 / 3), gamma, volume, mass, atoms=2)
    assert measured / 3 < kappa < measured * 3


def test_slacks_formula_has_julians_coefficient() -> None:
    """κ = A m θₐ³ δ n^⅓ / (γ² T), A = 2.43e-6 / (1 − 0.514/γ + 0.228/γ²) in u, K, Å and W/(m·K)."""
    theta, gamma, volume, mass, atoms = 250.0, 1.7, 19.0, 40.0, 3
    coefficient = 2.43e-6 / (1 - 0.514 / gamma + 0.228 / gamma**2)
    size = volume ** (1 / 3) * atoms ** (1 / 3)
    by_hand = coefficient * mass * theta**3 * size / (gamma**2 * 300)
    kappa = slack_kappa(theta * atoms ** (1 / 3), gamma, volume, mass, atoms)
    assert kappa == pytest.approx(by_hand, rel=2e-3)


def test_the_grueneisen_parameter_is_slaters() -> None:
    assert grueneisen_parameter(4.0) == pytest.approx(11 / 6)


def test_the_chain_from_curve_to_kappa() -> None:
    energies = birch_murnaghan(VOLUMES, 20.0, 100.0, 4.0)
    solid = describe_solid(VOLUMES, energies, mass=28.0, atoms=2)
    assert solid.bulk_modulus == pytest.approx(100.0)
    assert solid.debye_temperature == pytest.approx(debye_temperature(20.0, 100.0, 28.0))
    assert solid.grueneisen == pytest.approx(11 / 6)
    assert solid.kappa == pytest.approx(
        slack_kappa(solid.debye_temperature, 11 / 6, 20.0, 28.0, 2), rel=1e-4
    )


def test_more_atoms_in_the_cell_conduct_less() -> None:
    kappas = [slack_kappa(500.0, 2.0, 20.0, 28.0, atoms) for atoms in (1, 2, 10)]
    assert kappas[0] / kappas[1] == pytest.approx(2 ** (2 / 3))
    assert kappas[1] > kappas[2]


@pytest.mark.parametrize(
    ("energies", "reason"),
    [
        (VOLUMES, "no minimum near its volume"),
        (-((VOLUMES - 20) ** 2), "no minimum near its volume"),
        (birch_murnaghan(VOLUMES, 20.0, 0.5, 4.0), r"bulk modulus .* is 0.5 GPa, not within 1 and"),
        (birch_murnaghan(VOLUMES, 20.0, 100.0, 0.2), "derivative .* is 0.2, not within 1 and 10"),
        (
            birch_murnaghan(VOLUMES, 20.0, 100.0, 4.0) + 0.3 * (np.arange(11) % 2),
            "no smooth one: .* off the fit",
        ),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused_with_the_reason(energies, reason) -> None:
    with pytest.raises(CannotEncode, match=reason):
        describe_solid(VOLUMES, energies, mass=28.0, atoms=2)
