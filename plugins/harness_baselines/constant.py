"""Constants that no other constant beats on the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import (
    MAPE_FLOOR,
    FitRows,
    Needs,
    PluginError,
    Predictor,
    PropertySpec,
    Settings,
)

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_baselines import ConstantSettings


NEEDS: Mapping[str, Needs] = {
    "mape": "positive",
    **dict.fromkeys(("mae", "rmse", "r2"), ""),
    **dict.fromkeys(("mae-log", "rmse-log", "r2-log"), "log"),
}
"""What a property must have for a metric of `ConstantSettings` to make sense."""


def fit_best_constant(settings: ConstantSettings, rows: FitRows) -> Predictor:
    """Fits the head `best-constant`."""
    metric = settings.metric or rows.property.metric
    return predict_constant(best_constant(rows.targets, metric, rows.property))


def fit_mean(settings: Settings, rows: FitRows) -> Predictor:
    """Fits the heads `mean` and `mean-log`: the mean on the property's scale."""
    return predict_constant(float(rows.property.mean(rows.targets)))


def best_constant(targets: Floats, metric: str, spec: PropertySpec) -> float:
    """Returns the constant that is best for a metric.

    Where a whole interval is equally good (a median of an even number of rows), it is the middle
    of it, on the scale of the metric; for MAPE the lower end.

    Args:
        targets: labels, in the property's unit.
        metric: see `ConstantSettings`.
        spec: the property.

    Raises:
        PluginError: the metric makes no sense for the property.
        ValueError: for a metric that is not among the settings.
    """
    if not spec.satisfies(NEEDS.get(metric, "")):
        fitting = [name for name, needs in NEEDS.items() if spec.satisfies(needs)]
        raise PluginError(
            f"The head 'best-constant': the metric {metric!r} makes no sense for {spec.title}; "
            f"use one of: {', '.join(fitting)}."
        )
    match metric:
        case "mape":
            # Σ|c − y|/y: a sum of absolute errors weighted by 1/y
            weights = 1 / np.maximum(np.abs(targets), MAPE_FLOOR)
            return weighted_median(targets, weights)
        case "mae":
            return float(np.median(targets))
        case "rmse" | "r2":
            return float(np.mean(targets))
        case "mae-log":
            return float(spec.from_scale(np.median(spec.to_scale(targets))))
        case "rmse-log" | "r2-log":
            return float(spec.mean(targets))
    raise ValueError(f"no best constant is known for the metric {metric!r}")


def weighted_median(values: Floats, weights: Floats) -> float:
    """Returns the lowest value that has half of the weight at or below it."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def predict_constant(value: float) -> Predictor:
    """Returns the predictor that gives one value for every row."""
    return lambda embeddings: np.full(len(embeddings), value)
