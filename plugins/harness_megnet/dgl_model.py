"""MEGNet by DGL: an ordinary model of one member, on whole graphs.

Written from the paper (Chen et al., Chem. Mater. 31, 3564, 2019) and in the layout of matgl of the
time when it ran on DGL, with which the published weights were trained: modules and parameters are
named as in that file, and edge messages are averaged into the *destination* node. It shares no code
with `harness_megnet.module`, which it is there to check.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

# Unless it is told, DGL says at its first import which backend it takes, and writes that down in
# the user's home.
os.environ.setdefault("DGLBACKEND", "pytorch")

import dgl
from dgl.nn import Set2Set

if TYPE_CHECKING:
    from harness.plugin import Arrays
    from harness_megnet.settings import NetworkSettings

STATE_WIDTH = 2
"""Width of the global state given to the model; it is zero for every crystal."""


def collate(encodings: Sequence[Arrays]) -> Any:
    """Makes one DGL graph of the graphs of several crystals.

    Args:
        encodings: each with `species`, `src`, `dst` and `length`.

    Returns:
        A batched graph with `species` of its nodes and `length` (Å) of its edges.
    """
    graphs = []
    for encoding in encodings:
        ends = (torch.from_numpy(encoding["src"]), torch.from_numpy(encoding["dst"]))
        graph = dgl.graph(ends, num_nodes=len(encoding["species"]))
        graph.ndata["species"] = torch.from_numpy(encoding["species"]).long()
        graph.edata["length"] = torch.from_numpy(encoding["length"])
        graphs.append(graph)
    return dgl.batch(graphs)


class ShiftedSoftplus(nn.Module):
    """softplus(x) − ln 2, which is zero at zero."""

    def forward(self, x: Tensor) -> Tensor:
        """Applies it to every number."""
        return nn.functional.softplus(x) - log(2.0)


class Mlp(nn.Module):
    """Linear layers with activations between them, numbered together: 0, 2, 4.

    Args:
        widths: of the input and of every layer.
        activate_last: whether the last layer is followed by an activation too.
    """

    def __init__(self, widths: Sequence[int], activate_last: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), ShiftedSoftplus()]
        self.layers = nn.Sequential(*(layers if activate_last else layers[:-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Takes `rows × n_in` to `rows × n_out`."""
        output: Tensor = self.layers(x)
        return output


class Embedding(nn.Module):
    """A vector for every element."""

    def __init__(self, elements: int, width: int) -> None:
        super().__init__()
        self.layer_node_embedding = nn.Embedding(elements, width)

    def forward(self, species: Tensor) -> Tensor:
        """Takes element numbers to `nodes × width`."""
        vectors: Tensor = self.layer_node_embedding(species)
        return vectors


