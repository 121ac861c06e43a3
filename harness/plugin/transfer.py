"""Transfers, how a model is carried over: what a plugin hands over."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness.errors import PluginError
from harness.plugin.function import Function
from harness.plugin.settings import Settings

if TYPE_CHECKING:
    from harness.plugin.backbone import Layers
    from harness.plugin.ranges import Space

Start = Literal["random", "pretrained", "previous"]


@dataclass(frozen=True)
class Target:
    """What a transfer strategy is asked for.

    Attributes:
        dataset: name of the dataset that the last stage must fit.
        layers: of the model, from input to output, as prefixes of parameter names such as
            `backbone.block1`; the last one is `("head",)`.
        parameters: names of the parameters that training can move, and the shape of each in one
            member. The model is only made if a strategy looks into it.
    """

    dataset: str
    layers: Layers
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that a stage trains differently from the others.

    Attributes:
        prefixes: of parameter names, as in `Target.layers`.
        lr_factor: their learning rate, relative to the stage's.
        asleep_for: share of the stage's epochs, from the first, during which they stay.
        pull: strength α of the penalty α/2·|w − w₀|² towards the weights w₀ that the stage starts
            from (L2-SP; Li et al., arXiv 1802.01483), added to the gradient as `weight_decay` is.
    """

    prefixes: tuple[str, ...]
    lr_factor: float = 1.0
    asleep_for: float = 0.0
    pull: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lr_factor > 0 and 0 <= self.asleep_for < 1 and self.pull >= 0):
            raise PluginError(
                f"{self}: expected lr_factor > 0, 0 ≤ asleep_for < 1 and pull ≥ 0. "
                "Parameters that never move belong in `freeze`."
            )


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates of weights that stay themselves (LoRA; Hu et al., arXiv 2106.09685).

    A weight W becomes W + alpha/rank · B·A, of which A and B alone are trained. B starts at 0, so
    that the stage begins with the function that it starts from. What is stored is the sum.

    Attributes:
        prefixes: of parameter names, as in `Target.layers`; those of linear layers (`StackedLinear`
            and, inside `Stacked`, `torch.nn.Linear`) are updated. They may be frozen: what is
            added is trained nevertheless, as parameters of no group.
        rank: of the updates. A matrix whose shorter side is not longer has one of that rank.
        alpha: their strength.
    """

    prefixes: tuple[str, ...]
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        if not (self.prefixes and self.rank >= 1 and self.alpha > 0):
            raise PluginError(f"{self}: expected prefixes, rank ≥ 1 and alpha > 0.")


@dataclass(frozen=True)
class Stage:
    """One fit of a transfer strategy.

    Attributes:
        dataset: the dataset to fit.
        start: where the backbone's weights come from: `random`, `pretrained`, or `previous` (then
            the head continues too, where it fits the same property).
        training: training settings that differ from the benchmark's in this stage.
        freeze: prefixes of parameter names (`backbone`, `head`, `backbone.block1`, …) that stay.
        groups: parameters that are trained differently from the others; none in two groups.
        alongside: datasets that are fitted at the same time, each with a head of its own, and the
            weight of their loss beside that of `dataset`. Every step takes as many rows of each as
            of `dataset`; an epoch is one pass over `dataset`.
        new_head: whether a stage that starts from `previous` begins with a new head, and a scaler
            of its own.
        lr_factor: the learning rate, relative to what the benchmark and `training` say; a rate
            that a search has found stays as it is.
        adapters: low-rank updates of weights; none of a weight that another updates.
    """

    dataset: str
    start: Start
    training: Mapping[str, Any] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    groups: tuple[ParameterGroup, ...] = ()
    alongside: Mapping[str, float] = field(default_factory=dict)
    new_head: bool = False
    lr_factor: float = 1.0
    adapters: tuple[Adapter, ...] = ()

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise PluginError(
                f"The stage on {self.dataset!r} starts from {self.start!r}. "
                f"Known: {', '.join(get_args(Start))}."
            )
        if self.new_head and self.start != "previous":
            raise PluginError(
                f"The stage on {self.dataset!r} starts from {self.start!r}, where the head is new "
                "anyway: leave `new_head` out."
            )
        if not 0 < self.lr_factor < math.inf:
            raise PluginError(
                f"The stage on {self.dataset!r}: lr_factor = {self.lr_factor}. Expected a positive "
                "number. Parameters that never move belong in `freeze`."
            )


@dataclass(frozen=True)
class TransferSpec:
    """A transfer strategy by name: it returns its stages and owns no training loop.

    Attributes:
        name: as it is written in a benchmark file.
        summary: one line for `harness plugins list`.
        settings: typed settings; a benchmark file may set exactly its fields.
        stages: (settings, target) → stages, the last of which fits the target's dataset; an empty
            sequence where the strategy makes no sense for that target (its own source, say).
        space: what a search may vary.
    """

    name: str
    summary: str
    settings: type[Settings] = Settings
    stages: Function[Callable[[Any, Target], Sequence[Stage]]] = Function()
    space: Space | None = None
