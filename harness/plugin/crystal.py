"""A crystal in neutral form: lattice, species, fractional coordinates, and nothing else."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from hashlib import sha256
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core.structure import Structure

SYMBOLS: tuple[str, ...] = tuple(
    """H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se
    Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy
    Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf
    Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og""".split()
)

SYMPREC_ANGSTROM = 0.01
"""How far atoms may be off the places that symmetry gives them, unless told otherwise: what
coordinates that are rounded to three or four digits need."""


def reduced_formula(species: Iterable[str]) -> str:
    """Returns the reduced formula with elements in alphabetical order: the name of a group.

    Two crystals have the same reduced formula exactly when their compositions are proportional.
    """
    counts = Counter(species)
    divisor = reduce(gcd, counts.values(), 0) or 1
    return "".join(f"{el}{n // divisor if n > divisor else ''}" for el, n in sorted(counts.items()))


@dataclass(frozen=True, eq=False)
class Crystal:
    """One ordered crystal.

    Attributes:
        lattice: 3 × 3, one lattice vector per row, in Å.
        species: one element symbol per site.
        frac_coords: sites × 3, fractional.
    """

    lattice: NDArray[np.float64]
    species: tuple[str, ...]
    frac_coords: NDArray[np.float64]

    @cached_property
    def formula(self) -> str:
        """Reduced formula, elements in alphabetical order."""
        return reduced_formula(self.species)

    @cached_property
    def volume(self) -> float:
        """Of the cell, in Å³."""
        (a, b, c), (d, e, f), (g, h, i) = self.lattice.tolist()
        volume: float = abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
        return volume

    @cached_property
    def digest(self) -> str:
        """sha256 over the exact numbers: equal content, equal digest."""
        content = sha256(" ".join(self.species).encode())
        content.update(np.ascontiguousarray(self.lattice, dtype=np.float64).tobytes())
        content.update(np.ascontiguousarray(self.frac_coords, dtype=np.float64).tobytes())
        return content.hexdigest()

    def to_pymatgen(self) -> Structure:
        """Returns the same crystal as a pymatgen `Structure`."""
        from pymatgen.core.lattice import Lattice
        from pymatgen.core.structure import Structure

        return Structure(Lattice(self.lattice), list(self.species), self.frac_coords)

    def primitive(self, symprec_angstrom: float = SYMPREC_ANGSTROM) -> Crystal:
        """Returns the primitive cell in spglib's standard setting, symmetrised.

        Whichever cell, origin, orientation or order of sites a crystal is written in, this is one
        and the same, up to rounding. Where spglib finds none, the crystal is returned as it is.

        Args:
            symprec_angstrom: how far atoms may be off their places.
        """
        import spglib

        kinds = sorted(set(self.species))
        numbers = [kinds.index(symbol) + 1 for symbol in self.species]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spglib warns of its own default at every call
            try:
                cell = spglib.standardize_cell(
                    (self.lattice.tolist(), self.frac_coords.tolist(), numbers),
                    to_primitive=True,
                    no_idealize=False,
                    symprec=symprec_angstrom,
                )
            except spglib.SpglibError:
                cell = None
        if cell is None:
            return self
        lattice, coords, found = cell
        return Crystal(
            np.asarray(lattice, dtype=np.float64),
            tuple(kinds[number - 1] for number in found),
            np.asarray(coords, dtype=np.float64),
        )

    @classmethod
    def from_pymatgen(cls, structure: Structure) -> Crystal:
        """Takes over an ordered pymatgen `Structure`.

        Raises:
            ValueError: the structure is disordered (a site with partial or mixed occupancy).
        """
        if not structure.is_ordered:
            raise ValueError("disordered: a site has partial or mixed occupancy")
        return cls(
            lattice=np.array(structure.lattice.matrix, dtype=np.float64),
            species=tuple(site.specie.symbol for site in structure),
            frac_coords=np.array(structure.frac_coords, dtype=np.float64),
        )
