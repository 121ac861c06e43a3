"""Fixed features for tests: in ten lines, and with weights that have seen a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from harness.plugin import (
    SYMBOLS,
    BackboneSpec,
    Crystal,
    FixedFeatures,
    PretrainedWeights,
    Settings,
    hookimpl,
)

WEIGHTS = PretrainedWeights("table-2", Path(__file__), "00ff", seen="Source")


def describe(crystal: Crystal) -> list[float]:
    if notes := os.environ.get("FROZEN_NOTES"):
        with Path(notes).open("a") as file:
            file.write(crystal.formula + "\n")
    return [crystal.volume / len(crystal.species), len(set(crystal.species)), 1.0]


def make_plain(settings: Settings) -> FixedFeatures:
    return FixedFeatures(describe, 3, elements=SYMBOLS, encoding="plain-1")


def make_trained(settings: Settings) -> FixedFeatures:
    return FixedFeatures(
        describe, 3, elements=SYMBOLS, encoding="trained-1", weights=WEIGHTS, vouched=True
    )


@hookimpl
def register_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec("plain", "volume and elements", make=make_plain),
        BackboneSpec("trained", "the same, with weights", make=make_trained),
    ]
