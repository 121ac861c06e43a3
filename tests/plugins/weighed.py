"""A fixed backbone for tests that is made from a file of weights, which a setting names."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from harness.plugin import (
    SYMBOLS,
    BackboneSpec,
    Crystal,
    FixedFeatures,
    PluginError,
    PretrainedWeights,
    Settings,
    hookimpl,
)


class WeighedSettings(Settings):
    """Which file, and what it has seen."""

    weights: str = ""
    seen: str = ""
    power: float = 1.0


def weigh(numbers: list[float], power: float, crystal: Crystal) -> list[float]:
    size = crystal.volume / len(crystal.species)
    return [number * size**power for number in numbers]


def make(settings: WeighedSettings, weights: PretrainedWeights | None) -> FixedFeatures:
    if weights is None:
        raise PluginError("name a file, as weights = 'numbers.json'")
    numbers = json.loads(weights.path.read_text())
    return FixedFeatures(
        partial(weigh, numbers, settings.power),
        len(numbers),
        elements=SYMBOLS,
        encoding=f"weighed-1 {settings.power}",
        weights=replace(weights, seen=settings.seen),
    )


@hookimpl
def register_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec(
            "weighed", "the volume, weighed", WeighedSettings, make=make, weights_in="weights"
        )
    ]
