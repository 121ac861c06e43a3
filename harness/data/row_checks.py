"""Which rows can be used: one policy for every format, for importing, training, predicting, scans.

A row that cannot be used is refused by name and reason. What parsers make of a file is not trusted:
a structure that was misread mostly has atoms on top of one another, or no density of this world.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin.crystal import SYMBOLS, Crystal
from harness.reading import parse_number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

ISOTOPES = {"D": "H", "T": "H"}
"""Deuterium and tritium are hydrogen, in every format: models know elements, not isotopes."""

CLOSEST = 0.5
"""Shortest distance between two atoms, in sums of their covalent radii. The lowest of the 3,614
structures of the four published datasets and `Experiment` is 0.72; hydrogen molecules have 1.2."""

UNKNOWN_RADIUS = 1.5
"""Covalent radius, in Å, of elements beyond curium, for which there is no value."""

DENSITIES = (0.02, 40.0)
"""What crystals weigh, in g/cm³: solid hydrogen has 0.09, osmium 22.6."""

SKEWED = 100.0
"""Product of the lengths of the lattice vectors over the volume, from which on a cell is replaced
by an equivalent one of short vectors: a search for neighbours in it would not end. The largest of
the published structures is 9.9."""

FARTHEST = 1e9
"""Largest fractional coordinate: what is farther from the origin has no digits left behind it."""

WRAPPED = 100.0
"""Fractional coordinates from here on are brought into the cell, which the others need not be."""

_KNOWN_SYMBOLS = frozenset(SYMBOLS)
_PLAIN = frozenset((float, int))
_EVERY_DIRECTION = np.array([1, 1, 1], dtype=np.int64)
_GRAMS_PER_CM3 = 1.66053907
"""One unit of mass per Å³."""


def usable_target(value: Any, key: str, spec: PropertySpec, factor: float = 1.0) -> float:
    """Makes a number of a target.

    Args:
        value: a number, or text that is one.
        key: what it is called.
        spec: what it is a value of.
        factor: of its unit, to that of the property.

    Returns:
        The number, in its own unit.

    Raises:
        ValueError, TypeError: it is none, or no value that makes sense for the property; the
            message is a reason for people.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"no {key}")
    if isinstance(value, str):
        if not value.strip():
            raise ValueError(f"no {key}")
        try:
            value = parse_number(value)
        except ValueError:
            raise ValueError(f"{key} is {value!r}, not a number") from None
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{key} is {value!r}, not a number")
    number = float(value)
    if not math.isfinite(number) or (spec.is_log and number <= 0):
        kind = "positive" if spec.is_log else "finite"
        raise ValueError(f"{key} is {number:g}, not a {kind} number")
    if problem := spec.misfit(number * factor):
        raise ValueError(f"{key} is {number * factor:.3g} {spec.unit}: {problem}")
    return number


def plain_structure(structure: Any) -> Mapping[str, Any]:
    """Reads the neutral form, or what pymatgen's `Structure.as_dict` writes.

    pymatgen itself would import whatever module such a dict names.

    Returns:
        `lattice`, `species` and `frac_coords`, unchecked.

    Raises:
        ValueError, TypeError, KeyError: it is neither, or disordered.
    """
    if not isinstance(structure, dict):
        raise ValueError(f"structure: expected an object, found {type(structure).__name__}")
    if "sites" not in structure:
        return structure
    occupants = [site["species"] for site in structure["sites"]]
    if not all(isinstance(one, dict) for found in occupants for one in found):
        raise ValueError("structure: the species of a site are no objects")
    occupancies = [found[0].get("occu", 1) for found in occupants if len(found) == 1]
    for number in occupancies:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"an occupancy is {number!r}, not a number")
    if len(occupancies) < len(occupants) or any(abs(number - 1) > 1e-8 for number in occupancies):
        raise ValueError("disordered: a site has partial or mixed occupancy")
    return {
        "lattice": structure["lattice"]["matrix"],
        "species": [found[0]["element"] for found in occupants],
        "frac_coords": [site["abc"] for site in structure["sites"]],
    }


def usable_crystal(raw: Mapping[str, Any]) -> Crystal:
    """Makes a crystal of `lattice` (3 × 3, Å), `species` and `frac_coords`.

    Raises:
        ValueError, TypeError, KeyError: they make none; the message is a reason for people.
    """
    species = _elements(raw["species"])
    if not species:
        raise ValueError("no sites")
    lattice, coords = (
        np.asarray(_numbers(raw[key]), dtype=np.float64) for key in ("lattice", "frac_coords")
    )
    if lattice.shape != (3, 3) or coords.shape != (len(species), 3):
        raise ValueError(
            f"shapes: lattice {lattice.shape}, frac_coords {coords.shape}, {len(species)} species"
        )
    if not (np.isfinite(lattice).all() and np.isfinite(coords).all()):
        raise ValueError("a coordinate is not a finite number")
    crystal = _settle(Crystal(lattice, species, coords))
    check_geometry(crystal)
    return crystal


