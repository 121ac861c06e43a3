"""The backbone `megnet-dgl`: DGL is imported when it builds or packs crystals, not before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import (
    Arrays,
    Crystal,
    CrystalGraph,
    PluginError,
    Stacked,
    build_graph,
    find_published,
    read_tensors,
)
from harness_megnet.elements import ELEMENTS, check_elements, number_elements
from harness_megnet.settings import NetworkSettings

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from harness.plugin import Locations, Pool, PretrainedWeights

RELEASE = "1.1"
"""The release of DGL that this is made for: later ones load no torch but that of their time."""


def _check_dgl() -> None:
    """Refuses to go on without DGL, which is not imported to find out.

    Raises:
        PluginError: it is absent, or of another release.
    """
    try:
        found = version("dgl")
    except PackageNotFoundError:
        found = ""
    if not found.startswith(f"{RELEASE}."):
        raise PluginError(
            f"The backbone 'megnet-dgl' needs dgl {RELEASE}, and "
            f"{f'dgl {found}' if found else 'no dgl'} is installed: "
            "pip install 'paraisite-harness[dgl]'. Its wheels end with Python 3.11. "
            "The backbone 'megnet' computes the same without it."
        )


def _encode(crystal: Crystal, cutoff_angstrom: float) -> dict[str, NDArray[Any]]:
    check_elements(crystal, "megnet-dgl")
    graph = build_graph(crystal, cutoff_angstrom, collapse=False)
    return {
        "species": number_elements(graph.species),
        "src": graph.src,
        "dst": graph.dst,
        "length": graph.distance,
    }


def _collate(encodings: Sequence[Arrays]) -> Any:
    from harness_megnet.dgl_model import collate

    return collate(encodings)


def _make_model(settings: NetworkSettings) -> nn.Module:
    from harness_megnet.dgl_model import MegnetDgl

    return MegnetDgl(settings, len(ELEMENTS))


class MegnetDglBackbone(Stacked):
    """MEGNet by DGL, without its last layer; `load_pretrained` fills a stack."""

    refuses = False

    def __init__(self, settings: NetworkSettings) -> None:
        """Takes the settings; imports nothing yet.

        Raises:
            PluginError: DGL is absent or of another release.
        """
        _check_dgl()
        self.settings = settings
        self.cutoff_angstrom = settings.cutoff_angstrom
        super().__init__(
            partial(_make_model, settings),
            encode=partial(_encode, cutoff_angstrom=settings.cutoff_angstrom),
            collate=_collate,
            width=settings.projection_widths[-1],
            elements=ELEMENTS,
            encoding=f"megnet-dgl-1 {CrystalGraph.law} cutoff={settings.cutoff_angstrom!r}",
            layers=(
                ("embedding", "edge_encoder", "node_encoder", "state_encoder"),
                *((f"blocks.{number}",) for number in range(settings.blocks)),
                ("edge_s2s", "node_s2s"),
                ("output_proj",),
            ),
        )

    def count_isolated(self, encoding: Arrays) -> int:
        """Number of atoms without a neighbour within the cutoff."""
        return len(encoding["species"]) - len(np.unique(encoding["dst"]))

    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> Pool:
        """Keeps the encodings as they are; batches are collated when they are asked for.

        Raises:
            PluginError: this build of DGL cannot move graphs to that device.
        """
        found = version("dgl")
        if device.type == "cuda" and "+cu" not in found:
            raise PluginError(
                f"The backbone 'megnet-dgl' cannot use CUDA: dgl {found} is a build for the CPU. "
                "Set device = 'cpu', or use the backbone 'megnet'."
            )
        return super().pool(encodings, device)

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds the published weights named in the settings.

        Raises:
            WeightsError: they are in none of the folders, and cannot be downloaded.
        """
        return find_published(self.settings.weights, locations)

    def load_pretrained(self, module: nn.Module, weights: PretrainedWeights) -> dict[str, Any]:
        """Copies the published weights into every member.

        Returns:
            `tensors`, how many were transferred, and `largest_deviation_ev_per_atom` from the
            reference energies.

        Raises:
            WeightsError: a key or a shape does not match, or the verification failed.
        """
        import torch

        from harness_megnet.dgl_weights import check, fill, verify
        from harness_megnet.reference import read_reference

        state = read_tensors(weights.path)
        check(state, module, weights.path)
        # On a stack of one, on the CPU, so that a refused file leaves the module as it was.
        single = self.build([torch.Generator()])
        fill(single, state)
        reference = read_reference(weights.name)
        pool = self.pool([self.encode(c) for c in reference.crystals], torch.device("cpu"))
        batch = pool.batch(np.arange(len(pool))[None])
        deviation = verify(single, state, weights, reference, batch)
        fill(module, state)
        tensors = len(list(module.parameters()))
        return {"tensors": tensors, "largest_deviation_ev_per_atom": deviation}
