"""MEGNet, on collapsed graphs, in stacks, with its published weights verified; and again by DGL."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import BackboneSpec, Range, hookimpl
from harness_megnet.settings import MegnetSettings, NetworkSettings

ROWS_PER_SECOND = 2400.0
"""Training rows per second, all members together, forward and backward with the head `mlp`:
measured on AFLOW with 9 members and batch 8, one thread."""

DGL_ROWS_PER_SECOND = 300.0
"""The same for `megnet-dgl`."""

SPACE = {"blocks": Range(1, 4), "readout_steps": Range(1, 3)}


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `megnet`, and `megnet-dgl` to check it."""
    return [
        BackboneSpec(
            name="megnet",
            summary="MEGNet on collapsed graphs; published weights MEGNet-MP-2018.6.1-Eform.",
            settings=MegnetSettings,
            make="harness_megnet.backbone:MegnetBackbone",
            rows_per_second=ROWS_PER_SECOND,
            space=SPACE,
        ),
        BackboneSpec(
            name="megnet-dgl",
            summary="the same MEGNet by DGL on whole graphs: slow, an independent check.",
            settings=NetworkSettings,
            make="harness_megnet.dgl_backbone:MegnetDglBackbone",
            rows_per_second=DGL_ROWS_PER_SECOND,
            space=SPACE,
        ),
    ]
