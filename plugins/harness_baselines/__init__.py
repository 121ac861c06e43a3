"""Trivial and classical baselines: heads fitted in closed form to a backbone as it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from harness.plugin import HeadSpec, Settings, hookimpl


class ConstantSettings(Settings):
    """Settings of the head `best-constant`.

    Attributes:
        metric: what the constant minimises (for `r2`, `r2-log`: maximises) on the training rows;
            that of the property unless given.
    """

    metric: Literal["mape", "mae", "rmse", "r2", "mae-log", "rmse-log", "r2-log"] | None = None


class NearestSettings(Settings):
    """Settings of the head `nearest`.

    Attributes:
        distance: between embeddings. On element fractions half the `manhattan` distance is the
            share of atoms that differ.
        standardise: divide every feature by its standard deviation over the training rows; for
            embeddings whose features have different units.
    """

    distance: Literal["manhattan", "euclidean"] = "manhattan"
    standardise: bool = False


class ForestSettings(Settings):
    """Settings of the head `random-forest`, as in scikit-learn's `RandomForestRegressor`.

    Attributes:
        n_estimators: trees.
        max_features: share of the features that a split may choose from.
        min_samples_leaf: training rows in a leaf, at least.
    """

    n_estimators: PositiveInt = 100
    max_features: Annotated[float, Field(gt=0, le=1)] = 1 / 3
    min_samples_leaf: PositiveInt = 1


@hookimpl
def register_heads() -> Iterable[HeadSpec]:
    """Offers the baselines; the first three ignore the embeddings."""
    yield HeadSpec(
        name="best-constant",
        summary="the constant that is best for one metric on the training rows",
        settings=ConstantSettings,
        fit="harness_baselines.constant:fit_best_constant",
    )
    yield HeadSpec(
        name="mean",
        summary="the mean over the training rows, on the property's scale",
        fit="harness_baselines.constant:fit_mean",
    )
    yield HeadSpec(
        name="mean-log",
        summary="the geometric mean over the training rows",
        fit="harness_baselines.constant:fit_mean",
        needs="log",
    )
    yield HeadSpec(
        name="nearest",
        summary="the target of the nearest training row; a polymorph twin where there is one",
        settings=NearestSettings,
        fit="harness_baselines.nearest:fit_nearest",
    )
    yield HeadSpec(
        name="random-forest",
        summary="random forest on the property's scale",
        settings=ForestSettings,
        fit="harness_baselines.forest:fit_forest",
    )
