"""The multilayer perceptron, stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.plugin import Settings, StackedDropout, StackedLinear

if TYPE_CHECKING:
    from harness_heads import MlpSettings

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "softplus": functional.softplus,
    "silu": functional.silu,
}


class Mlp(nn.Module):
    """One multilayer perceptron per member, each initialised from its own generator.

    Args:
        generators: one per member.
        width: length of the embedding.
        hidden: widths of the hidden layers; may be empty.
        activation: `relu`, `softplus` or `silu`.
        dropout: share of the values after every hidden layer that is left out in training.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        width: int,
        hidden: Sequence[int],
        activation: str,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StackedLinear(generators, n_in, n_out) for n_in, n_out in pairwise((width, *hidden, 1))
        )
        self._activation = _ACTIVATIONS[activation]
        self.dropouts = nn.ModuleList(
            StackedDropout(generators, dropout) if dropout else nn.Identity() for _ in hidden
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Takes `members × batch × width` to scaled targets, `members × batch`."""
        *hidden, last = self.layers
        x = embeddings
        for layer, dropout in zip(hidden, self.dropouts, strict=True):
            x = dropout(self._activation(layer(x)))
        return torch.squeeze(last(x), -1)


def make_mlp(settings: MlpSettings, width: int, generators: Sequence[torch.Generator]) -> Mlp:
    """Makes the head `mlp`."""
    return Mlp(generators, width, settings.hidden, settings.activation, settings.dropout)


def make_linear(settings: Settings, width: int, generators: Sequence[torch.Generator]) -> Mlp:
    """Makes the head `linear`."""
    return Mlp(generators, width, (), "relu")
