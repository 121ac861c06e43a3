"""Losses of a stack: one number per member, empty places left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from harness.plugin.metric import MAPE_FLOOR

if TYPE_CHECKING:
    from harness.planning.training_settings import Loss
    from harness.plugin.protocol import Scaler


@dataclass(frozen=True)
class Decoder:
    """The scalers of all members as tensors, each `members × 1`.

    Attributes:
        offset: none on a linear scale.
    """

    offset: Tensor | None
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, scalers: Sequence[Scaler], device: torch.device) -> Decoder:
        """Puts one scaler per member side by side."""

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).unsqueeze(1)

        offsets = [s.offset for s in scalers if s.offset is not None]
        return cls(
            column(offsets) if offsets else None,
            column([s.mean for s in scalers]),
            column([s.std for s in scalers]),
        )

    def of_members(self, members: Sequence[int]) -> Decoder:
        """The scalers of some members."""
        chosen = list(members)
        offset = None if self.offset is None else self.offset[chosen]
        return Decoder(offset, self.mean[chosen], self.std[chosen])

    def decode(self, scaled: Tensor) -> Tensor:
        """Scaled targets → targets, both `members × batch`; may overflow to infinity."""
        y = scaled * self.std + self.mean
        return y if self.offset is None else torch.pow(10.0, y) - self.offset


@dataclass(frozen=True)
class Targets:
    """What one step is trained towards.

    Attributes:
        labels: in the property's unit, `members × batch`.
        scaled: the same, encoded by each member's scaler.
        used: False at empty places, where the other two may hold anything.
    """

    labels: Tensor
    scaled: Tensor
    used: Tensor


def _mape(output: Tensor, scaled: Tensor, labels: Tensor, decoder: Decoder) -> Tensor:
    return (decoder.decode(output) - labels).abs() / labels.abs().clamp(min=MAPE_FLOOR)


def _mae(output: Tensor, scaled: Tensor, labels: Tensor, decoder: Decoder) -> Tensor:
    return (output - scaled).abs()


def _mse(output: Tensor, scaled: Tensor, labels: Tensor, decoder: Decoder) -> Tensor:
    return (output - scaled).square()


def _huber(output: Tensor, scaled: Tensor, labels: Tensor, decoder: Decoder) -> Tensor:
    return functional.huber_loss(output, scaled, reduction="none", delta=1.0)


_LOSSES: Mapping[Loss, Callable[[Tensor, Tensor, Tensor, Decoder], Tensor]] = {
    "mape": _mape,
    "mae-log": _mae,
    "mae": _mae,
    "mse": _mse,
    "huber": _huber,
}


def member_losses(
    losses: Sequence[Loss], output: Tensor, targets: Targets, decoder: Decoder
) -> Tensor:
    """Mean loss of each member over its used places.

    Args:
        losses: the name of each member's.
        output: scaled predictions, `members × batch`.
        targets: labels and the places that are used.
        decoder: each member's scaler.

    Returns:
        `members`; 0, with a gradient of exactly 0, where a member uses no place.
    """
    used = targets.used
    # Empty places are made harmless before the loss, not only after it: the gradient of an
    # overflow there would be 0 · ∞ = NaN.
    output = torch.where(used, output, 0.0)
    scaled = torch.where(used, targets.scaled, 0.0)
    labels = torch.where(used, targets.labels, 1.0)
    kinds = list(dict.fromkeys(losses))
    if len(kinds) == 1:
        places = _LOSSES[kinds[0]](output, scaled, labels, decoder)
    else:
        # Each loss sees its own members alone, for the same reason.
        owners = [[m for m, own in enumerate(losses) if own == kind] for kind in kinds]
        parts = [
            _LOSSES[kind](output[own], scaled[own], labels[own], decoder.of_members(own))
            for kind, own in zip(kinds, owners, strict=True)
        ]
        order = torch.tensor([m for own in owners for m in own], device=output.device)
        places = torch.cat(parts)[order.argsort()]
    return torch.where(used, places, 0.0).sum(dim=1) / used.sum(dim=1).clamp(min=1)
