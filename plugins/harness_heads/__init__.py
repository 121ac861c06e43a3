"""Heads: embedding → scaled target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from harness import HeadSpec, Settings, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import nn


class MlpSettings(Settings):
    """Settings of the head `mlp`; the defaults are the published ones.

    Attributes:
        hidden: widths of the hidden layers, first to last; with none the head is linear.
        activation: between layers; the last one has none.
    """

    hidden: tuple[PositiveInt, ...] = (450, 350, 350)
    activation: Literal["relu", "softplus", "silu"] = "relu"


def _make_mlp(
    settings: MlpSettings, width: int, generators: Sequence[torch.Generator]
) -> nn.Module:
    from harness_heads.mlp import Mlp

    return Mlp(generators, width, settings.hidden, settings.activation)


@hookimpl
def register_heads() -> list[HeadSpec]:
    """Offers the multilayer perceptron."""
    return [
        HeadSpec(
            name="mlp",
            summary="multilayer perceptron with any list of hidden layers (published: 450-350-350)",
            settings=MlpSettings,
            make=_make_mlp,
        )
    ]
