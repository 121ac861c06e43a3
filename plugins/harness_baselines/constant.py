"""Constants that no other constant beats on the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import MAPE_FLOOR, FitRows, Predictor, Settings
from harness_baselines.logarithm import log_kappa

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_baselines import ConstantSettings


def fit_best_constant(settings: ConstantSettings, rows: FitRows) -> Predictor:
    """Fits the head `best-constant`."""
    return predict_constant(best_constant(rows.kappa, settings.metric))


def fit_mean_log(settings: Settings, rows: FitRows) -> Predictor:
    """Fits the head `mean-log`: the mean of log κ minimises its squared error."""
    return predict_constant(best_constant(rows.kappa, "rmse-log"))


def best_constant(kappa: Floats, metric: str) -> float:
    """Returns the constant κ that is best for a metric.

    Where a whole interval is equally good (a median of an even number of rows), it is the middle
    of it, on the scale of the metric; for MAPE the lower end.

    Args:
        kappa: labels, in W/(m·K).
        metric: `mape`, `mae`, `mae-log`, `rmse-log` or `r2-log`.

    Raises:
        ValueError: for another metric.
    """
    match metric:
        case "mape":
            # Σ|c − κ|/κ: a sum of absolute errors weighted by 1/κ
            weights = 1 / np.maximum(np.abs(kappa), MAPE_FLOOR)
            return weighted_median(kappa, weights)
        case "mae":
            return float(np.median(kappa))
        case "mae-log":
            return float(10 ** np.median(log_kappa(kappa)))
        case "rmse-log" | "r2-log":
            return float(10 ** np.mean(log_kappa(kappa)))
    raise ValueError(f"no best constant is known for the metric {metric!r}")


def weighted_median(values: Floats, weights: Floats) -> float:
    """Returns the lowest value that has half of the weight at or below it."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def predict_constant(kappa: float) -> Predictor:
    """Returns the predictor that gives κ for every row."""
    return lambda embeddings: np.full(len(embeddings), kappa)
