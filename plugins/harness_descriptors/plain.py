"""Eighteen plain descriptors of a crystal, from its primitive cell and tables of the elements.

They are taken from the symmetrised primitive cell (atoms may be 0.01 Å off their places), so that
they do not depend on how the crystal is written. Logarithms are to base 10.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import SYMBOLS, SYMPREC_ANGSTROM, Crystal

if TYPE_CHECKING:
    from harness.plugin import Floats

PLAIN = (
    "log mean mass",
    "spread of log mass",
    "lowest log mass",
    "highest log mass",
    "log volume per atom",
    "log atoms per primitive cell",
    "range of electronegativity",
    "mean electronegativity",
    "log nearest-neighbour distance",
    "mean coordination number",
    "spread of coordination number",
    "mean period",
    "lowest group",
    "highest group",
    "log ratio of atomic radii",
    "log density",
    "space-group number",
    "mean log bulk modulus of the elements",
)
"""Masses in u, volumes in Å³, distances in Å, densities in g/cm³, moduli in GPa. Means and spreads
(standard deviations) are over the atoms."""

PROPERTIES = ("atomic_mass", "X", "row", "group", "atomic_radius", "bulk_modulus")
"""Attributes of pymatgen's `Element`. A gap (X of He, Ne and Ar, radii of noble gases, bulk moduli
of gases and of some rare elements) takes the median of the others from H to Pu."""

NEIGHBOUR_SHELL = 1.15
"""Neighbours of an atom are those within so many times its nearest distance. In body-centred cubic
crystals the second shell is at 1.155 times the first."""

FIRST_RADIUS_ANGSTROM = 4.0
"""In which neighbours are looked for first; twice as far where there are none, and so on."""

U_PER_CUBIC_ANGSTROM = 1.66053906660
"""Density of one u per Å³, in g/cm³ (CODATA 2018)."""


@cache
def property_table() -> Floats:
    """Returns elements × `PROPERTIES`, H to Pu, without gaps."""
    from pymatgen.core.periodic_table import Element

    elements = [Element(symbol) for symbol in SYMBOLS[:94]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen tells of every gap
        rows = [[_number(getattr(element, name)) for name in PROPERTIES] for element in elements]
    tabulated = np.array(rows, dtype=np.float64)
    return np.where(np.isnan(tabulated), np.nanmedian(tabulated, axis=0), tabulated)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # None, or a text such as `no data`
        return np.nan


def describe_plainly(crystal: Crystal) -> Floats:
    """Returns the descriptors, in the order of `PLAIN`."""
    cell = crystal.primitive()
    atoms = len(cell.species)
    rows = property_table()[[SYMBOLS.index(symbol) for symbol in cell.species]]
    mass, negativity, period, group, radius, modulus = rows.T
    nearest, coordination = neighbours(cell)
    log_mass = np.log10(mass)
    return np.array(
        [
            np.log10(mass.mean()),
            log_mass.std(),
            log_mass.min(),
            log_mass.max(),
            np.log10(cell.volume / atoms),
            np.log10(atoms),
            np.ptp(negativity),
            negativity.mean(),
            np.log10(nearest.min()),
            coordination.mean(),
            coordination.std(),
            period.mean(),
            group.min(),
            group.max(),
            np.log10(radius.max() / radius.min()),
            np.log10(mass.sum() / cell.volume * U_PER_CUBIC_ANGSTROM),
            space_group(cell),
            np.log10(modulus).mean(),
        ]
    )


def neighbours(cell: Crystal) -> tuple[Floats, Floats]:
    """Returns of every atom the distance of its nearest neighbour, in Å, and how many it has."""
    structure = cell.to_pymatgen()
    radius = FIRST_RADIUS_ANGSTROM
    while True:
        centres, _, _, distances = structure.get_neighbor_list(radius)
        nearest = np.full(len(cell.species), np.inf)
        np.minimum.at(nearest, centres, distances)
        if NEIGHBOUR_SHELL * nearest.max() <= radius:
            break
        radius *= 2
    close = distances <= NEIGHBOUR_SHELL * nearest[centres]
    return nearest, np.bincount(centres[close], minlength=len(nearest)).astype(np.float64)


def space_group(cell: Crystal) -> int:
    """Number of the space group; 1 where spglib finds none."""
    import spglib

    numbers = [SYMBOLS.index(symbol) for symbol in cell.species]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib warns of its own default at every call
        try:
            found = spglib.get_symmetry_dataset(
                (cell.lattice.tolist(), cell.frac_coords.tolist(), numbers),
                symprec=SYMPREC_ANGSTROM,
            )
        except spglib.SpglibError:
            return 1
    return int(found.number) if found is not None else 1
