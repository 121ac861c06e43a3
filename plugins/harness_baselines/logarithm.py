"""Logarithms of κ that are finite for every label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import KAPPA_FLOOR

if TYPE_CHECKING:
    from harness.plugin import Floats


def log_kappa(kappa: Floats) -> Floats:
    """κ in W/(m·K) → log10 κ, floored as in the metrics.

    Labels as the published protocol distorts them can lie below zero.
    """
    return np.asarray(np.log10(np.maximum(kappa, KAPPA_FLOOR)))