class Convolution(nn.Module):
    """One round of messages: edges see their ends, nodes their incoming edges, the state all."""

    def __init__(self, width: int, update_widths: Sequence[int]) -> None:
        super().__init__()
        self.edge_func = Mlp([4 * width, *update_widths])
        self.node_func = Mlp([3 * width, *update_widths])
        self.state_func = Mlp([3 * width, *update_widths])

    def forward(
        self, graph: Any, edges: Tensor, nodes: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Updates edges, then nodes, then the state of every crystal; each is `rows × width`."""
        with graph.local_scope():
            # Not by `apply_edges`, which warns where no crystal of the whole batch has an edge.
            src, dst = graph.edges()
            ends = [nodes[src.long()], nodes[dst.long()]]
            e = self.edge_func(torch.hstack([*ends, edges, dgl.broadcast_edges(graph, state)]))
            graph.edata["e"] = e
            graph.update_all(dgl.function.copy_e("e", "message"), dgl.function.mean("message", "m"))
            messages = graph.ndata["m"]
            v = self.node_func(torch.hstack([nodes, messages, dgl.broadcast_nodes(graph, state)]))
            graph.ndata["v"] = v
            means = [_mean_over_edges(graph, "e"), dgl.mean_nodes(graph, "v")]
            return e, v, self.state_func(torch.hstack([state, *means]))


def _mean_over_edges(graph: Any, name: str) -> Tensor:
    """Returns the mean over each crystal's edges, `crystals × width`; zeros where it has none.

    `dgl.mean_edges` gives 0/0 where no crystal of the whole batch has an edge.
    """
    edges = graph.batch_num_edges().clamp(min=1)
    mean: Tensor = dgl.sum_edges(graph, name) / edges.unsqueeze(1)
    return mean


class Block(nn.Module):
    """A convolution, with dense layers before it in all blocks but the first; residual."""

    def __init__(self, settings: NetworkSettings, first: bool) -> None:
        super().__init__()
        width = settings.update_widths[-1]

        def dense() -> nn.Module:
            return nn.Identity() if first else Mlp([width, *settings.dense_widths])

        self.edge_func, self.node_func, self.state_func = dense(), dense(), dense()
        self.conv = Convolution(width, settings.update_widths)

    def forward(
        self, graph: Any, edges: Tensor, nodes: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Updates everything, and adds what was there before."""
        e, v, u = self.conv(
            graph, self.edge_func(edges), self.node_func(nodes), self.state_func(state)
        )
        return edges + e, nodes + v, state + u


class EdgeSet2Set(Set2Set):  # type: ignore[misc]
    """DGL's Set2Set, which reads out nodes, for edges. Source: Vinyals et al., arXiv 1511.06391."""

    def forward(self, graph: Any, features: Tensor) -> Tensor:
        """Takes `edges × width` to `crystals × 2 width`: the last query and what it found."""
        crystals = graph.batch_size
        blank = features.new_zeros(self.n_layers, crystals, self.input_dim)
        memory = (blank, blank)
        result = features.new_zeros(crystals, self.output_dim)
        with graph.local_scope():
            for _ in range(self.n_iters):
                query, memory = self.lstm(result.unsqueeze(0), memory)
                query = query.squeeze(0)
                seen = features * dgl.broadcast_edges(graph, query)
                graph.edata["logit"] = seen.sum(1, keepdim=True)
                graph.edata["found"] = features * dgl.softmax_edges(graph, "logit")
                result = torch.hstack([query, dgl.sum_edges(graph, "found")])
        return result


class MegnetDgl(nn.Module):
    """MEGNet without its last layer: its embedding has no activation."""

    centres: Tensor

    def __init__(self, settings: NetworkSettings, elements: int) -> None:
        super().__init__()
        dense, width = settings.dense_widths, settings.update_widths[-1]
        self.factor = settings.gaussian_factor_per_square_angstrom
        centres = torch.linspace(0.0, settings.gaussian_end_angstrom, settings.gaussians)
        self.register_buffer("centres", centres, persistent=False)
        self.embedding = Embedding(elements, settings.node_embedding)
        self.edge_encoder = Mlp([settings.gaussians, *dense])
        self.node_encoder = Mlp([settings.node_embedding, *dense])
        self.state_encoder = Mlp([STATE_WIDTH, *dense])
        # What it multiplies is zero for every crystal: published, but nothing to train.
        self.state_encoder.layers[0].weight.requires_grad_(False)
        self.blocks = nn.ModuleList(
            Block(settings, first=number == 0) for number in range(settings.blocks)
        )
        self.edge_s2s = EdgeSet2Set(width, settings.readout_steps, 1)
        self.node_s2s = Set2Set(width, settings.readout_steps, 1)
        self.output_proj = Mlp([5 * width, *settings.projection_widths], activate_last=False)

    def forward(self, graph: Any) -> Tensor:
        """Takes a graph of `collate` to embeddings, `crystals × width`."""
        spread = graph.edata["length"].unsqueeze(1) - self.centres
        edges = self.edge_encoder(torch.exp(-self.factor * spread**2))
        nodes = self.node_encoder(self.embedding(graph.ndata["species"]))
        state = self.state_encoder(edges.new_zeros(graph.batch_size, STATE_WIDTH))
        for block in self.blocks:
            edges, nodes, state = block(graph, edges, nodes, state)
        readout = [self.node_s2s(graph, nodes), self.edge_s2s(graph, edges), state]
        embedding: Tensor = self.output_proj(torch.hstack(readout))
        return embedding
