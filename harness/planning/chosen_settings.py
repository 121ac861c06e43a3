"""What a search has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from harness.planning.component_ref import OneComponent
from harness.plugin.settings import Settings


class Setting(Settings):
    """What one trial tries: settings that go over those of the benchmark.

    Attributes:
        backbone, head, transfer: settings of these.
        training: settings of the last stage.
    """

    backbone: Mapping[str, Any] = {}
    head: Mapping[str, Any] = {}
    transfer: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}


class Chosen(Settings):
    """A setting that a search has chosen for one run of one configuration.

    Attributes:
        backbone, head, transfer, protocol: the configuration, as the benchmark names it.
        train_on: the dataset that the last stage fits.
        run: which run it is for.
        rank: 1 for the best; the others are for averaging.
        trials: finished trials that it is the best of.
        selection: see `Tuning`.
        score: on validation rows, by the metric of the protocol.
        setting: what was chosen.
    """

    backbone: OneComponent
    head: OneComponent
    transfer: OneComponent
    protocol: OneComponent
    train_on: str
    run: int = Field(ge=1)
    rank: int = Field(default=1, ge=1)
    trials: int = Field(ge=1)
    selection: Literal["per-run", "shared"] = "per-run"
    score: float | None = None
    setting: Setting
