"""Metrics: what a plugin hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plugin.function import Function

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats

KAPPA_FLOOR = 0.01
"""Lowest κ that logarithms of metrics and baselines see, in W/(m·K), for targets and predictions.

Below any dense solid; the lowest κ among the 3,318 AFLOW rows at hand is 0.0115. The published
protocol can predict κ slightly below zero; such a row counts as this value and stays in."""


MAPE_FLOOR = 1.17e-6
"""Lowest |κ| that relative errors divide by, in W/(m·K), in the metric and in the loss: as in
torchmetrics' `MeanAbsolutePercentageError`, with which the published models were made."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric by name.

    Attributes:
        name: as it is written in a benchmark file.
        title: column heading.
        unit: of the value; empty where it has none.
        higher_is_better: its direction.
        function: (targets, predictions), both κ in W/(m·K) and of equal length → value. Gets
            finite numbers only: the core turns a set with a failed prediction into NaN.
        revision: of what it computes; see `BackboneSpec`. Where it chooses epochs, it is part of
            the keys of stages.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    function: Function[Callable[[Floats, Floats], float]] = Function()
    revision: int = 1
