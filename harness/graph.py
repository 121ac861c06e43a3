"""Crystal graphs, collapsed so that atoms and bonds a network cannot tell apart are kept once.

Law. A message-passing network that sees species and bond lengths only, and averages over incoming
edges, gives equal features to nodes that colour refinement cannot tell apart, and to edges with
equal (source colour, target colour, length). One node per colour with its multiplicity and one edge
per such triple with its count therefore carry the same information, once means over nodes, edges
and neighbours are weighted by them.

Source: colour refinement is the one-dimensional Weisfeiler-Leman algorithm (1-WL; Weisfeiler and
Leman, Nauchno-Technicheskaya Informatsia 2(9), 1968); that it bounds what message passing can tell
apart: Xu et al., arXiv 1810.00826, and Morris et al., arXiv 1810.02244.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.crystal import Crystal

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

LENGTH_STEP = 1e-3
"""Bond lengths (Å) are rounded to multiples of this when colours are compared, and only then."""

LENGTH_NOISE = 1e-6
"""Bond lengths (Å) that follow each other this closely are one length before they are rounded."""

SELF_DISTANCE = 1e-8
"""A site is its own neighbour below this distance (Å). The tolerance of matgl 4.1.2."""

SMALLEST_VOLUME = 0.1
"""Volume per atom (Å³) below which a lattice is taken to be degenerate."""


@dataclass(frozen=True, eq=False)
class CrystalGraph:
    """A crystal as node classes and edge classes; every class stands for one or more members.

    Edges are sorted by (dst, src, distance). The whole crystal has `multiplicity.sum()` atoms and
    `(count * multiplicity[dst]).sum()` edges.

    Attributes:
        species: element symbol of each node class.
        multiplicity: float32, nodes; the number of atoms of each node class.
        src: int32, edges; the node class an edge comes from.
        dst: int32, edges; the node class it goes into.
        distance: float32, edges; mean bond length of the edge class, in Å.
        count: float32, edges; incoming edges of this class at one node of class `dst`.
    """

    law: ClassVar[str] = "collapsed-1"
    """Changes whenever `build_graph` gives another outcome: belongs in `Backbone.encoding`."""

    species: tuple[str, ...]
    multiplicity: NDArray[np.float32]
    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    distance: NDArray[np.float32]
    count: NDArray[np.float32]

    @property
    def isolated(self) -> int:
        """Number of atoms with no neighbour within the cutoff."""
        lonely = np.bincount(self.dst, minlength=len(self.species)) == 0
        return int(self.multiplicity[lonely].sum())


def build_graph(crystal: Crystal, cutoff_angstrom: float, collapse: bool = True) -> CrystalGraph:
    """Builds the graph of all bonds up to the cutoff, periodic images included.

    Classes are numbered by what they are, not by the order of sites: permuted sites, a supercell
    or a shifted origin give the same graph, apart from lengths within rounding error of the cutoff.

    Args:
        crystal: the crystal; coordinates outside the cell are wrapped into it.
        cutoff_angstrom: longest bond, in Å; a bond of exactly this length counts.
        collapse: keep one node per class; otherwise one node per site, in their order, and every
            edge on its own.

    Raises:
        DataError: no sites, numbers that are not finite, or a lattice without volume.
    """
    src, dst, distance = _find_neighbours(crystal, cutoff_angstrom)
    if not collapse:
        order = np.lexsort((distance, src, dst))
        return CrystalGraph(
            species=crystal.species,
            multiplicity=np.ones(len(crystal.species), dtype=np.float32),
            src=src[order].astype(np.int32),
            dst=dst[order].astype(np.int32),
            distance=distance[order].astype(np.float32),
            count=np.ones(len(order), dtype=np.float32),
        )
    length = _rank_lengths(distance)
    colour = _refine_colours(crystal.species, src, dst, length)
    multiplicity = np.bincount(colour)
    first = np.empty_like(multiplicity)
    first[colour[::-1]] = np.arange(len(colour))[::-1]  # of several, the last one written stays
    # One integer per (dst, src, length), so that sorting it sorts the edges as promised.
    pair = colour[dst] * len(first) + colour[src]
    lengths = int(length.max(initial=0)) + 1
    code, member_of, total = np.unique(
        pair * lengths + length, return_inverse=True, return_counts=True
    )
    edge_dst, edge_src = np.divmod(code // lengths, len(first))
    return CrystalGraph(
        species=tuple(crystal.species[site] for site in first),
        multiplicity=multiplicity.astype(np.float32),
        src=edge_src.astype(np.int32),
        dst=edge_dst.astype(np.int32),
        # The mean, not the rounded length: rounding only says what belongs together.
        distance=(np.bincount(member_of, distance) / total).astype(np.float32),
        count=(total / multiplicity[edge_dst]).astype(np.float32),
    )


def _find_neighbours(crystal: Crystal, cutoff_angstrom: float) -> tuple[Indices, Indices, Floats]:
    """Finds sources, targets and lengths of all edges, the same set as matgl's Structure2Graph.

    Source: matgl 4.1.2, `matgl/ext/pymatgen.py`, which does not wrap coordinates. They are wrapped
    here because the search takes time in proportion to how far apart sites are written down.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    _check(crystal, cutoff_angstrom)
    lattice = np.ascontiguousarray(crystal.lattice, dtype=np.float64)
    positions = (crystal.frac_coords - np.floor(crystal.frac_coords)) @ lattice
    src, dst, _, distance = find_points_in_spheres(
        positions,
        positions,
        r=float(cutoff_angstrom),
        pbc=np.ones(3, dtype=np.int64),
        lattice=lattice,
        tol=SELF_DISTANCE,
    )
    keep = (src != dst) | (distance > SELF_DISTANCE)
    return src[keep], dst[keep], distance[keep]


