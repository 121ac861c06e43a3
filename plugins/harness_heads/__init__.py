"""Heads: embedding → scaled target, by gradient; embedding → value, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, model_validator

from harness.plugin import (
    Choice,
    FitRows,
    HeadSpec,
    Predictor,
    Range,
    SearchSpace,
    Settings,
    hookimpl,
)

PositiveFinite = Annotated[FiniteFloat, Field(gt=0)]


class MlpSettings(Settings):
    """Settings of the head `mlp`; the defaults are the published ones.

    Attributes:
        hidden: widths of the hidden layers, first to last; with none the head is linear.
        activation: between layers; the last one has none.
        dropout: share of the values after every hidden layer that is left out in training.
    """

    hidden: tuple[PositiveInt, ...] = (450, 350, 350)
    activation: Literal["relu", "softplus", "silu"] = "relu"
    # Not mentioned where it is off, so that results from before there was one keep their keys.
    dropout: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda share: share == 0)


class RidgeSettings(Settings):
    """Settings of the head `ridge`.

    Attributes:
        alphas: penalties on the squared weights of standardised features, as in scikit-learn's
            `Ridge`; the best in leave-one-out is taken. One alone is fixed.
    """

    alphas: Annotated[tuple[PositiveFinite, ...], Field(min_length=1)] = tuple(
        10 ** (power / 2) for power in range(-6, 11)
    )


class GpSettings(Settings):
    """Settings of the head `gp`; its features are standardised, and so is the target.

    Attributes:
        kernel: `matern` (ν = 5/2: twice differentiable) or `rbf` (smooth), plus white noise.
        length_scales: `shared` by all features, one for each of the `blocks` of the embedding, or
            one for `each` feature (a hundred features and more then take minutes). Where there is
            one block, the first two are the same.
        noise: bounds of the variance of the noise, as a share of the variance of the target.
        restarts: of the search for the kernel's parameters, each from random ones.
        kernel_rows: with more training rows than these, the kernel's parameters are chosen on a
            random part of so many: a search takes dozens of steps of rows³ operations.
        max_rows: with more training rows than these, a random part of so many is learnt from and
            the others are left out: the fit takes rows² memory and rows³ operations, once.
    """

    kernel: Literal["matern", "rbf"] = "matern"
    # Not mentioned where it is as it was before there was one: results keep their keys.
    length_scales: Literal["shared", "blocks", "each"] = Field(
        default="shared", exclude_if=lambda scales: scales == "shared"
    )
    noise: tuple[PositiveFinite, PositiveFinite] = (1e-6, 10.0)
    restarts: NonNegativeInt = 1
    kernel_rows: PositiveInt = 500
    max_rows: PositiveInt = 5000

    @model_validator(mode="after")
    def _order(self) -> GpSettings:
        if self.noise[0] >= self.noise[1]:
            raise ValueError(f"noise = {list(self.noise)}: expected [lower, upper], lower < upper")
        return self


class BoostingSettings(Settings):
    """Settings of the head `boosting`, as of scikit-learn's `GradientBoostingRegressor`.

    Attributes:
        trees: number of trees.
        learning_rate: what each tree adds is multiplied by this.
        depth: of a tree.
        leaf_rows: training rows in each leaf of a tree, at least.
        rows_share: share of the rows that is drawn for every tree.
        features_share: share of the features that is drawn for every split.
    """

    trees: PositiveInt = 500
    learning_rate: PositiveFinite = 0.05
    depth: PositiveInt = 4
    leaf_rows: PositiveInt = 3
    rows_share: float = Field(default=0.7, gt=0, le=1)
    features_share: float = Field(default=0.3, gt=0, le=1)


@hookimpl
def register_heads() -> list[HeadSpec]:
    """Offers two heads trained by gradient and three fitted in closed form."""
    return [
        HeadSpec(
            name="mlp",
            summary="multilayer perceptron with any list of hidden layers (published: 450-350-350)",
            settings=MlpSettings,
            make="harness_heads.mlp:make_mlp",
            space=SearchSpace(
                {
                    "layers": Range(1, 4),
                    "width": Range(16, 512, log=True),
                    "activation": Choice("relu", "softplus", "silu"),
                    "dropout": Range(0.0, 0.5, step=0.1),
                },
                settle=_settle_mlp,
            ),
        ),
        HeadSpec(
            name="linear",
            summary="one linear layer, trained by gradient",
            make="harness_heads.mlp:make_linear",
        ),
        HeadSpec(
            name="ridge",
            summary="ridge regression, penalty by leave-one-out",
            settings=RidgeSettings,
            fit=_fit_ridge,
        ),
        HeadSpec(
            name="gp",
            summary="Gaussian process, with uncertainties",
            settings=GpSettings,
            fit=_fit_gp,
            # its parameters are chosen within the fit, as `ridge`'s penalty; a length for `each`
            # feature takes minutes with hundreds of them: a benchmark may add it
            space={
                "kernel": Choice("matern", "rbf"),
                "length_scales": Choice("shared", "blocks"),
            },
        ),
        HeadSpec(
            name="boosting",
            summary="gradient boosting of decision trees",
            settings=BoostingSettings,
            fit=_fit_boosting,
            space={
                "trees": Range(100, 1000, log=True),
                "learning_rate": Range(0.01, 0.3, log=True),
                "depth": Range(2, 6),
                "leaf_rows": Range(1, 20, log=True),
                "rows_share": Range(0.4, 1.0),
                "features_share": Range(0.1, 1.0),
            },
        ),
    ]


def _fit_ridge(settings: RidgeSettings, rows: FitRows) -> Predictor:
    from harness_heads.ridge import fit_ridge

    return fit_ridge(rows, **settings.model_dump())


def _fit_gp(settings: GpSettings, rows: FitRows) -> Predictor:
    from harness_heads.gaussian_process import fit_gaussian_process

    return fit_gaussian_process(rows, **dict(settings))


def _fit_boosting(settings: BoostingSettings, rows: FitRows) -> Predictor:
    from harness_heads.boosting import fit_boosting

    return fit_boosting(rows, **settings.model_dump())


def _settle_mlp(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hidden layers of one width, `layers` of them."""
    return {
        "hidden": (values["width"],) * values["layers"],
        "activation": values["activation"],
        "dropout": values["dropout"],
    }
