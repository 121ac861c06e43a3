"""Losses of a stack: one number per member, empty places left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from harness.contracts import MAPE_FLOOR

if TYPE_CHECKING:
    from harness.contracts import Scaler
    from harness.training_settings import Loss


@dataclass(frozen=True)
class Decoder:
    """The scalers of all members as tensors, each `members × 1`."""

    offset: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, scalers: Sequence[Scaler], device: torch.device) -> Decoder:
        """Puts one scaler per member side by side."""

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(1)

        return cls(
            column([s.offset for s in scalers]),
            column([s.mean for s in scalers]),
            column([s.std for s in scalers]),
        )

    def decode(self, scaled: Tensor) -> Tensor:
        """Scaled targets → κ in W/(m·K), both `members × batch`; may overflow to infinity."""
        return torch.pow(10.0, scaled * self.std + self.mean) - self.offset


@dataclass(frozen=True)
class Targets:
    """What one step is trained towards.

    Attributes:
        kappa: labels, W/(m·K), `members × batch`.
        scaled: the same, encoded by each member's scaler.
        used: False at empty places, where the other two may hold anything.
    """

    kappa: Tensor
    scaled: Tensor
    used: Tensor


def _mape(output: Tensor, scaled: Tensor, kappa: Tensor, decoder: Decoder) -> Tensor:
    return (decoder.decode(output) - kappa).abs() / kappa.abs().clamp(min=MAPE_FLOOR)


def _mae_log(output: Tensor, scaled: Tensor, kappa: Tensor, decoder: Decoder) -> Tensor:
    return (output - scaled).abs()


def _mse(output: Tensor, scaled: Tensor, kappa: Tensor, decoder: Decoder) -> Tensor:
    return (output - scaled).square()


def _huber(output: Tensor, scaled: Tensor, kappa: Tensor, decoder: Decoder) -> Tensor:
    return functional.huber_loss(output, scaled, reduction="none", delta=1.0)


_LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, Tensor, Decoder], Tensor]] = {
    "mape": _mape,
    "mae-log": _mae_log,
    "mse": _mse,
    "huber": _huber,
}


def member_losses(loss: Loss, output: Tensor, targets: Targets, decoder: Decoder) -> Tensor:
    """Mean loss of each member over its used places.

    Args:
        loss: its name.
        output: scaled predictions, `members × batch`.
        targets: labels and the places that are used.
        decoder: each member's scaler.

    Returns:
        `members`; 0, with a gradient of exactly 0, where a member uses no place.
    """
    used = targets.used
    # Empty places are made harmless before the loss, not only after it: the gradient of an
    # overflow there would be 0 · ∞ = NaN.
    places = _LOSSES[loss](
        torch.where(used, output, 0.0),
        torch.where(used, targets.scaled, 0.0),
        torch.where(used, targets.kappa, 1.0),
        decoder,
    )
    return torch.where(used, places, 0.0).sum(dim=1) / used.sum(dim=1).clamp(min=1)