def _numbers(values: Any) -> Any:
    """Sees that what stands for numbers are some: numpy takes `true` for 1, and `1_0` for 10."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        return values
    if isinstance(values, list | tuple | np.ndarray):
        if _PLAIN.issuperset(map(type, values)) or _are_rows(values):
            return values
        return [_numbers(value) for value in values]
    if isinstance(values, bool | np.bool_):
        raise ValueError(f"a coordinate is {bool(values)}, not a number")
    return parse_number(values) if isinstance(values, str) else values


def _are_rows(values: list[Any] | tuple[Any, ...] | NDArray[Any]) -> bool:
    """Whether they are lists of plain numbers: as JSON has them, and quick to tell."""
    return {list}.issuperset(map(type, values)) and _PLAIN.issuperset(
        map(type, chain.from_iterable(values))
    )


def _elements(symbols: Any) -> tuple[str, ...]:
    """Returns the symbols of elements, one per site."""
    species = tuple(symbols)
    try:
        if _KNOWN_SYMBOLS.issuperset(species):
            return species
    except TypeError:  # dicts of partial occupancies, say
        pass
    return tuple(map(_element, species))


def _element(symbol: Any) -> str:
    if isinstance(symbol, int | float):
        raise ValueError(f"unknown element {symbol!r}: write its symbol")
    if not isinstance(symbol, str):
        raise ValueError("disordered: a site has partial or mixed occupancy")
    known = ISOTOPES.get(symbol, symbol)
    if known not in _KNOWN_SYMBOLS:
        raise ValueError(f"unknown element {symbol!r}")
    return known


def _settle(crystal: Crystal) -> Crystal:
    """Writes the same crystal so that a search for neighbours comes to an end.

    Raises:
        ValueError: there is no volume, or a coordinate that has lost its digits.
    """
    lattice, coords = crystal.lattice, crystal.frac_coords
    box = math.prod(math.hypot(*vector) for vector in lattice.tolist())
    if crystal.volume < 1e-6 or crystal.volume < 1e-9 * box:
        raise ValueError("the lattice vectors span no volume")
    largest = np.abs(coords).max()
    if largest > FARTHEST:
        raise ValueError(f"a fractional coordinate is {largest:.3g}: has it lost its point?")
    if box > SKEWED * crystal.volume:
        return _with_short_vectors(crystal)
    if largest > WRAPPED:
        return Crystal(lattice, crystal.species, coords - np.floor(coords))
    return crystal


def _with_short_vectors(crystal: Crystal) -> Crystal:
    """The same crystal in a cell whose vectors are short (Lenstra, Lenstra, Lovász, 1982)."""
    from pymatgen.core.lattice import Lattice

    reduced = Lattice(crystal.lattice).get_lll_reduced_lattice().matrix
    coords = crystal.frac_coords @ crystal.lattice @ np.linalg.inv(reduced)
    return Crystal(np.asarray(reduced), crystal.species, coords - np.floor(coords))


def check_geometry(crystal: Crystal) -> None:
    """Refuses a crystal with two atoms on one spot, or of a density that no crystal has.

    Raises:
        ValueError: says what is wrong, with the distance or the density.
    """
    low, high = DENSITIES
    density = sum(map(_masses().__getitem__, crystal.species)) / crystal.volume * _GRAMS_PER_CM3
    if not low <= density <= high:
        raise ValueError(
            f"its density is {density:.3g} g/cm³, where crystals have {low:g} to {high:g}: is the "
            "lattice in Å?"
        )
    pair = closest_pair(crystal)
    if pair is not None:
        one, other, distance = pair
        raise ValueError(
            f"{crystal.species[one]} and {crystal.species[other]} (sites {one + 1} and "
            f"{other + 1}) are {distance:.3g} Å apart: two atoms cannot be on one spot"
        )


def closest_pair(crystal: Crystal) -> tuple[int, int, float] | None:
    """Returns the two sites that are closest to one another for their radii, if they are too close.

    Returns:
        Two positions, which are one where an atom meets its own image, and their distance in Å.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    known = _radii()
    radii: Floats = np.array([known.get(symbol, UNKNOWN_RADIUS) for symbol in crystal.species])
    reach = 2.0 * CLOSEST * float(radii.max())
    lattice = np.ascontiguousarray(crystal.lattice, dtype=np.float64)
    positions = (crystal.frac_coords - np.floor(crystal.frac_coords)) @ lattice
    one, other, image, distance = find_points_in_spheres(
        positions, positions, r=reach, pbc=_EVERY_DIRECTION, lattice=lattice, tol=1e-8
    )
    if len(one) == len(radii):  # each site meets itself, and nothing else
        return None
    itself = (one == other) & ~image.any(axis=1)
    share = np.where(itself, np.inf, distance / (radii[one] + radii[other]))
    nearest = int(share.argmin())
    if share[nearest] >= CLOSEST:
        return None
    first, second = sorted((int(one[nearest]), int(other[nearest])))
    return first, second, float(distance[nearest])


@cache
def _radii() -> Mapping[str, float]:
    """Covalent radii in Å (Cordero et al., Dalton Trans. 2832, 2008), as pymatgen has them."""
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    return dict(CovalentRadius.radius)


@cache
def _masses() -> Mapping[str, float]:
    """Atomic masses in u, as pymatgen has them."""
    from pymatgen.core.periodic_table import Element

    return {element.symbol: float(element.atomic_mass) for element in Element}
