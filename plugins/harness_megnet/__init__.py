"""MEGNet, on collapsed graphs, in stacks, with its published weights verified; and again by DGL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from harness.plugin import BackboneSpec, SearchSpace, hookimpl
from harness_megnet.settings import MegnetSettings, NetworkSettings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from harness_megnet.backbone import MegnetBackbone
    from harness_megnet.dgl_backbone import MegnetDglBackbone

ROWS_PER_SECOND = 2400.0
"""Training rows per second, all members together, forward and backward with the head `mlp`:
measured on AFLOW with 9 members and batch 8, one thread."""

DGL_ROWS_PER_SECOND = 300.0
"""The same for `megnet-dgl`."""


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `megnet`, and `megnet-dgl` to check it."""
    return [
        BackboneSpec(
            name="megnet",
            summary="MEGNet on collapsed graphs; published weights MEGNet-MP-2018.6.1-Eform.",
            settings=MegnetSettings,
            make=_make,
            rows_per_second=ROWS_PER_SECOND,
            space=SearchSpace(_distributions),
        ),
        BackboneSpec(
            name="megnet-dgl",
            summary="the same MEGNet by DGL on whole graphs: slow, an independent check.",
            settings=NetworkSettings,
            make=_make_dgl,
            rows_per_second=DGL_ROWS_PER_SECOND,
            space=SearchSpace(_distributions),
        ),
    ]


def _distributions() -> Mapping[str, BaseDistribution]:
    from optuna.distributions import IntDistribution

    return {"blocks": IntDistribution(1, 4), "readout_steps": IntDistribution(1, 3)}


def _make(settings: MegnetSettings) -> MegnetBackbone:
    from harness_megnet.backbone import MegnetBackbone

    return MegnetBackbone(settings)


def _make_dgl(settings: NetworkSettings) -> MegnetDglBackbone:
    from harness_megnet.dgl_backbone import MegnetDglBackbone

    return MegnetDglBackbone(settings)
