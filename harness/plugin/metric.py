"""Metrics: what a plugin hands over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plugin.function import Function

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats
    from harness.plugin.property import Needs

MAPE_FLOOR = 1.17e-6
"""Lowest |target| that relative errors divide by, in its unit, in the metric and in the loss: as in
torchmetrics' `MeanAbsolutePercentageError`, with which the published models were made."""


@dataclass(frozen=True)
class MetricSpec:
    """A metric by name.

    Attributes:
        name: as it is written in a benchmark file.
        title: column heading; `{symbol}` in it becomes that of the property.
        unit: of the value; empty where it has none. `{unit}` becomes that of the property.
        higher_is_better: its direction.
        function: (targets, predictions), both in the property's unit and of equal length → value;
            where the metric needs a log scale, their logarithms to base 10 instead, floored at the
            property's lowest value. Gets finite numbers only: the core turns a set with a failed
            prediction into NaN.
        revision: of what it computes; see `BackboneSpec`. Where it chooses epochs, it is part of
            the keys of stages.
        needs: what a property must have for the metric to make sense: nothing, `positive` values,
            or a `log` scale.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    function: Function[Callable[[Floats, Floats], float]] = Function()
    revision: int = 1
    needs: Needs = ""
