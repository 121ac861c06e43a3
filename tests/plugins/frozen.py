"""Fixed features for tests: in ten lines, and with weights that have seen a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from harness.plugin import (
    SYMBOLS,
    BackboneSpec,
    CannotEncode,
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


def describe_shyly(crystal: Crystal) -> list[float]:
    if crystal.formula == "ClNa":
        raise CannotEncode("too salty")
    return describe(crystal)[:1]


class ShySettings(Settings):
    """Raises the release of the weights."""

    release: int = 1


def make_shy(settings: ShySettings) -> FixedFeatures:
    weights = PretrainedWeights("table-3", Path(__file__), f"11ff{settings.release}", seen="Twins")
    elements = [symbol for symbol in SYMBOLS if symbol != "He"]
    return FixedFeatures(
        describe_shyly, 1, elements=elements, encoding="shy-1", weights=weights, vouched=True
    )


@hookimpl
def register_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec("plain", "volume and elements", make=make_plain),
        BackboneSpec("trained", "the same, with weights", make=make_trained),
        BackboneSpec("shy", "the volume alone, no salt", ShySettings, make=make_shy),
    ]
