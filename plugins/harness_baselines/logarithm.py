"""Logarithms of κ that are finite for every label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import KAPPA_FLOOR

if TYPE_CHECKING:
    from numpy.typing import NDArray


def log_kappa(kappa: NDArray[np.float64]) -> NDArray[np.float64]:
    """κ in W/(m·K) → log10 κ, floored as in the metrics.

    Labels as the published protocol distorts them can lie below zero.
    """
    return np.asarray(np.log10(np.maximum(kappa, KAPPA_FLOOR)))
