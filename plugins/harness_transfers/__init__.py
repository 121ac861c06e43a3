"""Transfer strategies of the published study: from scratch, pretrained, and in two stages."""

from __future__ import annotations

from collections.abc import Iterable

from harness import Settings, TransferSpec, hookimpl
from harness_transfers.strategies import TwoStage, pretrained, scratch, two_stage


@hookimpl
def register_transfers() -> Iterable[TransferSpec]:
    """Offers the published steps I, II and III."""
    yield TransferSpec("scratch", "random weights, then the target (step I)", Settings, scratch)
    yield TransferSpec(
        "pretrained", "pretrained backbone, then the target (step II)", Settings, pretrained
    )
    yield TransferSpec(
        "two-stage", "a source dataset, then the target (step III)", TwoStage, two_stage
    )
