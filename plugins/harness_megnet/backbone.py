"""The backbone `megnet`: encodes crystals, packs them, makes stacks and loads their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import Backbone, CrystalGraph, build_graphs, find_published, read_tensors
from harness_megnet.elements import ELEMENTS, check_elements, number_elements
from harness_megnet.settings import MegnetSettings

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from harness.plugin import Crystal, Locations, PretrainedWeights
    from harness_megnet.pool import GraphPool


class MegnetBackbone(Backbone):
    """MEGNet without its last layer. `build` gives a stack, `load_pretrained` fills it."""

    refuses = False

    def __init__(self, settings: MegnetSettings) -> None:
        """Takes the settings; reads nothing yet."""
        self.settings = settings
        self.width = settings.projection_widths[-1]
        self.elements = frozenset(ELEMENTS)
        self.cutoff_angstrom = settings.cutoff_angstrom
        self.encoding = (
            f"megnet-1 {CrystalGraph.law} cutoff={settings.cutoff_angstrom!r} "
            f"collapse={settings.collapse}"
        )
        self.layers = (
            ("embedding", "edge_encoder", "node_encoder", "state_encoder"),
            *((f"block{number}",) for number in range(1, settings.blocks + 1)),
            ("readout",),
            ("projection", "output"),
        )

    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Turns one crystal into its graph.

        Returns:
            `species` (element numbers) and `multiplicity` of nodes; `length`, the distinct bond
            lengths in Å; `src`, `dst`, `edge_length` (position in `length`) and `count` of edges.

        Raises:
            DataError: an element is unknown, or the crystal has no graph.
        """
        return self.encode_all([crystal])[0]

    def encode_all(self, crystals: Sequence[Crystal]) -> list[dict[str, NDArray[Any]]]:
        """Turns crystals into their graphs, as `encode` does one."""
        for crystal in crystals:
            check_elements(crystal, "megnet")
        graphs = build_graphs(crystals, self.settings.cutoff_angstrom, self.settings.collapse)
        return [
            {
                "species": number_elements(graph.species),
                "multiplicity": graph.multiplicity,
                "length": length,
                "src": graph.src,
                "dst": graph.dst,
                "edge_length": edge_length,
                "count": graph.count,
            }
            for graph, length, edge_length in zip(graphs, *_number_lengths(graphs), strict=True)
        ]

    def count_isolated(self, encoding: Mapping[str, NDArray[Any]]) -> int:
        """Number of atoms without a neighbour within the cutoff."""
        lonely = np.bincount(encoding["dst"], minlength=len(encoding["species"])) == 0
        return int(encoding["multiplicity"][lonely].sum())

    def pool(
        self, encodings: Sequence[Mapping[str, NDArray[Any]]], device: torch.device
    ) -> GraphPool:
        """Packs encodings for the assembly of stacked batches."""
        from harness_megnet.pool import GraphPool

        return GraphPool(encodings, device)

    def build(self, generators: Sequence[torch.Generator]) -> nn.Module:
        """Makes the stacked module with fresh weights, one member per generator."""
        from harness_megnet.module import Megnet

        return Megnet(self.settings, len(ELEMENTS), generators)

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds the published weights named in the settings.

        Raises:
            WeightsError: they are in none of the folders, and cannot be downloaded.
        """
        return find_published(self.settings.weights, locations)

    def load_pretrained(self, module: nn.Module, weights: PretrainedWeights) -> dict[str, Any]:
        """Copies the published weights into every member.

        Returns:
            `tensors`, how many were transferred, and the verified `convention`.

        Raises:
            WeightsError: a key or a shape does not match, or the verification failed.
        """
        import torch

        from harness_megnet.module import Megnet
        from harness_megnet.reference import read_reference
        from harness_megnet.verification import verify
        from harness_megnet.weights import check, fill

        if not isinstance(module, Megnet):
            raise TypeError(f"expected the module that `build` makes, got {type(module).__name__}")
        state = read_tensors(weights.path)
        check(state, module, weights.path)
        # On a stack of one, on the CPU, so that a refused file leaves the module as it was.
        single = Megnet(self.settings, len(ELEMENTS), [torch.Generator()])
        reference = read_reference(weights.name)
        pool = self.pool([self.encode(c) for c in reference.crystals], torch.device("cpu"))
        declared = self.settings.convention
        convention = verify(single, state, weights, reference, pool, declared)
        fill(module, state, convention)
        return {"tensors": len(list(module.parameters())), "convention": convention}


def _number_lengths(
    graphs: Sequence[CrystalGraph],
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.int32]]]:
    """The distinct bond lengths of every graph, ascending, and which of them each edge has."""
    edges = np.array([len(graph.distance) for graph in graphs])
    owner = np.repeat(np.arange(len(graphs)), edges)
    distance = np.concatenate([graph.distance for graph in graphs])
    # Complex numbers are sorted by their real part first: here, by graph.
    found, number = np.unique(owner + 1j * distance, return_inverse=True)
    lengths = np.bincount(found.real.astype(np.int64), minlength=len(graphs))
    ends = np.cumsum(lengths)
    edge_length = (number - (ends - lengths)[owner]).astype(np.int32)
    return (
        np.split(found.imag.astype(np.float32), ends[:-1]),
        np.split(edge_length, np.cumsum(edges)[:-1]),
    )
