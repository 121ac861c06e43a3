"""How a stage is trained, as it is written in a benchmark file. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from harness.plugin.property import Needs, PropertySpec
from harness.plugin.ranges import Choice, Parameter, Range
from harness.plugin.settings import Settings

MOST_EPOCHS = 1_000_000
MOST_ROWS = 1_000_000
"""Of one batch."""

Loss = Literal["mape", "mae-log", "mae", "mse", "huber"]

LOSS_NEEDS: Mapping[Loss, Needs] = {
    "mape": "positive",
    "mae-log": "log",
    "mae": "",
    "mse": "",
    "huber": "",
}
"""What a property must have for a loss to make sense."""


class TrainingSettings(Settings):
    """Settings of one fit; the defaults are those of the published study.

    Attributes:
        epochs: passes over the training rows.
        batch_size: rows per member and step.
        lr: learning rate of Adam at the first epoch.
        weight_decay: L2 penalty of Adam (added to the gradient), per unit of weight.
        loss: `mape` of the target as it is; `mae`, `mse` and `huber` (δ = 1) of the scaled target
            (see `Scaler`), `mae-log` being what `mae` is called on a log scale. Unless given, that
            of the property: `mape` on a log scale, `mae` on a linear one.
        schedule: `cosine` (see `lr_at`) or `constant`.
        cosine_period_epochs: epochs from one maximum of the learning rate to the next.
        lr_floor_fraction: lowest learning rate, as a fraction of `lr`.
        clip_norm: largest norm of one member's gradient; longer ones are shortened to it.
        patience: epochs without a better validation score after which a member stops; none: never.
    """

    epochs: int = Field(default=300, ge=1, le=MOST_EPOCHS)
    batch_size: int = Field(default=8, ge=1, le=MOST_ROWS)
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    loss: Loss | None = None
    schedule: Literal["constant", "cosine"] = "cosine"
    cosine_period_epochs: PositiveFloat = 1000.0
    lr_floor_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    clip_norm: PositiveFloat | None = None
    patience: PositiveInt | None = None

    def lr_at(self, epoch: int) -> float:
        """Learning rate of an epoch; the first is epoch 0.

        The published script's schedule (`CosineAnnealingLR` with T_max 1000, stepped twice per
        epoch): lr(e) = lr·(f + (1 − f)·½(1 + cos(2πe / period))), f = `lr_floor_fraction`.
        """
        if self.schedule == "constant":
            return self.lr
        wave = 0.5 * (1.0 + cos(2.0 * pi * epoch / self.cosine_period_epochs))
        return self.lr * (self.lr_floor_fraction + (1.0 - self.lr_floor_fraction) * wave)


def loss_of(spec: PropertySpec) -> Loss:
    """Returns the loss of a property for which none is given."""
    return "mape" if spec.is_log else "mae"


def training_space(spec: PropertySpec) -> Mapping[str, Parameter]:
    """Returns what a search varies in the training settings of a configuration's last stage.

    Epochs are not among them: a benchmark may add them, as `epochs = { low = 50, high = 300 }`.

    Args:
        spec: the property that is fitted.
    """
    return {
        "lr": Range(1e-4, 1e-2, log=True),
        "weight_decay": Range(1e-6, 1e-2, log=True),
        "batch_size": Choice(8, 16, 32),
        "loss": Choice("mae-log" if spec.is_log else "mae", "huber", "mse"),
        "schedule": Choice("cosine", "constant"),
        "cosine_period_epochs": Range(100.0, 1000.0, log=True),
    }
