"""Heads, embedding → target: what a plugin hands over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import PluginError
from harness.plugin.function import Function
from harness.plugin.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from harness.plugin.arrays import Floats
    from harness.plugin.protocol import Scaler
    from harness.plugin.ranges import Space


@dataclass(frozen=True, eq=False)
class FitRows:
    """What one member's closed-form head is fitted to.

    Attributes:
        embeddings: training rows × width; not to be written to, as are those that the predictor
            gets.
        kappa: labels in W/(m·K), one per row; likewise.
        scaler: for heads that work on the scaled target.
        seed: for heads that draw random numbers.
    """

    embeddings: Floats
    kappa: Floats
    scaler: Scaler
    seed: int


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Predictions that say how sure they are.

    Attributes:
        kappa: κ in W/(m·K), one per row; the median of what is thought possible.
        std_log: standard deviation of log10 κ, in decades, one per row.
    """

    kappa: Floats
    std_log: Floats


Predictor = Callable[["Floats"], "Floats | Uncertain"]
"""Embeddings, rows × width → κ in W/(m·K), one per row, with or without its uncertainty."""


@dataclass(frozen=True)
class HeadSpec:
    """A head by name: trained by gradient together with the backbone, or fitted in closed form.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        make: (settings, width, generators) → stacked module whose `forward` takes embeddings
            `members × batch × width` to scaled targets `members × batch`. A module in it with a
            method `begin_epoch(epoch)` is called before every epoch of training, from epoch 0.
        fit: instead of `make`: (settings, rows of one member) → predictor. The backbone then stays
            as it starts, and the fit is made anew from its rows whenever it is needed, so it must
            be cheap and depend on nothing else.
        space: what a search may vary.
        revision: of what it computes; see `BackboneSpec`.
    """

    name: str
    summary: str
    settings: type[Settings] = Settings
    make: Function[Callable[[Any, int, Sequence[torch.Generator]], nn.Module] | None] = Function(
        None
    )
    fit: Function[Callable[[Any, FitRows], Predictor] | None] = Function(None)
    space: Space | None = None
    revision: int = 1

    def __post_init__(self) -> None:
        if (self.make is None) == (self.fit is None):
            given = "neither" if self.make is None else "both"
            raise PluginError(
                f"The head {self.name!r} gives {given} of `make` (trained by gradient) and `fit` "
                "(closed form): give exactly one."
            )
