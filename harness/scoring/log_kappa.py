"""κ on the scale on which it is averaged: log10, with a floor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin.metric import KAPPA_FLOOR

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats


def to_log(kappa: Floats) -> Floats:
    """log10 of κ in W/(m·K), at least `KAPPA_FLOOR`."""
    return np.asarray(np.log10(np.maximum(kappa, KAPPA_FLOOR)))


def average(predictions: Sequence[Floats]) -> Floats:
    """Returns what several models together say of the same rows: one alone, just what it says.

    Args:
        predictions: per model, κ in W/(m·K) of every row.

    Returns:
        κ in W/(m·K) of every row: 10 to the mean of log10 κ; NaN where one is NaN.
    """
    if len(predictions) == 1:
        return predictions[0]
    return geometric_mean(np.stack(predictions))


def geometric_mean(kappa: Floats) -> Floats:
    """Returns 10 to the mean of log10 κ, models × rows → rows."""
    with np.errstate(invalid="ignore"):
        return np.asarray(10.0 ** to_log(kappa).mean(axis=0))
