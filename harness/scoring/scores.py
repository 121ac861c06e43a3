"""From predicted rows to the scores of one run: every metric, on all rows and overlap-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.registry.plugin_calls import call

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from harness.registry.property_metrics import PropertyMetric


SUBSETS = ("all", "overlap-free")
"""All test rows of a run; and those whose group (reduced formula) is in no training set of the
chain that the predictions come from."""

SCORE_TOLERANCE = 1e-12
"""Relative; scores that differ by less are equal: the same numbers, summed on another machine."""


def score_run(
    metrics: Mapping[str, PropertyMetric],
    target: NDArray[np.float64],
    prediction: NDArray[np.float64],
    overlap: NDArray[np.bool_],
) -> dict[str, dict[str, Any]]:
    """Scores the rows of one run.

    Args:
        metrics: by name.
        target: in the property's unit, one per row.
        prediction: likewise.
        overlap: whether the row's group was trained on.

    Returns:
        For each of `SUBSETS`: `n` rows, `failed` rows (prediction not finite) and every metric. A
        metric is NaN where a row failed (it is never dropped) or where no row is left.
    """
    whole = _score_rows(metrics, target, prediction)
    free = ~overlap
    left = whole if free.all() else _score_rows(metrics, target[free], prediction[free])
    return dict(zip(SUBSETS, (whole, left), strict=True))


def _score_rows(
    metrics: Mapping[str, PropertyMetric],
    target: NDArray[np.float64],
    prediction: NDArray[np.float64],
) -> dict[str, Any]:
    failed = _count_failed(prediction)
    values: dict[str, Any] = {"n": len(target), "failed": failed}
    given = {False: (target, prediction)}
    known = len(prediction) > 0 and not failed
    for name, metric in metrics.items():
        values[name] = _compute(metric, given) if known else math.nan
    return values


def _count_failed(prediction: NDArray[np.float64]) -> int:
    return len(prediction) - int(np.count_nonzero(np.isfinite(prediction)))


def measure(
    metric: PropertyMetric, target: NDArray[np.float64], prediction: NDArray[np.float64]
) -> float:
    """Returns a metric's value; NaN where there is no row, or a prediction is not finite.

    Whoever needs a metric calls this, so that an error names the plugin that it comes from.

    Args:
        metric: the metric.
        target: in the property's unit, one per row.
        prediction: likewise.

    Raises:
        PluginError: the metric returned something else than a number.
    """
    if not len(prediction) or _count_failed(prediction):
        return math.nan
    return _compute(metric, {False: (target, prediction)})


def _compute(
    metric: PropertyMetric, given: dict[bool, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> float:
    """Computes a metric.

    Args:
        metric: the metric.
        given: targets and predictions, in the property's unit and, once a metric has asked for
            them, on its scale: by whether on that scale.
    """
    scaled = metric.needs == "log"
    if scaled not in given:
        target, prediction = map(metric.property.to_scale, given[False])
        given[scaled] = target, prediction
    action = f"computing the metric {metric.name!r}"
    function: Any = metric.function
    return float(call(function, *given[scaled], action=action, returns=Real))


def same_score(one: Any, other: Any) -> bool:
    """Whether two scores are equal but for rounding.

    Args:
        one: as it was computed, or as it is stored: JSON has null for what is not finite, and a
            damaged file may have anything.
        other: likewise.
    """
    known = [score for score in (one, other) if score is not None]
    if not all(isinstance(score, Real) for score in known):
        return False
    if len(known) < 2:
        return not any(math.isfinite(score) for score in known)
    return math.isclose(one, other, rel_tol=SCORE_TOLERANCE, abs_tol=1e-300)


def jsonable(value: Any) -> Any:
    """Numbers that JSON does not have (NaN, ±inf) become null; arrays become lists."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [jsonable(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    return value


def score_stored(
    metrics: Mapping[str, PropertyMetric], rows: pd.DataFrame, run: int
) -> dict[str, dict[str, Any]]:
    """Scores one run of a scoring from its stored rows; see `score_run` and `Store`."""
    mine = rows[rows["run"] == run]
    arrays = (mine[column].to_numpy() for column in ("target", "prediction", "overlap"))
    return score_run(metrics, *arrays)
