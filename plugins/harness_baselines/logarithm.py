"""Logarithms of κ that are finite for every label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KAPPA_FLOOR = 0.01
"""Lowest κ that logarithms see, in W/(m·K), as in the metrics; labels as the published protocol
distorts them can lie below zero."""


def log_kappa(kappa: NDArray[np.float64]) -> NDArray[np.float64]:
    """κ in W/(m·K) → log10 κ."""
    return np.asarray(np.log10(np.maximum(kappa, KAPPA_FLOOR)))
