"""One nearest neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import FitRows, Predictor
from harness_baselines.logarithm import log_kappa

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_baselines import NearestSettings

TIE = 1e-6
"""Distances that differ by less (relative, and absolute near zero) are equal: embeddings are in
single precision."""

ROWS_AT_ONCE = 1024
"""Predicted in one go, to bound the memory that the distances take."""

SCIPY_NAMES = {"manhattan": "cityblock", "euclidean": "euclidean"}


def fit_nearest(settings: NearestSettings, rows: FitRows) -> Predictor:
    """Returns the predictor that copies κ of the nearest training row.

    Rows at the same, smallest distance share: the geometric mean of their κ, whatever their order.
    On composition features a polymorph twin has distance zero and is therefore found first.
    """
    from scipy.spatial.distance import cdist

    scale = _spread(rows.embeddings) if settings.standardise else 1.0
    known, logs = rows.embeddings / scale, log_kappa(rows.kappa)

    def predict(embeddings: Floats) -> Floats:
        kappa = np.empty(len(embeddings))
        for start in range(0, len(embeddings), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            distances = cdist(embeddings[part] / scale, known, SCIPY_NAMES[settings.distance])
            smallest = distances.min(axis=1, keepdims=True)
            nearest = distances <= smallest * (1 + TIE) + TIE
            kappa[part] = 10 ** (nearest @ logs / nearest.sum(axis=1))
        return kappa

    return predict


def _spread(embeddings: Floats) -> Floats:
    """Returns the standard deviation of every feature, 1 for those that do not vary.

    The standard deviation of equal numbers may differ from zero by rounding, their range not.
    """
    return np.where(np.ptp(embeddings, axis=0) > 0, embeddings.std(axis=0), 1.0)
