"""Ridge regression on the property's scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harness.plugin import FitRows, Predictor
from harness_heads.scaling import decode_finite, standardise
from harness_heads.threads import one_thread

if TYPE_CHECKING:
    from harness.plugin import Floats


def fit_ridge(rows: FitRows, alphas: Sequence[float]) -> Predictor:
    """Fits scikit-learn's `RidgeCV` to features standardised on the training rows.

    Args:
        rows: training rows.
        alphas: penalties to choose from, by the squared error of leave-one-out predictions.
    """
    scaler, targets = standardise(rows.targets, rows.property)
    law = make_pipeline(StandardScaler(), RidgeCV(list(alphas)))  # writes into a list of one
    with one_thread():
        law.fit(rows.embeddings, targets)

    def predict(embeddings: Floats) -> Floats:
        with one_thread():
            return decode_finite(scaler, law.predict(embeddings))

    return predict
