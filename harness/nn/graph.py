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

    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.crystal import Crystal

LENGTH_STEP = 1e-3
"""Bond lengths (Å) are rounded to multiples of this when colours are compared, and only then."""

LENGTH_NOISE = 1e-6
"""Bond lengths (Å) that follow each other this closely are one length before they are rounded."""

SELF_DISTANCE = 1e-8
"""A site is its own neighbour below this distance (Å). The tolerance of matgl 4.1.2."""

SMALLEST_VOLUME = 0.1
"""Volume per atom (Å³) below which a lattice is taken to be degenerate."""

EVERY_DIRECTION = np.ones(3, dtype=np.int64)
"""In which directions a crystal is periodic."""

EDGES_AT_ONCE = 2**14
"""Edges of the crystals that are handled together: their arrays stay in the processor's cache."""


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
    return build_graphs([crystal], cutoff_angstrom, collapse)[0]


def build_graphs(
    crystals: Sequence[Crystal], cutoff_angstrom: float, collapse: bool = True
) -> list[CrystalGraph]:
    """Builds the graphs that `build_graph` gives one by one, to the last bit, three times as fast.

    Raises:
        DataError: a crystal has no graph.
    """
    finish = _collapse if collapse else _keep_all
    graphs: list[CrystalGraph] = []
    group: list[Crystal] = []
    found: list[tuple[Indices, Indices, Floats]] = []
    size = 0
    for crystal in crystals:
        found.append(_find_neighbours(crystal, cutoff_angstrom))
        group.append(crystal)
        size += len(found[-1][0])
        if size >= EDGES_AT_ONCE:
            graphs += finish(_Union.of(group, found))
            group, found, size = [], [], 0
    return graphs + finish(_Union.of(group, found)) if group else graphs


@dataclass(frozen=True, eq=False)
class _Union:
    """Crystals side by side, as the parts of one graph that no edge joins.

    Crystals are small: one by one, most of the time would go into calling numpy.

    Attributes:
        species: crystals; the element symbols of the nodes of each.
        start: crystals; the first node of each.
        home: nodes; the crystal of each, ascending.
        owner: edges; the crystal of each, ascending.
        src: edges; the node each comes from.
        dst: edges; the node each goes into.
        distance: edges; length of each, in Å.
    """

    species: Sequence[Sequence[str]]
    start: Indices
    home: Indices
    owner: Indices
    src: Indices
    dst: Indices
    distance: Floats

    @classmethod
    def of(
        cls, crystals: Sequence[Crystal], edges: Sequence[tuple[Indices, Indices, Floats]]
    ) -> _Union:
        """Puts crystals side by side, without the pairs of a site with itself."""
        sites = np.array([len(crystal.species) for crystal in crystals])
        start = _starts(sites)
        each = np.arange(len(crystals))
        owner = np.repeat(each, [len(src) for src, _, _ in edges])
        src, dst, distance = map(np.concatenate, zip(*edges, strict=True))
        keep = (src != dst) | (distance > SELF_DISTANCE)
        owner = owner[keep]
        return cls(
            species=[crystal.species for crystal in crystals],
            start=start,
            home=np.repeat(each, sites),
            owner=owner,
            src=src[keep] + start[owner],
            dst=dst[keep] + start[owner],
            distance=distance[keep],
        )


def _keep_all(union: _Union) -> list[CrystalGraph]:
    """Makes every site a class, and every edge."""
    order = np.lexsort((union.distance, union.src, union.dst))
    shift = union.start[union.owner]
    whole = CrystalGraph(
        species=tuple(symbol for own in union.species for symbol in own),
        multiplicity=np.ones(len(union.home), dtype=np.float32),
        src=(union.src[order] - shift).astype(np.int32),
        dst=(union.dst[order] - shift).astype(np.int32),
        distance=union.distance[order].astype(np.float32),
        count=np.ones(len(order), dtype=np.float32),
    )
    return _take_apart(whole, union.home, union.owner, len(union.species))


