"""What several models together say of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.errors import BenchmarkError

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

Predicted = tuple["Floats", "Floats | None"]
"""Values of rows in the property's unit; their std on its scale where the model gives one."""

Weighting = Literal["equal", "precision"]
"""How models count in a mean: all alike, or each by 1 / variance of its own for the row."""

SMALLEST_STD = 1e-6
"""On the property's scale; a model that is surer still counts as this sure."""


def bounded_std(stds: Floats) -> Floats:
    """Standard deviations as they count: none below `SMALLEST_STD`; NaN stays."""
    bounded: Floats = np.maximum(stds, SMALLEST_STD)
    return bounded


def combine(
    predicted: Sequence[Predicted], spec: PropertySpec, weighting: Weighting = "equal"
) -> Predicted:
    """Returns the mean on the property's scale; of one model, just what it says.

    By precision, it is the mean and the std of the logarithmic opinion pool of the models: of the
    geometric mean of their normal densities, whose mean is Σ μ/σ² / Σ 1/σ² and whose variance is
    the harmonic mean of theirs. Source: Genest & Zidek, Statistical Science 1, 114 (1986), doi
    10.1214/ss/1177013825; for Gaussian processes, Cao & Fleet, arXiv 1410.7827.

    Args:
        predicted: of each model, for the same rows.
        spec: the property.
        weighting: how the models count.

    Returns:
        One value per row, NaN where that of a model is NaN; the std by precision only.

    Raises:
        BenchmarkError: by precision, of a model that gives no std.
    """
    if len(predicted) == 1:
        return predicted[0]
    values = np.stack([own for own, _ in predicted])
    if weighting == "equal":
        return spec.mean(values), None
    stds = [std for _, std in predicted if std is not None]
    if len(stds) < len(predicted):
        raise BenchmarkError(
            f"Of {len(predicted)} members of a committee that are to count by precision, "
            f"{len(predicted) - len(stds)} give no standard deviation. Take heads that do (`gp`), "
            'or weighting = "equal".'
        )
    precision = bounded_std(np.stack(stds)) ** -2.0
    with np.errstate(invalid="ignore"):
        mean = (spec.to_scale(values) * precision).sum(axis=0) / precision.sum(axis=0)
        return spec.from_scale(mean), precision.mean(axis=0) ** -0.5
