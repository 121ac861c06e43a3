"""The backbones `m3gnet` and `tensornet`: matgl is imported when they encode or build, not before.

M3GNet sees bond lengths and angles only, TensorNet keeps only the norms of its tensors, and every
readout that may be chosen takes weighted means over atoms: neither the order of sites, nor the
number of cells, nor the place and orientation of the crystal matters. Bonds fade out towards the
cutoffs.
"""

from __future__ import annotations

from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from harness.plugin import Arrays, Layers, PluginError, Settings, Stacked, find_published
from harness_matgl.graphs import ELEMENTS, collate, encode
from harness_matgl.settings import M3gnetSettings, TensornetSettings, check_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from harness.plugin import Locations, PretrainedWeights

MAJOR = 4
"""The major version of matgl whose networks these are."""


def _check_matgl(backbone: str) -> str:
    """Returns the version of matgl without importing it.

    Raises:
        PluginError: it is absent, or too old or too new.
    """
    try:
        found = version("matgl")
    except PackageNotFoundError:
        found = ""
    if found.partition(".")[0] != str(MAJOR):
        raise PluginError(
            f"The backbone {backbone!r} needs matgl {MAJOR}, and "
            f"{f'matgl {found}' if found else 'no matgl'} is installed: "
            "pip install 'paraisite-harness[matgl]'."
        )
    return found


def _make_network(maker: str, settings: Settings) -> nn.Module:
    """Makes a network without its last layers, by the function of that name."""
    from harness_matgl import networks

    make: Callable[[Settings], Any] = getattr(networks, maker)
    return networks.cut(make(settings))


class _MatglBackbone(Stacked):
    """A network of matgl in a stack."""

    refuses = False

    def __init__(
        self,
        name: str,
        settings: M3gnetSettings | TensornetSettings,
        width: int,
        layers: Layers,
    ) -> None:
        found = _check_matgl(name)
        self.cutoff_angstrom = settings.cutoff_angstrom
        super().__init__(
            partial(_make_network, f"make_{name}", settings),
            encode=partial(encode, cutoff_angstrom=settings.cutoff_angstrom),
            collate=collate,
            width=width,
            elements=ELEMENTS,
            encoding=f"matgl-1 {found} cutoff={settings.cutoff_angstrom!r}",
            layers=layers,
        )

    def count_isolated(self, encoding: Arrays) -> int:
        """Number of atoms without a neighbour within the cutoff."""
        return len(encoding["node_type"]) - len(set(encoding["edge_index"][1].tolist()))


class M3gnetBackbone(_MatglBackbone):
    """M3GNet without its last layers; `load_pretrained` fills a stack with published weights."""

    def __init__(self, settings: M3gnetSettings) -> None:
        """Takes the settings; imports nothing yet.

        Raises:
            PluginError: matgl is absent or of another major version.
        """
        self.settings = settings
        widths = {
            "weighted_atom": settings.units,
            "set2set": 2 * settings.node_embedding,
            "reduce_atom": settings.node_embedding,
        }
        blocks = (
            (f"three_body_interactions.{block}", f"graph_layers.{block}")
            for block in range(settings.blocks)
        )
        # A plain mean has no parameters.
        last = () if settings.readout == "reduce_atom" else (("readout",),)
        layers = (("embedding",), *blocks, *last)
        super().__init__("m3gnet", settings, widths[settings.readout], layers)

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds the published weights named in the settings.

        Raises:
            WeightsError: the settings are not those of the weights, or they are in none of the
                folders and cannot be downloaded.
        """
        check_settings(self.settings)
        return find_published(self.settings.weights, locations)

    def load_pretrained(self, module: nn.Module, weights: PretrainedWeights) -> dict[str, Any]:
        """Copies the published weights into every member, once they are verified.

        Returns:
            `tensors`, how many were transferred, and `largest_deviation_ev_per_atom` from the
            reference energies.

        Raises:
            WeightsError: a key or a shape does not match, or the verification failed.
        """
        import torch

        from harness_matgl.weights import read, verify

        check_settings(self.settings)
        network = read(weights.path, self.settings)
        deviation = verify(network, weights, self.encode)
        names = [name for name, _ in module.named_parameters()]
        with torch.no_grad():
            for name in names:
                parameter = module.get_parameter(name)
                parameter.copy_(network.get_parameter(name.removeprefix("model.")).detach())
        return {"tensors": len(names), "largest_deviation_ev_per_atom": deviation}


class TensornetBackbone(_MatglBackbone):
    """TensorNet without its last layers."""

    def __init__(self, settings: TensornetSettings) -> None:
        """Takes the settings; imports nothing yet.

        Raises:
            PluginError: matgl is absent or of another major version.
        """
        self.settings = settings
        readout = () if settings.readout == "reduce_atom" else ("readout",)
        blocks = ((f"layers.{block}",) for block in range(settings.blocks))
        layers = (("tensor_embedding",), *blocks, ("out_norm", "linear", *readout))
        super().__init__("tensornet", settings, settings.units, layers)
