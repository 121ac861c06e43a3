"""Metrics of predicted against true values: of a property, or of its logarithm.

Every function takes two finite arrays of equal length, targets first, and returns one number. None
leaves a row out. Without rows every metric is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING

from harness.plugin import MAPE_FLOOR

if TYPE_CHECKING:
    from harness.plugin import Floats

    Metric = Callable[[Floats, Floats], float]

LOW_SHARE = 10
"""One row in so many is sought by `recall_low_10`."""


def _metric(function: Metric) -> Metric:
    """Makes a metric NaN where there are no rows.

    An absurd but finite prediction may overflow a sum: the value is then infinite, without a word.
    """

    @wraps(function)
    def value(targets: Floats, predictions: Floats) -> float:
        import numpy as np

        if len(targets) == 0:
            return float("nan")
        with np.errstate(over="ignore"):
            return function(targets, predictions)

    return value


@_metric
def mae(targets: Floats, predictions: Floats) -> float:
    """Mean absolute error."""
    import numpy as np

    return _mean(np.abs(predictions - targets))


@_metric
def rmse(targets: Floats, predictions: Floats) -> float:
    """Root mean square error."""
    return math.sqrt(_mean((predictions - targets) ** 2))


@_metric
def spearman(targets: Floats, predictions: Floats) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank.

    NaN where all targets or all predictions are equal, as with a single row. To the last bit that
    of `np.corrcoef`, which takes longer for few rows than all else.
    """
    import numpy as np

    ranks = np.stack((_ranks(targets), _ranks(predictions)))
    ranks -= ranks.mean(axis=1)[:, None]
    own, shared, _, other = map(float, np.dot(ranks, ranks.T).flat)
    if own == 0 or other == 0:
        return math.nan
    share = 1 / (len(targets) - 1)
    correlation = shared * share / math.sqrt(own * share) / math.sqrt(other * share)
    return min(max(correlation, -1.0), 1.0)


@_metric
def mape(targets: Floats, predictions: Floats) -> float:
    """Mean absolute percentage error, as a fraction."""
    return _mean(_relative_errors(targets, predictions))


@_metric
def median_ape(targets: Floats, predictions: Floats) -> float:
    """Median absolute percentage error, as a fraction."""
    import numpy as np

    return float(np.median(_relative_errors(targets, predictions)))


@_metric
def r2(targets: Floats, predictions: Floats) -> float:
    """Coefficient of determination.

    NaN where all targets are equal, as with a single row: there is no variance to explain.
    """
    if targets.min() == targets.max():
        return math.nan
    unexplained = ((predictions - targets) ** 2).sum()
    return float(1.0 - unexplained / ((targets - _mean(targets)) ** 2).sum())


@_metric
def within_factor_2(targets: Floats, predictions: Floats) -> float:
    """Share of rows with target/2 ≤ prediction ≤ 2·target."""
    import numpy as np

    return float(np.mean((predictions >= targets / 2) & (predictions <= targets * 2)))


@_metric
def recall_low_10(targets: Floats, predictions: Floats) -> float:
    """Recall of the 10 % of rows with the lowest target among those with the lowest predictions.

    Both are the same number of rows, n // 10 and at least one. A row whose target equals the
    highest of the sought ones is as good as it. Rows whose predictions tie at the limit share the
    places left, so that the value is the expected one under random order: for a constant predictor,
    their share.
    """
    import numpy as np

    sought = max(1, len(targets) // LOW_SHARE)
    low = targets <= np.partition(targets, sought - 1)[sought - 1]
    limit = np.partition(predictions, sought - 1)[sought - 1]
    below, tied = predictions < limit, predictions == limit
    places_left = sought - np.count_nonzero(below)
    found = np.count_nonzero(low & below) + places_left * np.mean(low[tied])
    return float(found / sought)


def _mean(values: Floats) -> float:
    """The mean of values, to the last bit that of `np.mean`, which takes twice as long for few."""
    return float(values.sum() / len(values))


def _ranks(values: Floats) -> Floats:
    """Ranks from 1 on, equal values sharing their mean rank; scipy.stats takes a second to load."""
    import numpy as np

    order = values.argsort()
    ordered = values[order]
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1.0, len(values) + 1)
    if np.count_nonzero(ordered[1:] == ordered[:-1]):
        _, place, times = np.unique(values, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    return ranks


def _relative_errors(targets: Floats, predictions: Floats) -> Floats:
    import numpy as np

    return np.abs(predictions - targets) / np.maximum(np.abs(targets), MAPE_FLOOR)
