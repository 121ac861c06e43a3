"""Crystal prototypes: from elements and lattice parameters to a primitive cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.plugin import Crystal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Coordinate = float | str
"""A fractional coordinate: a number, or the name of the parameter that gives it."""

Site = tuple[Coordinate, Coordinate, Coordinate]

_DECIMALS = 8
"""Lattices (Å) and fractional coordinates are rounded here, far below any effect on a bond length:
equal sites become equal numbers, and the digest of the dataset the same on every machine."""


@dataclass(frozen=True)
class Prototype:
    """A structure type.

    Attributes:
        hall_number: the space group in one of its settings, in the numbering of Hall (1 … 530) that
            spglib uses.
        counts: atoms of each element in the formula, in the order of the formula.
        sites: one representative site per element, in the same order.
        hexagonal: needs `a` and `c`; the others are cubic and need `a` only.
    """

    hall_number: int
    counts: tuple[int, ...]
    sites: tuple[Site, ...]
    hexagonal: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of what must be known besides the elements: lattice parameters and coordinates."""
        free = {c for site in self.sites for c in site if isinstance(c, str)}
        return ("a", *("c" * self.hexagonal), *sorted(free))

    def build(self, elements: Sequence[str], parameters: Mapping[str, float]) -> Crystal:
        """Builds the primitive cell.

        Args:
            elements: in the order of the formula, as many as `counts`.
            parameters: a value for each of `self.parameters`; a and c in Å, coordinates fractional.

        Raises:
            ValueError: the parameters make sites coincide.
        """
        import numpy as np
        import spglib

        orbits = [
            self._orbit([parameters[c] if isinstance(c, str) else c for c in site])
            for site in self.sites
        ]
        images = [len(orbit) for orbit in orbits]
        sites = np.concatenate(orbits)
        owners = np.repeat(np.arange(len(elements)), images)
        # on a special position a site has too few images, and two elements may meet on one place
        fits = all(
            n * self.counts[0] == m * images[0] for n, m in zip(images, self.counts, strict=True)
        )
        distinct = len(np.unique(sites, axis=0)) == len(sites)
        cell = (self._conventional_lattice(parameters), sites.tolist(), owners.tolist())
        primitive = spglib.find_primitive(cell) if fits and distinct else None
        if primitive is None:
            raise ValueError(f"with {dict(parameters)} sites coincide: check the coordinates")
        lattice, coords, owners_left = primitive
        return Crystal(
            # adding zero turns −0.0, which has other bytes, into 0.0
            lattice=np.round(lattice, _DECIMALS) + 0.0,
            species=tuple(elements[owner] for owner in owners_left),
            frac_coords=np.round(coords, _DECIMALS) % 1.0 + 0.0,
        )

    def _conventional_lattice(self, parameters: Mapping[str, float]) -> list[list[float]]:
        a = parameters["a"]
        if self.hexagonal:
            return [[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, parameters["c"]]]
        return [[a, 0, 0], [0, a, 0], [0, 0, a]]

    def _orbit(self, site: Sequence[float]) -> NDArray[np.float64]:
        """All images of a site in the conventional cell, images × 3."""
        import numpy as np
        import spglib

        group = spglib.get_symmetry_from_database(self.hall_number)
        assert group is not None, "spglib knows every number from 1 to 530"
        images = group["rotations"] @ np.array(site) + group["translations"]
        return np.unique(np.round(images % 1.0, _DECIMALS) % 1.0, axis=0)


_ORIGIN: Site = (0, 0, 0)
_EIGHTH: Site = (1 / 8, 1 / 8, 1 / 8)
_QUARTER: Site = (1 / 4, 1 / 4, 1 / 4)
_CENTRE: Site = (1 / 2, 1 / 2, 1 / 2)

_R3C = 460  # R -3 c, hexagonal axes
_P63MC = 480  # P 6_3 m c
_IM3 = 500  # I m -3
_F43M = 512  # F -4 3 m
_PM3M = 517  # P m -3 m
_FM3M = 523  # F m -3 m
_FD3M = 526  # F d -3 m, origin choice 2: the inversion centre is the origin

PROTOTYPES: Mapping[str, Prototype] = {
    "diamond": Prototype(_FD3M, (1,), (_EIGHTH,)),
    "zincblende": Prototype(_F43M, (1, 1), (_ORIGIN, _QUARTER)),
    "wurtzite": Prototype(_P63MC, (1, 1), ((1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, "u")), hexagonal=True),
    "rocksalt": Prototype(_FM3M, (1, 1), (_ORIGIN, _CENTRE)),
    "CsCl-type": Prototype(_PM3M, (1, 1), (_ORIGIN, _CENTRE)),
    "fluorite": Prototype(_FM3M, (1, 2), (_ORIGIN, _QUARTER)),
    # ABX3 with the smaller cation B at the origin
    "cubic perovskite": Prototype(_PM3M, (1, 1, 3), (_CENTRE, _ORIGIN, (1 / 2, 0, 0))),
    # AB2X4: A at 8a, B at 16d, X at 32e; under origin choice 1 these sites are another crystal
    "spinel": Prototype(_FD3M, (1, 2, 4), (_EIGHTH, _CENTRE, ("u", "u", "u"))),
    # coordinates of Al2O3: Lutterotti & Scardi, J. Appl. Cryst. 23 (1990) 246 (COD entry 1000032)
    "corundum": Prototype(_R3C, (2, 3), ((0, 0, 0.35216), (0.30668, 0, 1 / 4)), hexagonal=True),
    "skutterudite": Prototype(_IM3, (1, 3), (_QUARTER, (0, "y", "z"))),
}
