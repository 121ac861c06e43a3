"""The stacked MEGNet: batches of collapsed crystal graphs → embeddings.

Source: Chen et al., Chem. Mater. 31, 3564 (2019), in the layout of matgl 4.1.2
(`matgl/models/_megnet.py`), with messages averaged into the *destination* node as in the version
of matgl that the published weights were trained with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from harness.plugin import StackedEmbedding, StackedLinear, ragged_linear
from harness_megnet.sparse import Sets, attend, product

if TYPE_CHECKING:
    from harness_megnet.pool import Batch
    from harness_megnet.settings import MegnetSettings

Generators = Sequence[torch.Generator]

STATE_WIDTH = 2
"""Width of the global state given to the model; it is zero for every crystal."""


def activate(x: Tensor) -> Tensor:
    """Returns softplus(x) − ln 2, which is zero at zero. `x` must not be used afterwards."""
    if torch.is_inference_mode_enabled() and x.device.type == "cpu" and x.numel():
        return _activate_in_place(x)
    return nn.functional.softplus(x).sub_(log(2.0))


def _activate_in_place(x: Tensor) -> Tensor:
    """The same by numpy, whose exp and log1p take 60 % of the time of torch's softplus.

    A prediction spends a third of its time in activations.
    """
    values = x.numpy()
    try:
        with np.errstate(over="raise"):
            grown = np.exp(values)
    except FloatingPointError:  # above 88, exp is infinite in single precision
        return nn.functional.softplus(x).sub_(log(2.0))
    np.log1p(grown, out=values)
    values -= values.dtype.type(log(2.0))
    return x


class Mlp(nn.Sequential):
    """Linear layers, each followed by the activation."""

    def __init__(self, generators: Generators, widths: Sequence[int]) -> None:
        super().__init__(*(StackedLinear(generators, a, b) for a, b in pairwise(widths)))

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None, start: int = 0) -> Tensor:
        """Applies the layers from `start` on to dense rows, or to ragged ones of these `sizes`."""
        for layer in list(self)[start:]:
            x = activate(layer(x, sizes))
        return x


class Block(nn.Module):
    """One round of messages: edges see their ends, nodes their incoming edges, the state all."""

    def __init__(self, generators: Generators, settings: MegnetSettings, first: bool) -> None:
        super().__init__()
        width = settings.update_widths[-1]
        if not first:
            dense = [width, *settings.dense_widths]
            self.edge_dense = Mlp(generators, dense)
            self.node_dense = Mlp(generators, dense)
            self.state_dense = Mlp(generators, dense)
        self.first = first
        self.width = width
        # Inputs, in this order: source node, destination node, edge, state.
        self.edge_update = Mlp(generators, [4 * width, *settings.update_widths])
        # Node, mean of its incoming edges, state.
        self.node_update = Mlp(generators, [3 * width, *settings.update_widths])
        # State, mean of the edges, mean of the nodes.
        self.state_update = Mlp(generators, [3 * width, *settings.update_widths])

    def forward(
        self, batch: Batch, edges: Tensor, nodes: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Updates everything, and adds what was there before.

        Args:
            batch: how edges, nodes and crystals belong together.
            edges: `edges × width`, ragged; in the first block `lengths × width`, since edges of
                equal length are still equal.
            nodes: `members × places × width`.
            state: `members × batch × width`.

        Returns:
            Edges (ragged), nodes and state.
        """
        if self.first:
            e, v, u = edges, nodes, state
            edges = product(batch.edges_from_lengths, edges)
        else:
            e = self.edge_dense(edges, batch.edge_sizes)
            v = self.node_dense(nodes)
            u = self.state_dense(state)
        e = self._update_edges(batch, e, v, u)
        means = product(batch.means_from_edges, e)
        messages, edge_mean = means.tensor_split([v.shape[0] * v.shape[1]])
        spread = product(batch.nodes_from_crystals, u.flatten(0, 1)).view_as(v)
        v = self.node_update(torch.cat([v, messages.view_as(v), spread], -1))
        node_mean = product(batch.crystals_from_nodes, v.flatten(0, 1))
        u = self.state_update(torch.cat([u, edge_mean.view_as(u), node_mean.view_as(u)], -1))
        return e + edges, v + nodes, u + state

    def _update_edges(self, batch: Batch, e: Tensor, v: Tensor, u: Tensor) -> Tensor:
        """Applies the edge update; its first layer acts once per node, crystal (and length).

        W [v_src, v_dst, e, u] + b = W₁ v_src + W₂ v_dst + W₃ e + (W₄ u + b): the parts are put
        into one table, from which every edge sums its three or four rows.
        """
        layer: StackedLinear = self.edge_update[0]  # type: ignore[assignment]
        assert layer.bias is not None
        source, destination, edge, state = layer.weight.split(self.width, 1)
        sizes = batch.length_sizes if self.first else batch.edge_sizes
        own = ragged_linear(e, edge, None, sizes)
        ends = [
            torch.bmm(v, source),
            torch.bmm(v, destination),
            torch.baddbmm(layer.bias, u, state),
        ]
        parts = [end.flatten(0, 1) for end in ends]
        if self.first:
            hidden = product(batch.edges_from_ends_and_lengths, torch.cat([*parts, own]))
        else:
            hidden = product(batch.edges_from_ends, torch.cat(parts)).add_(own)
        updated: Tensor = self.edge_update(activate(hidden), batch.edge_sizes, start=1)
        return updated


