"""Sample crystals, and the same crystals written in other ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin.crystal import Crystal

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
_HALF, _QUARTER = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_ORIGIN = (0.0, 0.0, 0.0)

_SHIFT = np.array([0.37, 0.81, 0.23])
"""A shift of the origin in fractions of the cell, like no symmetry of any sample."""


def sample_crystals() -> tuple[Crystal, ...]:
    """Returns small crystals of different formulas and prototypes, at their lattice constants.

    The last one is no material: five atoms without any symmetry.
    """
    return (
        _cubic(_FCC, 5.640, ("Na", "Cl"), [_ORIGIN, _HALF]),
        _cubic(_FCC, 5.653, ("Ga", "As"), [_ORIGIN, _QUARTER]),
        _cubic(_FCC, 5.431, ("Si", "Si"), [_ORIGIN, _QUARTER]),
        _cubic(_FCC, 5.463, ("Ca", "F", "F"), [_ORIGIN, _QUARTER, (0.75, 0.75, 0.75)]),
        _cubic(
            np.eye(3),
            3.905,
            ("Sr", "Ti", "O", "O", "O"),
            [_ORIGIN, _HALF, (0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5)],
        ),
        _wurtzite(3.250, 5.207, ("Zn", "O")),
        _cubic(_FCC, 4.212, ("Mg", "O"), [_ORIGIN, _HALF]),
        _cubic(np.eye(3), 4.123, ("Cs", "Cl"), [_ORIGIN, _HALF]),
        _cubic(_FCC, 6.600, ("K", "Br"), [_ORIGIN, _HALF]),
        _cubic(_FCC, 5.869, ("In", "P"), [_ORIGIN, _QUARTER]),
        Crystal(
            np.array([[4.3, 0.2, -0.1], [0.7, 4.9, 0.3], [-0.4, 0.9, 5.2]]),
            ("Mg", "Si", "O", "O", "O"),
            np.array(
                [
                    [0.02, 0.05, 0.01],
                    [0.47, 0.52, 0.44],
                    [0.11, 0.48, 0.27],
                    [0.55, 0.13, 0.61],
                    [0.79, 0.71, 0.18],
                ]
            ),
        ),
    )


def binary_crystal(species: tuple[str, str], number: int) -> Crystal:
    """Returns two elements as rock salt, zinc blende or caesium chloride, in turn by number."""
    lattice, place = ((_FCC, _HALF), (_FCC, _QUARTER), (np.eye(3), _HALF))[number % 3]
    return _cubic(lattice, 5.5, species, [_ORIGIN, place])


def element_crystal(symbol: str) -> Crystal:
    """Returns an element as face-centred cubic, 4.2 Å: near enough for every backbone."""
    return _cubic(_FCC, 4.2, (symbol,), [_ORIGIN])


def reordered(crystal: Crystal) -> Crystal:
    """Returns the same crystal with its sites in another order."""
    order = np.random.default_rng(len(crystal.species)).permutation(len(crystal.species))
    if (order == np.arange(len(order))).all():
        order = order[::-1]
    species = tuple(crystal.species[site] for site in order)
    return Crystal(crystal.lattice, species, crystal.frac_coords[order])


def supercell(crystal: Crystal, repeats: Sequence[int]) -> Crystal:
    """Returns the same crystal with so many cells, along each lattice vector, written as one."""
    cells = np.array(list(np.ndindex(*repeats)), dtype=np.float64)
    coords = (crystal.frac_coords[:, None] + cells).reshape(-1, 3) / np.asarray(repeats)
    species = tuple(symbol for symbol in crystal.species for _ in cells)
    return Crystal(crystal.lattice * np.asarray(repeats)[:, None], species, coords)


def moved(crystal: Crystal) -> Crystal:
    """Returns the same crystal rotated about no special axis, with another origin."""
    from scipy.spatial.transform import Rotation

    turn: NDArray[np.float64] = Rotation.from_rotvec([0.6, -1.1, 0.4]).as_matrix()
    return Crystal(crystal.lattice @ turn.T, crystal.species, crystal.frac_coords + _SHIFT)


def _cubic(
    cell: NDArray[np.float64], a: float, species: tuple[str, ...], coords: Sequence[object]
) -> Crystal:
    return Crystal(a * cell, species, np.array(coords, dtype=np.float64))


def _wurtzite(a: float, c: float, pair: tuple[str, str]) -> Crystal:
    lattice = np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])
    low, high = (1 / 3, 2 / 3), (2 / 3, 1 / 3)
    coords = np.array([(*low, 0.0), (*high, 0.5), (*low, 0.382), (*high, 0.882)])
    return Crystal(lattice, (pair[0], pair[0], pair[1], pair[1]), coords)
