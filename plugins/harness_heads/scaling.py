"""The target of the heads fitted in closed form: on the property's scale, standardised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import Scaler

if TYPE_CHECKING:
    from harness.plugin import Floats, PropertySpec


def standardise(targets: Floats, spec: PropertySpec) -> tuple[Scaler, Floats]:
    """Returns the scaler of these labels without an offset, and the scaled labels.

    In the strict protocol that is the scaler of the rows. The published one scales log10(κ + 1):
    its predictions could fall below zero, and an uncertainty of it would not be one of log10 κ.

    Args:
        targets: labels in the property's unit; on a log scale floored as in the metrics, for the
            published protocol may distort them to values below zero.
        spec: the property.
    """
    if not spec.is_log:
        scaler = Scaler.fit(targets, offset=None)
        return scaler, scaler.encode(targets)
    floored = np.maximum(targets, spec.lowest)
    scaler = Scaler.fit(floored, offset=0.0)
    return scaler, scaler.encode(floored)


def decode_finite(scaler: Scaler, scaled: Floats) -> Floats:
    """Scaled targets → values in the property's unit, finite however far a law extrapolates.

    On a log scale they are positive.
    """
    limits = np.finfo(np.float64)
    lowest = limits.min if scaler.offset is None else limits.tiny
    return np.clip(scaler.decode(scaled), lowest, limits.max)
