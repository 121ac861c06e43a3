"""From an energy–volume curve to bulk modulus, Debye temperature, Grüneisen parameter and κ.

The chain of the AFLOW "AGL" method (Toher et al., Phys. Rev. B 90, 174107, 2014), in which the
crystal is an isotropic solid whose elasticity is known by its bulk modulus alone. So the numbers
are rough: temperatures to some 15 %, κ to a factor of 2 to 10, mostly too low for diamond
structures; their order is what models learn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import CannotEncode

if TYPE_CHECKING:
    from harness.plugin import Floats

# exact, or CODATA 2018
BOLTZMANN_J_PER_K = 1.380649e-23
HBAR_J_S = 1.054571817e-34
ELEMENTARY_CHARGE_C = 1.602176634e-19
ATOMIC_MASS_KG = 1.66053906660e-27
ANGSTROM_M = 1e-10

GPA_PER_EV_PER_CUBIC_ANGSTROM = ELEMENTARY_CHARGE_C / ANGSTROM_M**3 / 1e9

POISSON_RATIO = 0.25
"""That of a Cauchy solid, which AGL takes where nothing is known."""

TEMPERATURE_K = 300.0
"""At which κ is given."""

MODULUS_RANGE_GPA = (1.0, 600.0)
"""Solid argon has 2.7 GPa, diamond 443 GPa."""

DERIVATIVE_RANGE = (1.0, 10.0)
"""Of the bulk modulus by pressure: 3 to 6 in nearly all solids (with 1, γ is 1/3)."""

WORST_FIT = 0.05
"""Largest distance of the curve from its fit, as a share of the depth of the curve."""


@dataclass(frozen=True)
class Equation:
    """The equation of state of Birch and Murnaghan, third order.

    Attributes:
        volume: of an atom at zero pressure, in Å³.
        modulus: the bulk modulus there, in GPa.
        derivative: of the bulk modulus by pressure.
        misfit: largest distance of the energies from the fit, as a share of their range.
    """

    volume: float
    modulus: float
    derivative: float
    misfit: float


@dataclass(frozen=True)
class Solid:
    """What follows from an equation of state.

    Attributes:
        volume: of an atom at zero pressure, in Å³.
        bulk_modulus: in GPa.
        derivative: of the bulk modulus by pressure.
        debye_temperature: in K.
        grueneisen: the parameter γ.
        kappa: Slack's lattice thermal conductivity at 300 K, in W/(m·K).
    """

    volume: float
    bulk_modulus: float
    derivative: float
    debye_temperature: float
    grueneisen: float
    kappa: float


def fit_equation(volumes: Floats, energies: Floats) -> Equation:
    """Fits the equation of state, which is a cubic polynomial of V^(−2/3), by least squares.

    Source: F. Birch, Phys. Rev. 71, 809 (1947).

    Args:
        volumes: of an atom, in Å³; four or more.
        energies: of an atom, in eV.

    Raises:
        CannotEncode: the fit has no minimum among the volumes.
    """
    middle = float(np.median(volumes))
    x = (volumes / middle) ** (-2 / 3)  # about 1, for the sake of rounding
    law = np.polynomial.Polynomial.fit(x, energies, 3).convert()
    slope, curvature, third = law.deriv(1), law.deriv(2), law.deriv(3)
    minima = [
        float(root.real)
        for root in slope.roots()
        if abs(root.imag) < 1e-9 and x.min() <= root.real <= x.max() and curvature(root.real) > 0
    ]
    if not minima:
        raise CannotEncode("its energy has no minimum near its volume")
    at: float = minima[0]
    ratio = at ** (-3 / 2)  # V / middle
    # derivatives of x by V, in units of `middle`
    first, second = -2 / 3 * ratio ** (-5 / 3), 10 / 9 * ratio ** (-8 / 3)
    stiffness: float = curvature(at) * first**2
    change = third(at) * first**3 + 3 * curvature(at) * first * second
    misfit = np.abs(law(x) - energies).max() / np.ptp(energies)
    return Equation(
        ratio * middle,
        float(ratio * stiffness / middle * GPA_PER_EV_PER_CUBIC_ANGSTROM),
        float(-1 - ratio * change / stiffness),
        float(misfit),
    )


def debye_temperature(volume: float, modulus: float, mass: float) -> float:
    """Debye temperature of an isotropic solid of Poisson ratio 0.25, in K.

    θ = ħ/k · (6π²)^⅓ · V^(1/6) · f(σ) · √(B/m). Source: Blanco, Francisco and Luaña, Comput. Phys.
    Commun. 158, 57 (2004), equations 5 and 6, per atom.

    Args:
        volume: of an atom, in Å³.
        modulus: bulk modulus, in GPa.
        mass: mean mass of an atom, in u.
    """
    speed = sqrt(modulus * 1e9 / (mass * ATOMIC_MASS_KG)) * _shear(POISSON_RATIO)
    size: float = (volume * ANGSTROM_M**3) ** (1 / 6)
    theta: float = HBAR_J_S / BOLTZMANN_J_PER_K * (6 * pi**2) ** (1 / 3) * size * speed
    return theta


def _shear(sigma: float) -> float:
    """f(σ): 0.86 for σ = 0.25."""
    transverse = (2 / 3 * (1 + sigma) / (1 - 2 * sigma)) ** 1.5
    longitudinal = (1 / 3 * (1 + sigma) / (1 - sigma)) ** 1.5
    return float((3 / (2 * transverse + longitudinal)) ** (1 / 3))


def grueneisen_parameter(derivative: float) -> float:
    """γ = B′/2 − 1/6, that of a solid whose Poisson ratio does not depend on the volume.

    Source: J. C. Slater, Introduction to Chemical Physics, McGraw-Hill (1939), chapter XIII.
    """
    return derivative / 2 - 1 / 6


def slack_kappa(debye: float, grueneisen: float, volume: float, mass: float, atoms: int) -> float:
    """Lattice thermal conductivity at 300 K, in W/(m·K), by Slack's formula.

    κ = 0.849 · 3 · ∛4 / (20π³ (1 − 0.514/γ + 0.228/γ²)) · (k θₐ/ħ)² · k m V^⅓ / (ħ γ²) · θₐ/T with
    θₐ = θ n^(−⅓), the Debye temperature of the acoustic modes, and V = n times the volume of an
    atom. Sources: G. A. Slack, Solid State Phys. 34, 1 (1979); Morelli and Slack, in High Thermal
    Conductivity Materials, Springer (2006); in this form Toher et al., equations 5 to 7.

    Args:
        debye: Debye temperature, in K.
        grueneisen: the parameter γ.
        volume: of an atom, in Å³.
        mass: mean mass of an atom, in u.
        atoms: in the primitive cell.
    """
    acoustic: float = debye * atoms ** (-1 / 3)
    edge: float = (volume * atoms) ** (1 / 3) * ANGSTROM_M
    share = 1 - 0.514 / grueneisen + 0.228 / grueneisen**2
    rate = BOLTZMANN_J_PER_K / HBAR_J_S
    prefactor: float = 0.849 * 3 * 4 ** (1 / 3) / (20 * pi**3 * share)
    flow = (rate * acoustic) ** 2 * rate * mass * ATOMIC_MASS_KG * edge / grueneisen**2
    return prefactor * flow * acoustic / TEMPERATURE_K


def describe_solid(volumes: Floats, energies: Floats, mass: float, atoms: int) -> Solid:
    """Follows the chain from a curve to κ.

    Args:
        volumes: of an atom, in Å³.
        energies: of an atom, in eV.
        mass: mean mass of an atom, in u.
        atoms: in the primitive cell.

    Raises:
        CannotEncode: the curve makes no sense; says why.
    """
    found = fit_equation(volumes, energies)
    if found.misfit > WORST_FIT:
        raise CannotEncode(
            f"its energy–volume curve is no smooth one: {found.misfit:.0%} of it off the fit"
        )
    _check_range("bulk modulus", found.modulus, MODULUS_RANGE_GPA, " GPa")
    _check_range("pressure derivative of the bulk modulus", found.derivative, DERIVATIVE_RANGE, "")
    debye = debye_temperature(found.volume, found.modulus, mass)
    gamma = grueneisen_parameter(found.derivative)
    kappa = slack_kappa(debye, gamma, found.volume, mass, atoms)
    return Solid(found.volume, found.modulus, found.derivative, debye, gamma, kappa)


def _check_range(name: str, value: float, limits: tuple[float, float], unit: str) -> None:
    low, high = limits
    if not low <= value <= high:
        raise CannotEncode(
            f"the {name} from its energy–volume curve is {value:.3g}{unit}, not within "
            f"{low:g} and {high:g}{unit}"
        )
