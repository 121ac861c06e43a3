"""The target of the heads fitted in closed form: log10 κ, standardised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import KAPPA_FLOOR, Scaler

if TYPE_CHECKING:
    from harness.plugin import Floats


def scale_logs(kappa: Floats) -> tuple[Scaler, Floats]:
    """Returns the scaler of these labels without an offset, and the scaled labels.

    In the strict protocol that is the scaler of the rows. The published one scales log10(κ + 1):
    its predictions could fall below zero, and an uncertainty of it would not be one of log10 κ.

    Args:
        kappa: labels in W/(m·K); floored as in the metrics, for the published protocol may distort
            them to values below zero.
    """
    floored = np.maximum(kappa, KAPPA_FLOOR)
    scaler = Scaler.fit(floored, offset=0.0)
    return scaler, scaler.encode(floored)


def decode_finite(scaler: Scaler, scaled: Floats) -> Floats:
    """Scaled target → κ in W/(m·K), positive and finite however far a law extrapolates."""
    limits = np.finfo(np.float64)
    return np.clip(scaler.decode(scaled), limits.tiny, limits.max)
