"""Intervals that hold with a promised probability: split conformal prediction.

Source: Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018), algorithm 2, for the residual |ŷ − y| on
the property's scale, as |log10 κ̂ − log10 κ|. The residuals are those of every run on its own
validation rows, pooled. Two things keep the promise from being exact: these rows chose the epoch,
and where settings were searched for those too, which makes the residuals too small; and the
interval is put around the mean of all runs, which is as a rule nearer to the truth than one run,
and makes it a little too wide. So what it covers is measured, on test rows, by each run on its own.

Where every run says how sure it is, the residual is |ŷ − y| / σ, with the run's own std σ of the
row, and the interval of a crystal is as wide as the runs are unsure of it (section 5.2 there;
Papadopoulos et al., ECML 2002, doi 10.1007/3-540-36755-1_29).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

DEFAULT_LEVEL = 0.9
LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Levels whose coverage is measured and shown."""


def residuals_of(predicted: Floats, targets: Floats, spec: PropertySpec) -> Floats:
    """Returns |ŷ − y| on the property's scale; infinite where a prediction is not finite."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(spec.to_scale(predicted) - spec.to_scale(targets))
    return np.where(np.isfinite(predicted), distance, np.inf)


def check_level(level: float) -> None:
    """Refuses what is no probability.

    Raises:
        HarnessError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise HarnessError(f"The level of the interval is {level:g}: expected 0 < level < 1.")


def half_width(residuals: Floats, level: float) -> float:
    """Half the width of the interval, on the property's scale.

    It is the ⌈(n + 1) · level⌉-th smallest residual.

    Args:
        residuals: of the calibration rows, in any order.
        level: wanted probability that the interval holds the value.

    Returns:
        Infinity where so few rows cannot promise the level.

    Raises:
        HarnessError: see `check_level`.
    """
    check_level(level)
    # 0.9 · 10 is 9.000…02 in some orders of rounding: that is not the tenth row.
    rank = math.ceil((len(residuals) + 1) * level - 1e-9)
    return math.inf if rank > len(residuals) else float(np.sort(residuals)[rank - 1])


def coverage(residuals: Floats, width: float) -> float:
    """Share of rows whose value lies in the interval of this half width; NaN of no rows."""
    return float((residuals <= width).mean()) if len(residuals) else math.nan