class Gates(nn.Module):
    """The gates of an LSTM cell, in the order of `torch.nn.LSTM`: input, forget, cell, output."""

    def __init__(self, generators: Generators, width: int) -> None:
        super().__init__()
        bound = width**-0.5  # as `torch.nn.LSTM` does
        self.input = StackedLinear(generators, 2 * width, 4 * width, bound=bound)
        self.hidden = StackedLinear(generators, width, 4 * width, bound=bound)

    def blank(self) -> Tensor:
        """Returns the gates before the first step, when input and memory are zero."""
        assert self.input.bias is not None
        assert self.hidden.bias is not None
        return self.input.bias + self.hidden.bias

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Takes `members × batch × (2 width, width)` to `members × batch × 4 width`."""
        gates: Tensor = self.input(inputs) + self.hidden(hidden)
        return gates


class Readout(nn.Module):
    """Set2Set over the edges and over the nodes of every crystal, done side by side.

    A set is read out by attention, with a query that an LSTM refines. Source: Vinyals et al.,
    arXiv 1511.06391.
    """

    def __init__(self, generators: Generators, width: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.edge = Gates(generators, width)
        self.node = Gates(generators, width)

    def forward(self, rows: Tensor, sets: Sets, batch: int) -> Tensor:
        """Returns query and mean of edges and of nodes, `2 × members × batch × 2 width`.

        Args:
            rows: edges, then nodes, `rows × width`.
            sets: the crystal of each edge, then of each node: `2 · members · batch` sets.
            batch: crystals of each member.
        """
        # Before the first step only biases are left: every crystal asks the same question.
        gates = torch.stack([self.edge.blank(), self.node.blank()])
        query, memory = _remember(gates, gates.new_zeros(()))
        result = self._look(rows, query, sets, batch)
        for _ in range(1, self.steps):
            cells = zip((self.edge, self.node), result, query, strict=True)
            gates = torch.stack([cell(seen, asked) for cell, seen, asked in cells])
            query, memory = _remember(gates, memory)
            result = self._look(rows, query, sets, batch)
        return result

    @staticmethod
    def _look(rows: Tensor, query: Tensor, sets: Sets, batch: int) -> Tensor:
        """Returns the query and what it finds, `2 × members × batch × 2 width`."""
        query = query.expand(-1, -1, batch, -1)
        found = attend(rows, query.flatten(0, 2), sets).view_as(query)
        return torch.cat([query, found], -1)


def _remember(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM; returns its output and its memory."""
    i, f, g, o = gates.chunk(4, -1)
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    return o.sigmoid() * memory.tanh(), memory


class Megnet(nn.Module):
    """Members of MEGNet without the last layer: its embedding has no activation."""

    centres: Tensor

    def __init__(self, settings: MegnetSettings, elements: int, generators: Generators) -> None:
        super().__init__()
        width = settings.update_widths[-1]
        self.factor = settings.gaussian_factor_per_square_angstrom
        centres = torch.linspace(0.0, settings.gaussian_end_angstrom, settings.gaussians)
        self.register_buffer("centres", centres, persistent=False)
        self.embedding = StackedEmbedding(generators, elements, settings.node_embedding)
        self.edge_encoder = Mlp(generators, [settings.gaussians, *settings.dense_widths])
        self.node_encoder = Mlp(generators, [settings.node_embedding, *settings.dense_widths])
        self.state_encoder = Mlp(generators, [STATE_WIDTH, *settings.dense_widths])
        # What it multiplies is zero for every crystal: published, but nothing to train.
        self.state_encoder[0].weight.requires_grad_(False)
        self.blocks = [f"block{i + 1}" for i in range(settings.blocks)]
        for name in self.blocks:
            self.add_module(name, Block(generators, settings, first=name == self.blocks[0]))
        self.readout = Readout(generators, width, settings.readout_steps)
        hidden, embedding = settings.projection_widths
        self.projection = Mlp(generators, [5 * width, hidden])
        self.output = StackedLinear(generators, hidden, embedding)

    def forward(self, batch: Batch) -> Tensor:
        """Returns embeddings, `members × batch × width`."""
        members, size = batch.shape
        spread = batch.lengths.unsqueeze(-1) - self.centres
        gaussians = spread.square_().mul_(-self.factor).exp_()
        edges = self.edge_encoder(gaussians, batch.length_sizes)
        nodes = self.node_encoder(self.embedding(batch.species))
        blank = nodes.new_zeros(members, 1, STATE_WIDTH)
        state = self.state_encoder(blank).expand(-1, size, -1)
        for name in self.blocks:
            edges, nodes, state = self.get_submodule(name)(batch, edges, nodes, state)
        atoms = product(batch.atoms_from_nodes, nodes.flatten(0, 1))
        of_edges, of_nodes = self.readout(torch.cat([edges, atoms]), batch.sets, size)
        readout = torch.cat([of_nodes, of_edges, state], -1)
        embedding: Tensor = self.output(self.projection(readout))
        return embedding
