"""M3GNet and TensorNet of matgl 4 (the backend of PyTorch Geometric), in a `Stacked`."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import BackboneSpec, Choice, Range, hookimpl
from harness_matgl.settings import M3gnetSettings, TensornetSettings

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
            make="harness_matgl.backbone:M3gnetBackbone",
            rows_per_second=M3GNET_ROWS_PER_SECOND,
            space={
                "units": Choice(32, 64, 128),
                "blocks": Range(1, 4),
                "readout": Choice("weighted_atom", "set2set", "reduce_atom"),
            },
        ),
        BackboneSpec(
            name="tensornet",
            summary="TensorNet of matgl: Cartesian tensors, equivariant inside.",
            settings=TensornetSettings,
            make="harness_matgl.backbone:TensornetBackbone",
            rows_per_second=TENSORNET_ROWS_PER_SECOND,
            space={
                "units": Choice(16, 32, 64),
                "blocks": Range(1, 3),
                "gaussians": Choice(16, 32, 64),
                "readout": Choice("weighted_atom", "reduce_atom"),
            },
        ),
    ]
