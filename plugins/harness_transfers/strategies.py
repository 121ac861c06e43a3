"""The strategies: from settings and a target dataset to stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from harness import Settings, Stage


class TwoStage(Settings):
    """Settings of `two-stage`.

    Attributes:
        source: dataset of the first stage.
        source_start: where the first stage's backbone starts.
        source_epochs: epochs of the first stage; the benchmark's where absent.
    """

    source: str
    source_start: Literal["pretrained", "random"] = "pretrained"
    source_epochs: int | None = Field(default=None, ge=1)


def scratch(_settings: Settings, target: str) -> Sequence[Stage]:
    """Fits the target from random weights."""
    return (Stage(target, "random"),)


def pretrained(_settings: Settings, target: str) -> Sequence[Stage]:
    """Fits the target from the backbone's pretrained weights, with a new head."""
    return (Stage(target, "pretrained"),)


def two_stage(settings: TwoStage, target: str) -> Sequence[Stage]:
    """Fits the source, then continues on the target, head included.

    The first stage equals that of `pretrained` (or `scratch`) on the source unless `source_epochs`
    is set, so that a benchmark with both trains it once. No stages where the target is the source.
    """
    if target == settings.source:
        return ()
    epochs = {} if settings.source_epochs is None else {"epochs": settings.source_epochs}
    first = Stage(settings.source, settings.source_start, training=epochs)
    return (first, Stage(target, "previous"))
