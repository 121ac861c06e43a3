"""M3GNet and TensorNet of matgl 4 (the backend of PyTorch Geometric), through `harness.Stacked`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.plugin import BackboneSpec, SearchSpace, hookimpl
from harness_matgl.settings import M3gnetSettings, TensornetSettings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from harness_matgl.backbone import M3gnetBackbone, TensornetBackbone

M3GNET_ROWS_PER_SECOND = 180.0
"""Training rows per second, all members together, forward and backward with the head `mlp`:
measured on Dataset1 (2.6 atoms per crystal) with 9 members and batch 8, one thread."""

TENSORNET_ROWS_PER_SECOND = 170.0
"""The same for TensorNet."""


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `m3gnet` and `tensornet`."""
    return [
        BackboneSpec(
            name="m3gnet",
            summary="M3GNet of matgl, with angles; published weights M3GNet-MP-2018.6.1-Eform.",
            settings=M3gnetSettings,
            make=_make_m3gnet,
            rows_per_second=M3GNET_ROWS_PER_SECOND,
            space=SearchSpace(_m3gnet_space),
        ),
        BackboneSpec(
            name="tensornet",
            summary="TensorNet of matgl: Cartesian tensors, equivariant inside.",
            settings=TensornetSettings,
            make=_make_tensornet,
            rows_per_second=TENSORNET_ROWS_PER_SECOND,
            space=SearchSpace(_tensornet_space),
        ),
    ]


def _make_m3gnet(settings: M3gnetSettings) -> M3gnetBackbone:
    from harness_matgl.backbone import M3gnetBackbone

    return M3gnetBackbone(settings)


def _make_tensornet(settings: TensornetSettings) -> TensornetBackbone:
    from harness_matgl.backbone import TensornetBackbone

    return TensornetBackbone(settings)


def _m3gnet_space() -> Mapping[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        "units": CategoricalDistribution((32, 64, 128)),
        "blocks": IntDistribution(1, 4),
        "readout": CategoricalDistribution(("weighted_atom", "set2set", "reduce_atom")),
    }


def _tensornet_space() -> Mapping[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        "units": CategoricalDistribution((16, 32, 64)),
        "blocks": IntDistribution(1, 3),
        "gaussians": CategoricalDistribution((16, 32, 64)),
        "readout": CategoricalDistribution(("weighted_atom", "reduce_atom")),
    }
