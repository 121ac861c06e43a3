"""A random forest on the property's scale: for log10 κ, say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.ensemble import RandomForestRegressor

from harness.plugin import FitRows, Predictor

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_baselines import ForestSettings


def fit_forest(settings: ForestSettings, rows: FitRows) -> Predictor:
    """Fits scikit-learn's `RandomForestRegressor`, on one core and seeded by the rows' seed."""
    forest = RandomForestRegressor(
        **settings.model_dump(),
        random_state=rows.seed % 2**32,
        n_jobs=1,
    )
    forest.fit(rows.embeddings, rows.property.to_scale(rows.targets))

    def predict(embeddings: Floats) -> Floats:
        return rows.property.from_scale(forest.predict(embeddings))

    return predict
