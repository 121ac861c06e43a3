"""matgl's networks without their last, fully connected layers: graphs → embeddings."""

from __future__ import annotations

from typing import Any

from matgl.layers._graph_convolution import M3GNetGraphConv
from matgl.models import M3GNet, TensorNet
from torch import Tensor, nn

from harness_matgl.graphs import ELEMENTS
from harness_matgl.settings import M3gnetSettings, TensornetSettings


class _RowPerCrystal:
    """Mixed into a network of matgl: its output keeps one row per crystal, even for one crystal."""

    def forward(self, g: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Returns `crystals × width`."""
        output: Tensor = super().forward(g, *args, **kwargs)  # type: ignore[misc]
        # matgl keeps all features of the last graph there, and with them the graph of autograd.
        self.feature_dict: dict[str, Any] = {}
        return output.reshape(g.num_graphs, -1)


class M3gnetNetwork(_RowPerCrystal, M3GNet):
    """M3GNet of matgl."""


class TensornetNetwork(_RowPerCrystal, TensorNet):
    """TensorNet of matgl."""


class IntoDestination(M3GNetGraphConv):
    """Convolution that adds the message of a bond to the atom it ends at, as matgl did before 3.

    Its `node_update_func` takes that atom's features first.
    """

    def node_update_(self, edge_index: Tensor, *features: Any) -> Tensor:
        """Updates atoms from the bonds that end at them."""
        updates: Tensor = super().node_update_(edge_index.flip(0), *features)
        return updates


def make_m3gnet(settings: M3gnetSettings) -> M3gnetNetwork:
    """Makes the whole M3GNet, with fresh weights from torch's global generator."""
    network = M3gnetNetwork(
        element_types=ELEMENTS,
        dim_node_embedding=settings.node_embedding,
        dim_edge_embedding=settings.edge_embedding,
        units=settings.units,
        nblocks=settings.blocks,
        max_n=settings.max_n,
        max_l=settings.max_l,
        readout_type=settings.readout,
        niters_set2set=settings.set2set_steps,
        nlayers_set2set=settings.set2set_layers,
        cutoff=settings.cutoff_angstrom,
        threebody_cutoff=settings.threebody_cutoff_angstrom,
    )
    if settings.messages_into == "destination":
        block: Any
        for block in network.graph_layers:
            conv = block.conv
            block.conv = IntoDestination(
                include_state=False,
                edge_update_func=conv.edge_update_func,
                edge_weight_func=conv.edge_weight_func,
                node_update_func=conv.node_update_func,
                node_weight_func=conv.node_weight_func,
                state_update_func=None,
            )
    return network


def make_tensornet(settings: TensornetSettings) -> TensornetNetwork:
    """Makes the whole TensorNet, with fresh weights from torch's global generator."""
    return TensornetNetwork(
        element_types=ELEMENTS,
        units=settings.units,
        nblocks=settings.blocks,
        num_rbf=settings.gaussians,
        width=settings.gaussian_factor_per_square_angstrom,
        cutoff=settings.cutoff_angstrom,
        readout_type=settings.readout,
        # The kernels of an optional package round differently; results must not depend on it.
        use_warp=False,
    )


def cut(network: nn.Module) -> nn.Module:
    """Takes the last layers off: what went into them comes out, and nothing is left untrained."""
    network.final_layer = nn.Identity()
    return network
