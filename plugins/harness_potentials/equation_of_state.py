"""The equation of state of a crystal: energies at some volumes, all else as given.

Cell and atoms keep their shape and fractional places, so the bulk modulus is that of clamped ions,
and for cells of low symmetry an upper bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import CannotEncode, Crystal
from harness_potentials import chgnet_potential
from harness_potentials.physics import Solid, describe_solid, fit_equation

if TYPE_CHECKING:
    from harness.plugin import Floats

Energies = Callable[[Sequence[Crystal]], "Floats"]
"""Takes crystals of one composition to the energy of an atom of each, in eV, but for a constant."""

VERSION = "1"
"""Of the settings below, and of what is done with them."""

VOLUMES = 11
HALF_WIDTH = 0.25
"""The volumes reach from 0.75 to 1.25 of the one in the middle, much as AGL's do. A universal
potential's energies are not smooth at the scale of a few per cent of volume: with ±12 %, seven of
238 crystals had a B′ outside 1 to 10, with ±25 % none."""

WINDOWS = 4
"""Most times that the volumes are laid around another one, …"""

CENTRED = 0.03
"""… until that of the lowest energy is within 3 % of the middle."""


def describe(crystal: Crystal, energies: Energies = chgnet_potential.energies) -> Solid:
    """Follows the chain of `physics` from a potential's energies.

    Raises:
        CannotEncode: an atom has no neighbour, or the curve makes no sense; says why.
        PluginError: CHGNet is not installed.
    """
    cell = crystal.primitive()
    atoms = len(cell.species)
    return describe_solid(*energy_curve(cell, energies), mean_mass(cell), atoms)


def energy_curve(cell: Crystal, energies: Energies) -> tuple[Floats, Floats]:
    """Returns volumes of an atom, in Å³, around that of the lowest energy, and energies, in eV.

    Raises:
        CannotEncode: there is no minimum near the volume that is given.
    """
    given = cell.volume / len(cell.species)
    middle = given
    for _ in range(WINDOWS):
        volumes = middle * np.linspace(1 - HALF_WIDTH, 1 + HALF_WIDTH, VOLUMES)
        values = energies([_scaled(cell, v / given) for v in volumes])
        try:
            lowest = fit_equation(volumes, values).volume
        except CannotEncode:
            lowest = float(volumes[values.argmin()])
        if abs(lowest / middle - 1) <= CENTRED:
            break
        middle = lowest
    else:
        raise CannotEncode("its energy has no minimum near its volume")
    return volumes, values


def mean_mass(crystal: Crystal) -> float:
    """Mean mass of an atom, in u."""
    from pymatgen.core.periodic_table import Element

    return float(np.mean([float(Element(symbol).atomic_mass) for symbol in crystal.species]))


def _scaled(cell: Crystal, ratio: float) -> Crystal:
    return Crystal(cell.lattice * ratio ** (1 / 3), cell.species, cell.frac_coords)
