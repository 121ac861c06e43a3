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
    from harness.plugin.backbone import Blocks
    from harness.plugin.property import Needs, PropertySpec
    from harness.plugin.protocol import Scaler
    from harness.plugin.ranges import Space


@dataclass(frozen=True, eq=False)
class FitRows:
    """What one member's closed-form head is fitted to.

    Attributes:
        embeddings: training rows × width; not to be written to, as are those that the predictor
            gets.
        targets: labels in the property's unit, one per row; likewise.
        scaler: for heads that work on the scaled target.
        property: what the targets are: its scale is what most heads fit; see
            `PropertySpec.to_scale`.
        seed: for heads that draw random numbers.
        blocks: name and width of what the embeddings consist of, column after column; the whole
            of them is one block unless given. See `Backbone.blocks`.
    """

    embeddings: Floats
    targets: Floats
    scaler: Scaler
    property: PropertySpec
    seed: int
    blocks: Blocks = ()

    def __post_init__(self) -> None:
        width = self.embeddings.shape[1]
        if not self.blocks:
            object.__setattr__(self, "blocks", (("", width),))
        if sum(own for _, own in self.blocks) != width:
            raise PluginError(f"The blocks {self.blocks} are not of embeddings {width} wide.")


@dataclass(frozen=True, eq=False)
class Uncertain:
    """Predictions that say how sure they are.

    Attributes:
        median: of what is thought possible, in the property's unit, one per row.
        std: standard deviation on the property's scale, one per row: in decades where that is
            logarithmic, else in its unit.
    """

    median: Floats
    std: Floats


Predictor = Callable[["Floats"], "Floats | Uncertain"]
"""Embeddings, rows × width → values in the property's unit, one per row, with or without their
uncertainty."""


FIT_ON = "fit_on"
"""Says in a benchmark file, beside the settings of a head, what it is fitted on."""


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
            be cheap and depend on nothing else. Its rows are those to train on, and where a
            benchmark file says `fit_on = "train+validation"`, those to validate on too.
        space: what a search may vary.
        revision: of what it computes; see `BackboneSpec`.
        needs: what a property must have for the head to make sense, as in `MetricSpec`.
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
    needs: Needs = ""

    def __post_init__(self) -> None:
        if FIT_ON in getattr(self.settings, "model_fields", ()):  # what is no model is told later
            raise PluginError(
                f"The head {self.name!r} has a setting {FIT_ON!r}: that is a key of the benchmark "
                "file, for every head in closed form. Give the setting another name."
            )
        if (self.make is None) == (self.fit is None):
            given = "neither" if self.make is None else "both"
            raise PluginError(
                f"The head {self.name!r} gives {given} of `make` (trained by gradient) and `fit` "
                "(closed form): give exactly one."
            )
