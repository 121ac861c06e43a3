"""A random forest for log10 κ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import FitRows, PluginError, Predictor
from harness_baselines.logarithm import log_kappa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def fit_forest(
    rows: FitRows, n_estimators: int, max_features: float, min_samples_leaf: int
) -> Predictor:
    """Fits scikit-learn's `RandomForestRegressor`, on one core and seeded by the rows' seed.

    Raises:
        PluginError: scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError as problem:
        raise PluginError(
            "The head 'random-forest' needs scikit-learn: "
            "install the extra with `pip install 'paraisite-harness[baselines]'`, "
            "or take the head out of the benchmark file."
        ) from problem
    forest = RandomForestRegressor(
        n_estimators,
        max_features=max_features,
        min_samples_leaf=min_samples_leaf,
        random_state=rows.seed % 2**32,
        n_jobs=1,
    )
    forest.fit(rows.embeddings, log_kappa(rows.kappa))

    def predict(embeddings: Floats) -> Floats:
        return np.asarray(10 ** forest.predict(embeddings))

    return predict