def _collapse(union: _Union) -> list[CrystalGraph]:
    """Makes a class of nodes that cannot be told apart, and of such edges between them."""
    length, lengths = _rank_lengths(union)
    colour = _refine_colours(union, length, lengths)
    colours = np.maximum.reduceat(colour, union.start) + 1
    node_start = _starts(colours)
    node = node_start[union.home] + colour
    multiplicity = np.bincount(node)
    first = np.empty_like(multiplicity)
    first[node[::-1]] = np.arange(len(node))[::-1]  # of several, the last one written stays
    # One integer per (dst, src, length), so that sorting it sorts the edges as promised.
    most_colours, most_lengths = int(colours.max()), int(lengths.max())
    pair = node[union.dst] * most_colours + colour[union.src]
    code, member_of, total = np.unique(
        pair * most_lengths + length, return_inverse=True, return_counts=True
    )
    into, src = np.divmod(code // most_lengths, most_colours)
    owner = union.home[first[into]]
    symbols = [symbol for own in union.species for symbol in own]
    whole = CrystalGraph(
        species=tuple(symbols[site] for site in first.tolist()),
        multiplicity=multiplicity.astype(np.float32),
        src=src.astype(np.int32),
        dst=(into - node_start[owner]).astype(np.int32),
        # The mean, not the rounded length: rounding only says what belongs together.
        distance=(np.bincount(member_of, union.distance) / total).astype(np.float32),
        count=(total / multiplicity[into]).astype(np.float32),
    )
    return _take_apart(whole, union.home[first], owner, len(union.species))


def _take_apart(
    whole: CrystalGraph, home: Indices, owner: Indices, crystals: int
) -> list[CrystalGraph]:
    """Cuts graphs that lie end to end, their nodes numbered from zero each.

    Args:
        whole: all of them.
        home: nodes; the crystal of each, ascending.
        owner: edges; the crystal of each, ascending.
        crystals: how many there are.
    """
    nodes, edges = (_slices(np.bincount(whose, minlength=crystals)) for whose in (home, owner))
    return [
        CrystalGraph(
            species=whole.species[n],
            multiplicity=whole.multiplicity[n],
            src=whole.src[e],
            dst=whole.dst[e],
            distance=whole.distance[e],
            count=whole.count[e],
        )
        for n, e in zip(nodes, edges, strict=True)
    ]


def _starts(sizes: Indices) -> Indices:
    """Where each of several pieces begins that lie end to end."""
    return np.asarray(np.cumsum(sizes) - sizes)


def _slices(sizes: Indices) -> list[slice]:
    """The pieces of these sizes that lie end to end."""
    return list(map(slice, _starts(sizes).tolist(), np.cumsum(sizes).tolist()))


def _find_neighbours(crystal: Crystal, cutoff_angstrom: float) -> tuple[Indices, Indices, Floats]:
    """Finds sources, targets and lengths of all edges, the same set as matgl's Structure2Graph.

    Every site is there as its own neighbour too, with a length below `SELF_DISTANCE`.

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
        pbc=EVERY_DIRECTION,
        lattice=lattice,
        tol=SELF_DISTANCE,
    )
    return src, dst, distance


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
    if crystal.volume < SMALLEST_VOLUME * sites:
        raise DataError(
            f"Crystal {crystal.formula!r}: {crystal.volume:.3g} Å³ for {sites} atoms; expected at "
            f"least {SMALLEST_VOLUME} Å³ per atom. Check that the lattice is in Å, one vector per "
            "row."
        )


def _rank_lengths(union: _Union) -> tuple[Indices, Indices]:
    """Numbers the distinct rounded bond lengths of every crystal, shortest first.

    Lengths that differ by rounding error only are averaged before they are rounded: equivalent
    bonds of 2.0005 Å must not end up half at 2.000 and half at 2.001.

    Returns:
        Edges; the number of each one's length. Crystals; how many lengths each has, 1 for none.
    """
    order = np.lexsort((union.distance, union.owner))
    ascending = union.distance[order]
    run, whose = _count_steps(ascending, union.owner, LENGTH_NOISE)
    middle = np.bincount(run, ascending) / np.bincount(run)
    rank, whose_rank = _count_steps(np.rint(middle / LENGTH_STEP), whose, 0.0)
    lengths = np.bincount(whose_rank, minlength=len(union.species))
    length = np.empty_like(order)
    length[order] = (rank - _starts(lengths)[whose])[run]
    return length, np.maximum(lengths, 1)


def _count_steps(ascending: Floats, owner: Indices, tolerance: float) -> tuple[Indices, Indices]:
    """How many steps larger than the tolerance, or to another owner, lie before each value.

    Returns:
        That number for each value, and the owner for each number.
    """
    step = np.ones(len(ascending), dtype=bool)
    step[1:] = (ascending[1:] - ascending[:-1] > tolerance) | (owner[1:] != owner[:-1])
    return np.cumsum(step) - 1, owner[step]


def _refine_colours(union: _Union, length: Indices, lengths: Indices) -> Indices:
    """Colours nodes until no node sees what another one of its colour does not see (1-WL).

    Starts from species; a node's next colour is its colour and the multiset of (colour of the
    neighbour, length) over its incoming edges. Colours are numbered in the order of these
    signatures, which makes them independent of the order of nodes.

    Args:
        union: the crystals.
        length: edges; rank of its rounded length within its crystal.
        lengths: crystals; how many ranks there are.

    Returns:
        nodes; the colour of each within its crystal, 0, 1, …
    """
    home, owner, src, dst = union.home, union.owner, union.src, union.dst
    colour = np.concatenate([_rank_species(own) for own in union.species])
    span = int((np.bincount(home) * lengths).max())
    left = np.arange(len(home))  # nodes of the crystals whose colours may still split
    while len(left):
        sees = np.bincount(dst, minlength=len(home))[left]
        seen: Indices = np.sort(dst * span + colour[src] * lengths[owner] + length)
        seen -= np.repeat(left * span, sees)
        own, old = home[left], colour[left]
        new = _rank_signatures(own * len(home) + old, seen, sees)
        first = np.flatnonzero(np.diff(own, prepend=-1))
        new -= np.repeat(np.minimum.reduceat(new, first), np.diff(first, append=len(left)))
        colour[left] = new
        split = np.zeros(len(union.species), dtype=bool)
        split[own[first]] = np.maximum.reduceat(new, first) > np.maximum.reduceat(old, first)
        left, keep = left[split[own]], split[owner]
        owner, src, dst, length = owner[keep], src[keep], dst[keep], length[keep]
    return colour


def _rank_signatures(before: Indices, seen: Indices, sees: Indices) -> Indices:
    """Numbers what nodes are and see: first by what they are, then by the bytes of what they see.

    A slice of bytes is exact to compare, unlike a hash of the multiset.

    Args:
        before: nodes; number of what each is.
        seen: what they see, node after node, each node's in ascending order.
        sees: nodes; how many each sees.

    Returns:
        nodes; the number of each one's signature among all of them.
    """
    ends = np.cumsum(sees + 1)
    heads = ends - sees - 1
    codes = np.empty(len(seen) + len(before), dtype="<i8")
    at_head = np.zeros(len(codes), dtype=bool)
    at_head[heads] = True
    codes[at_head] = before.astype(">i8").view("<i8")  # as bytes, these sort as numbers do
    codes[~at_head] = seen
    content = codes.tobytes()
    bounds = zip((heads * 8).tolist(), (ends * 8).tolist(), strict=True)
    signatures = [content[start:end] for start, end in bounds]
    number = {signature: i for i, signature in enumerate(sorted(set(signatures)))}
    return np.array([number[signature] for signature in signatures])


def _rank_species(species: Sequence[str]) -> Indices:
    """Numbers the elements of a crystal in alphabetical order; nodes."""
    known = {symbol: number for number, symbol in enumerate(sorted(set(species)))}
    return np.array([known[symbol] for symbol in species], dtype=np.int64)