def _check(crystal: Crystal, cutoff_angstrom: float) -> None:
    """Refuses what the compiled neighbour search would crash on or never finish."""
    sites = len(crystal.species)
    shapes = np.shape(crystal.lattice), np.shape(crystal.frac_coords)
    if not cutoff_angstrom > 0:
        raise DataError(f"cutoff_angstrom is {cutoff_angstrom}: expected a length above 0 Å.")
    if sites == 0 or shapes != ((3, 3), (sites, 3)):
        raise DataError(
            f"Crystal {crystal.formula!r} has {sites} species, a lattice of shape {shapes[0]} and "
            f"coordinates of shape {shapes[1]}: expected n ≥ 1, (3, 3) and (n, 3)."
        )
    if not (np.isfinite(crystal.lattice).all() and np.isfinite(crystal.frac_coords).all()):
        raise DataError(
            f"Crystal {crystal.formula!r}: lattice and coordinates must be finite numbers."
        )
    volume = abs(float(np.linalg.det(crystal.lattice)))
    if volume < SMALLEST_VOLUME * sites:
        raise DataError(
            f"Crystal {crystal.formula!r}: {volume:.3g} Å³ for {sites} atoms; expected at least "
            f"{SMALLEST_VOLUME} Å³ per atom. Check that the lattice is in Å, one vector per row."
        )


def _rank_lengths(distance: Floats) -> Indices:
    """Numbers the distinct rounded bond lengths, shortest first.

    Lengths that differ by rounding error only are averaged before they are rounded: equivalent
    bonds of 2.0005 Å must not end up half at 2.000 and half at 2.001.
    """
    order = np.argsort(distance)
    ascending = distance[order]
    run = _count_steps(ascending, LENGTH_NOISE)
    middle = np.bincount(run, ascending) / np.bincount(run)
    rank = _count_steps(np.rint(middle / LENGTH_STEP), 0.0)
    length = np.empty_like(order)
    length[order] = rank[run]
    return length


def _count_steps(ascending: Floats, tolerance: float) -> Indices:
    """How many steps larger than the tolerance lie before each of these values."""
    steps = np.zeros(len(ascending), dtype=np.int64)
    np.cumsum(ascending[1:] - ascending[:-1] > tolerance, out=steps[1:])
    return steps


def _refine_colours(species: Sequence[str], src: Indices, dst: Indices, length: Indices) -> Indices:
    """Colours nodes until no node sees what another one of its colour does not see (1-WL).

    Starts from species; a node's next colour is its colour and the multiset of (colour of the
    neighbour, length) over its incoming edges. Colours are numbered in the order of these
    signatures, which makes them independent of the order of nodes.

    Args:
        species: nodes; element symbols.
        src: edges; the node each comes from.
        dst: edges; the node each goes into.
        length: edges; rank of its rounded length.

    Returns:
        nodes; the colour of each, 0, 1, …
    """
    known = {symbol: number for number, symbol in enumerate(sorted(set(species)))}
    colour = np.array([known[symbol] for symbol in species], dtype=np.int64)
    nodes, lengths = len(species), int(length.max(initial=0)) + 1
    ends = np.cumsum(np.bincount(dst, minlength=nodes)) * dst.itemsize
    spans = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    while True:
        colours = int(colour.max()) + 1
        seen = np.sort(dst * (nodes * lengths) + colour[src] * lengths + length)
        # What a node sees is a slice of bytes: exact to compare, unlike a hash of the multiset.
        sights = (seen % (nodes * lengths)).tobytes()
        signatures = [
            (old, sights[start:end])
            for old, (start, end) in zip(colour.tolist(), spans, strict=True)
        ]
        number = {signature: i for i, signature in enumerate(sorted(set(signatures)))}
        colour = np.array([number[signature] for signature in signatures], dtype=np.int64)
        if len(number) == colours:
            return colour
