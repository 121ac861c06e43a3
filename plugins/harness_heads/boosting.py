"""Gradient boosting of decision trees on the property's scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor

from harness.plugin import FitRows, Predictor
from harness_heads.scaling import decode_finite, standardise

if TYPE_CHECKING:
    from harness.plugin import Floats


def fit_boosting(
    rows: FitRows,
    trees: int,
    learning_rate: float,
    depth: int,
    leaf_rows: int,
    rows_share: float,
    features_share: float,
) -> Predictor:
    """Fits scikit-learn's `GradientBoostingRegressor`, which works on one core.

    The rows are sorted first: what comes out does not depend on the order in which they come.

    Args:
        rows: training rows.
        trees: one after another.
        learning_rate: what each adds is multiplied by this.
        depth: of a tree.
        leaf_rows: in each leaf, at least.
        rows_share: of the rows, drawn anew for every tree.
        features_share: of the features, drawn anew for every split.
    """
    order = np.lexsort((*rows.embeddings.T, rows.targets))
    scaler, targets = standardise(rows.targets[order], rows.property)
    law: Any = GradientBoostingRegressor(
        n_estimators=trees,
        learning_rate=learning_rate,
        max_depth=depth,
        min_samples_leaf=leaf_rows,
        subsample=rows_share,
        max_features=features_share,
        random_state=rows.seed % 2**32,
    )
    law.fit(rows.embeddings[order], targets)

    def predict(embeddings: Floats) -> Floats:
        return decode_finite(scaler, law.predict(embeddings))

    return predict
