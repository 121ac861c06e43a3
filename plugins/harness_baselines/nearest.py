"""One nearest neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import FitRows, Predictor

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
    """Returns the predictor that copies the target of the nearest training row.

    Rows at the same, smallest distance share: the mean of theirs on the property's scale.
    On composition features a polymorph twin has distance zero and is therefore found first.
    """
    from scipy.spatial.distance import cdist

    scale = _spread(rows.embeddings) if settings.standardise else 1.0
    known, targets = rows.embeddings / scale, rows.property.to_scale(rows.targets)

    def predict(embeddings: Floats) -> Floats:
        found = np.empty(len(embeddings))
        for start in range(0, len(embeddings), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            distances = cdist(embeddings[part] / scale, known, SCIPY_NAMES[settings.distance])
            smallest = distances.min(axis=1, keepdims=True)
            nearest = distances <= smallest * (1 + TIE) + TIE
            found[part] = nearest @ targets / nearest.sum(axis=1)
        return rows.property.from_scale(found)

    return predict


def _spread(embeddings: Floats) -> Floats:
    """Returns the standard deviation of every feature, 1 for those that do not vary.

    The standard deviation of equal numbers may differ from zero by rounding, their range not.
    """
    return np.where(np.ptp(embeddings, axis=0) > 0, embeddings.std(axis=0), 1.0)
