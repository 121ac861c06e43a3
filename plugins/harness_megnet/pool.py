"""The encodings of many crystals, packed, and the stacked batches made of them.

All index arithmetic is numpy on the host: a batch is a few thousand integers, and the sizes that
steer the work are needed there. What comes out is moved to the device as two flat arrays.

In a batch, edges and bond lengths are ragged: they are most of the work, and padding would double
it. Nodes are dense, padded at each member's end: they are few, and for few rows one batched product
is faster than one product per member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.plugin import Pool
from harness_megnet.sparse import Bags, Matrix, Sets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float32]
    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Batch:
    """A stacked batch; see `Matrix` and `Sets` for what ties its parts together.

    "Nodes" are the flattened `members × places`, "crystals" the flattened `members × batch`;
    "atoms" are the nodes without the empty places.

    Attributes:
        shape: members and batch size.
        species: `members × places`; number of the element; 0 in empty places.
        lengths: ragged; the distinct bond lengths of every crystal, in Å.
        length_sizes: number of lengths of each member.
        edge_sizes: number of edges of each member.
        edges_from_ends: every edge sums its rows in a table of (source nodes, destination nodes,
            crystals).
        edges_from_ends_and_lengths: the same, with (…, lengths).
        edges_from_lengths: the length of every edge.
        means_from_edges: for (nodes, crystals): means over incoming edges, and over all edges.
        nodes_from_crystals: the crystal of every node; zero in empty places.
        atoms_from_nodes: drops the empty places.
        crystals_from_nodes: means over nodes.
        sets: the edges of every crystal, then the atoms of every crystal.
    """

    shape: tuple[int, int]
    species: Tensor
    lengths: Tensor
    length_sizes: list[int]
    edge_sizes: list[int]
    edges_from_ends: Matrix
    edges_from_ends_and_lengths: Matrix
    edges_from_lengths: Matrix
    means_from_edges: Matrix
    nodes_from_crystals: Matrix
    atoms_from_nodes: Matrix
    crystals_from_nodes: Matrix
    sets: Sets


class GraphPool(Pool):
    """Packed graphs; every per-crystal array is one after another, with an empty crystal last.

    The empty crystal stands for empty places: row −1 is the last one.
    """

    def __init__(self, encodings: Sequence[Arrays], device: torch.device) -> None:
        """Packs encodings (see `Megnet.encode`) and sorts their edges by source and by length."""
        self.device = device
        self._crystals = len(encodings)

        def pack(name: str, dtype: type) -> NDArray[Any]:
            parts: list[NDArray[Any]] = [
                np.asarray(encoding[name], dtype) for encoding in encodings
            ]
            return np.concatenate([*parts, np.empty(0, dtype)])

        def count(name: str) -> Ints:
            return np.array([*(len(encoding[name]) for encoding in encodings), 0], np.int64)

        self.nodes, self.edges, self.lengths = count("species"), count("src"), count("length")
        self.species = pack("species", np.int64)
        self.length = pack("length", np.float32)
        self.src, self.dst = pack("src", np.int64), pack("dst", np.int64)
        self.edge_length = pack("edge_length", np.int64)
        self.node_start = _offsets(self.nodes)[:-1]
        self.edge_start = _offsets(self.edges)[:-1]
        self.length_start = _offsets(self.lengths)[:-1]

        owner = np.repeat(np.arange(len(self.edges)), self.edges)
        src = self.src + self.node_start[owner]
        dst = self.dst + self.node_start[owner]
        length = self.edge_length + self.length_start[owner]
        here = self.edge_start[owner]
        self.by_src = np.argsort(src, kind="stable") - here
        self.by_length = np.argsort(length, kind="stable") - here
        self.out_degree = np.bincount(src, minlength=len(self.species))
        self.in_degree = np.bincount(dst, minlength=len(self.species))
        self.length_degree = np.bincount(length, minlength=len(self.length))
        self.present = np.ones(len(self.species), np.int64)
        self._weigh(pack("multiplicity", np.float64), pack("count", np.float64), owner, dst)

    def _weigh(
        self,
        multiplicity: NDArray[np.float64],
        count: NDArray[np.float64],
        owner: Ints,
        dst: Ints,
    ) -> None:
        """Turns multiplicities and counts into weights of means, in double precision."""
        node_owner = np.repeat(np.arange(len(self.nodes)), self.nodes)
        atoms = np.bincount(node_owner, multiplicity, len(self.nodes))
        self.node_weight = (multiplicity / atoms[node_owner]).astype(np.float32)
        incoming = np.bincount(dst, count, len(self.species))
        self.message_weight = (count / incoming[dst]).astype(np.float32)
        bonds = count * multiplicity[dst]
        total = np.bincount(owner, bonds, len(self.edges))
        self.edge_weight = (bonds / total[owner]).astype(np.float32)

    def __len__(self) -> int:
        """Number of crystals."""
        return self._crystals

    def batch(self, rows: Ints) -> Batch:
        """Assembles one stacked batch.

        Args:
            rows: `members × batch` positions; −1 marks an empty place, a crystal without nodes.
        """
        node = _Level(self.nodes, self.node_start, rows, padded=True)
        length = _Level(self.lengths, self.length_start, rows, padded=False)
        edge = _Level(self.edges, self.edge_start, rows, padded=False)
        t = _move(self._arrays(node, length, edge), self.device)
        count, table = edge.total, 2 * node.places + rows.size
        every_edge, every_atom = t["edges_counted"], t["atoms_counted"]
        ends, uses, use_offsets = t["ends"].view(4, count), t["uses"], t["use_offsets"]
        atoms = Bags(t["place_of_atom"], t["atom_offsets"])
        crystal = Bags(t["set_of_row"][count:] - rows.size, t["occupied"])
        weight = t["weight_of_row"]
        return Batch(
            shape=(rows.shape[0], rows.shape[1]),
            species=t["species"].view(len(rows), -1),
            lengths=t["lengths"],
            length_sizes=length.sizes.tolist(),
            edge_sizes=edge.sizes.tolist(),
            edges_from_ends=Matrix(
                Bags(ends[:3].t().flatten(), 3 * every_edge),
                Bags(uses[: 3 * count], use_offsets[: table + 1]),
            ),
            edges_from_ends_and_lengths=Matrix(
                Bags(ends.t().flatten(), 4 * every_edge), Bags(uses, use_offsets)
            ),
            edges_from_lengths=Matrix(
                Bags(ends[3] - table, every_edge),
                Bags(uses[3 * count :], use_offsets[table:] - 3 * count),
            ),
            # Nodes and crystals as destinations: the second and third part of the table.
            means_from_edges=Matrix(
                Bags(
                    uses[count : 3 * count],
                    use_offsets[node.places : table + 1] - count,
                    torch.cat([t["message_weight"], weight[:count]]),
                ),
                Bags(
                    (ends[1:3] - node.places).t().flatten(),
                    2 * every_edge,
                    torch.stack([t["message_weight"], weight[:count]], 1).flatten(),
                ),
            ),
            nodes_from_crystals=Matrix(crystal, atoms),
            atoms_from_nodes=Matrix(
                Bags(t["place_of_atom"], every_atom), Bags(every_atom[:-1], t["occupied"])
            ),
            crystals_from_nodes=Matrix(
                atoms._replace(weights=weight[count:]), crystal._replace(weights=weight[count:])
            ),
            sets=Sets(t["set_of_row"], t["set_offsets"], weight),
        )

    def _arrays(self, node: _Level, length: _Level, edge: _Level) -> dict[str, NDArray[Any]]:
        """Collects what a batch is made of: indices (int64) and numbers (float32)."""
        first_node, first_edge = node.start[edge.owner], edge.start[edge.owner]
        crystals = len(edge.counts)
        table = 2 * node.places + crystals
        counted = np.arange(edge.total + 1)
        # What edges sum from: nodes as sources, nodes as destinations, crystals, lengths.
        ends = (
            self.src[edge.pooled] + first_node,
            self.dst[edge.pooled] + (first_node + node.places),
            edge.owner + 2 * node.places,
            self.edge_length[edge.pooled] + (length.start[edge.owner] + table),
        )
        # Edges come sorted by crystal and by destination; for the others the pool has sorted them.
        uses = (
            self.by_src[edge.pooled] + first_edge,
            counted[:-1],
            counted[:-1],
            self.by_length[edge.pooled] + first_edge,
        )
        use_counts = (
            node.fill(self.out_degree),
            node.fill(self.in_degree),
            edge.counts,
            self.length_degree[length.pooled],
        )
        return {
            "species": node.fill(self.species),
            "lengths": self.length[length.pooled],
            "ends": np.concatenate(ends),
            "uses": np.concatenate(uses),
            "use_offsets": _offsets(np.concatenate(use_counts)),
            "edges_counted": counted,
            "place_of_atom": node.place,
            "atoms_counted": np.arange(node.total + 1),
            "atom_offsets": node.offsets,
            "occupied": _offsets(node.fill(self.present)),
            "message_weight": self.message_weight[edge.pooled],
            "set_of_row": np.concatenate([edge.owner, node.owner + crystals]),
            "set_offsets": np.concatenate([edge.offsets, node.offsets[1:] + edge.total]),
            "weight_of_row": np.concatenate(
                [self.edge_weight[edge.pooled], self.node_weight[node.pooled]]
            ),
        }


class _Level:
    """The nodes, lengths or edges of a batch: where they come from and where they go.

    Attributes:
        counts: crystals; how many each has.
        offsets: crystals + 1; running sum of the counts.
        total: how many there are.
        sizes: members; how many each has.
        owner: items; the crystal of each.
        pooled: items; position in the pool.
        start: crystals; place of the first one.
        place: items; place in the batch.
        places: number of places, empty ones included.
    """

    def __init__(self, counts: Ints, pool_start: Ints, rows: Ints, padded: bool) -> None:
        members, size = rows.shape
        self.counts = counts[rows].ravel()
        self.offsets = _offsets(self.counts)
        self.total = int(self.offsets[-1])
        self.owner = np.repeat(np.arange(members * size), self.counts)
        running = np.arange(self.total)
        self.pooled = running + (pool_start[rows].ravel() - self.offsets[:-1])[self.owner]
        ends = self.offsets[size::size]
        self.sizes = np.diff(ends, prepend=0)
        self.start, self.place, self.places = self.offsets[:-1], running, self.total
        if padded:
            # At least one place, so that no axis downstream has length zero.
            width = max(int(self.sizes.max()), 1)
            shift = np.arange(members) * width - (ends - self.sizes)
            self.start = self.start + np.repeat(shift, size)
            self.place = running + np.repeat(shift, self.sizes)
            self.places = members * width

    def fill(self, values: NDArray[Any]) -> NDArray[Any]:
        """Puts values of the pool into their places; zero elsewhere."""
        out = np.zeros(self.places, values.dtype)
        out[self.place] = values[self.pooled]
        return out


def _offsets(counts: Ints) -> Ints:
    """Where runs of these lengths begin, and where the last one ends."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _move(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """Moves arrays to the device in two transfers, one for each type of number."""
    moved: dict[str, Tensor] = {}
    for dtype in (np.int64, np.float32):
        own = {name: array for name, array in arrays.items() if array.dtype == dtype}
        flat = torch.from_numpy(np.concatenate(list(own.values()))).to(device)
        moved |= zip(own, flat.split([len(array) for array in own.values()]), strict=True)
    return moved
