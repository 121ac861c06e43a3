"""A random forest for log10 κ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import FitRows, PluginError, Predictor
from harness_baselines.logarithm import log_kappa

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_baselines import ForestSettings


def fit_forest(settings: ForestSettings, rows: FitRows) -> Predictor:
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
        **settings.model_dump(),
        random_state=rows.seed % 2**32,
        n_jobs=1,
    )
    forest.fit(rows.embeddings, log_kappa(rows.kappa))

    def predict(embeddings: Floats) -> Floats:
        return np.asarray(10 ** forest.predict(embeddings))

    return predict
