"""MEGNet, on collapsed graphs, in stacks, with its published weights verified."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness import BackboneSpec, hookimpl
from harness_megnet.settings import MegnetSettings

if TYPE_CHECKING:
    from harness_megnet.backbone import MegnetBackbone

ROWS_PER_SECOND = 2400.0
"""Training rows per second, all members together, forward and backward with the head `mlp`:
measured on AFLOW with 9 members and batch 8, one thread."""


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `megnet`."""
    return [
        BackboneSpec(
            name="megnet",
            summary="MEGNet on collapsed graphs; published weights MEGNet-MP-2018.6.1-Eform.",
            settings=MegnetSettings,
            make=_make,
            rows_per_second=ROWS_PER_SECOND,
        )
    ]


def _make(settings: MegnetSettings) -> MegnetBackbone:
    from harness_megnet.backbone import MegnetBackbone

    return MegnetBackbone(settings)
