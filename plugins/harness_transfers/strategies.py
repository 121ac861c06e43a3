"""The strategies: from settings and a target to stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, PositiveFloat, PositiveInt, model_validator

from harness.plugin import Adapter, ParameterGroup, Settings, Stage, Target

NAMED = Field(validation_alias=AliasChoices("source", "sources"))
"""`source = "A"`, or `sources = ["A", "B"]`; they may be of other properties than the target."""

OneOrMore = str | Annotated[tuple[str, ...], Field(min_length=1)]


class Beginning(Settings):
    """Where fine-tuning begins: at published weights, or at a model fitted to sources.

    Attributes:
        source: dataset of the first stage, or those of the first stages, one after the other; none
            where fine-tuning starts from published weights.
        source_start: where the first stage's backbone starts.
        source_epochs: epochs of a source stage; the benchmark's where absent.
        source_lr: learning rate of a source stage; the benchmark's where absent.
        new_head: whether the target has a new head, and a scaler of its own, where a source of the
            same property could hand on both.
    """

    source: Annotated[OneOrMore | None, NAMED] = None
    source_start: Literal["pretrained", "random"] = "pretrained"
    source_epochs: int | None = Field(default=None, ge=1)
    source_lr: PositiveFloat | None = None
    new_head: bool = False


class TwoStage(Beginning):
    """Settings of `two-stage`: those of `Beginning`, with a source."""

    source: Annotated[OneOrMore, NAMED]


class Frozen(Beginning):
    """Settings of `frozen`.

    Attributes:
        layers: how many of the backbone's layers stay, from the input; all of them where absent.
    """

    layers: PositiveInt | None = None


class GradualUnfreeze(Beginning):
    """Settings of `gradual-unfreeze`.

    Attributes:
        until: share of the epochs after which all layers are trained.
    """

    until: float = Field(default=0.5, gt=0, lt=1)


class LayerwiseLr(Beginning):
    """Settings of `layerwise-lr`.

    Attributes:
        decay: factor of the learning rate from one layer to the one before it.
    """

    decay: float = Field(default=0.7, gt=0, le=1)


class L2Sp(Beginning):
    """Settings of `l2-sp`.

    Attributes:
        strength: α of the penalty α/2·|w − w₀|² on the backbone's weights.
    """

    strength: PositiveFloat = 0.01


class BitFit(Beginning):
    """Settings of `bitfit`.

    Attributes:
        lr_factor: learning rate on the target, relative to the benchmark's.
    """

    lr_factor: PositiveFloat = 1.0


class Lora(Beginning):
    """Settings of `lora`.

    Attributes:
        rank: of the updates.
        alpha: their strength; updates are multiplied by alpha / rank.
        layers: how many of the backbone's layers are updated, from its output; all where absent.
        prefixes: of names of parameters, in place of `layers`, such as `backbone.block3`.
        lr_factor: learning rate on the target, relative to the benchmark's.
    """

    rank: PositiveInt = 4
    alpha: PositiveFloat = 8.0
    layers: PositiveInt | None = None
    prefixes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    lr_factor: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _says_once_where(self) -> Lora:
        if self.layers is not None and self.prefixes is not None:
            raise ValueError("`layers` and `prefixes` say the same in two ways: give one of them")
        return self


class Joint(Settings):
    """Settings of `joint`.

    Attributes:
        source: dataset that is fitted together with the target, or several.
        start: where the backbone starts.
        source_weight: weight of a source's loss; the target's has 1.
    """

    source: Annotated[OneOrMore, NAMED]
    start: Literal["pretrained", "random"] = "pretrained"
    source_weight: PositiveFloat = 1.0


def fixed(_settings: Settings, target: Target) -> Sequence[Stage]:
    """Fits the head; a backbone that is fixed brings its weights, if it has any, by itself."""
    return (Stage(target.dataset, "random"),)


def scratch(_settings: Settings, target: Target) -> Sequence[Stage]:
    """Fits the target from random weights."""
    return (Stage(target.dataset, "random"),)


def pretrained(_settings: Settings, target: Target) -> Sequence[Stage]:
    """Fits the target from the backbone's pretrained weights, with a new head."""
    return (Stage(target.dataset, "pretrained"),)


def two_stage(settings: TwoStage, target: Target) -> Sequence[Stage]:
    """Fits the sources, one after the other, then continues on the target.

    The head goes on too, from stages that fit the same property.

    The first stage equals that of `pretrained` (or `scratch`) on the source unless `source_epochs`
    is set, so that a benchmark with both trains it once.
    """
    return _fine_tuned(settings, target)


def frozen(settings: Frozen, target: Target) -> Sequence[Stage]:
    """Fits the head, and what is between it and the layers that stay as they start."""
    *backbone, _ = target.layers
    if settings.layers is None or settings.layers >= len(backbone):
        return _fine_tuned(settings, target, freeze=("backbone",))
    still = tuple(name for layer in backbone[: settings.layers] for name in layer)
    return _fine_tuned(settings, target, freeze=still)


def gradual_unfreeze(settings: GradualUnfreeze, target: Target) -> Sequence[Stage]:
    """Trains the head first, then one more layer at a time, from the head towards the input.

    Source: Howard & Ruder, arXiv 1801.06146, section 3.3; there a layer wakes every epoch.
    """
    *backbone, _ = target.layers
    groups = tuple(
        ParameterGroup(prefixes, asleep_for=settings.until * awake / len(backbone))
        for awake, prefixes in enumerate(reversed(backbone), start=1)
    )
    return _fine_tuned(settings, target, groups=groups)


def layerwise_lr(settings: LayerwiseLr, target: Target) -> Sequence[Stage]:
    """Trains every layer more slowly than the one after it; the head at full rate.

    Source: "discriminative fine-tuning", Howard & Ruder, arXiv 1801.06146, section 3.1.
    """
    *backbone, _ = target.layers
    groups = tuple(
        ParameterGroup(prefixes, lr_factor=settings.decay**depth)
        for depth, prefixes in enumerate(reversed(backbone), start=1)
    )
    return _fine_tuned(settings, target, groups=groups)


def l2_sp(settings: L2Sp, target: Target) -> Sequence[Stage]:
    """Pulls the backbone towards the weights that it starts from.

    Source: L2-SP, Li et al., arXiv 1802.01483; the penalty on what is new, the head, is the
    training setting `weight_decay`.
    """
    groups = (ParameterGroup(("backbone",), pull=settings.strength),)
    return _fine_tuned(settings, target, groups=groups)


def bitfit(settings: BitFit, target: Target) -> Sequence[Stage]:
    """Trains the head, and of the backbone the biases alone.

    Source: Ben Zaken et al., arXiv 2106.10199. A backbone without biases is trained as by `frozen`.
    """
    backbone = [name for name in target.parameters if name.startswith("backbone.")]
    still = [name for name in backbone if not name.rpartition(".")[2].startswith("bias")]
    freeze = tuple(still) if len(still) < len(backbone) else ("backbone",)
    return _fine_tuned(settings, target, freeze=freeze, lr_factor=settings.lr_factor)


def lora(settings: Lora, target: Target) -> Sequence[Stage]:
    """Trains the head, and low-rank updates of the backbone's linear layers.

    Source: Hu et al., arXiv 2106.09685.
    """
    *backbone, _ = target.layers
    prefixes = settings.prefixes
    if prefixes is None:
        whole = settings.layers is None or settings.layers >= len(backbone)
        last = backbone[-(settings.layers or 0) :]
        prefixes = ("backbone",) if whole else tuple(name for layer in last for name in layer)
    return _fine_tuned(
        settings,
        target,
        freeze=("backbone",),
        adapters=(Adapter(prefixes, settings.rank, settings.alpha),),
        lr_factor=settings.lr_factor,
    )


def joint(settings: Joint, target: Target) -> Sequence[Stage]:
    """Fits sources and target at the same time: one backbone, a head for each."""
    sources = _named(settings.source)
    if target.dataset in sources:
        return ()
    alongside = dict.fromkeys(sources, settings.source_weight)
    return (Stage(target.dataset, settings.start, alongside=alongside),)


def _fine_tuned(
    settings: Beginning,
    target: Target,
    **last: Any,
) -> Sequence[Stage]:
    """Returns the stages that end with one on the target, which is as `last` says.

    There are none on a source itself.
    """
    if settings.source is None:
        return (Stage(target.dataset, "pretrained", **last),)
    first, *more = sources = _named(settings.source)
    if target.dataset in sources:
        return ()
    asked = {"epochs": settings.source_epochs, "lr": settings.source_lr}
    training = {name: value for name, value in asked.items() if value is not None}
    return (
        Stage(first, settings.source_start, training=training),
        *(Stage(source, "previous", training=training) for source in more),
        Stage(target.dataset, "previous", new_head=settings.new_head, **last),
    )


def _named(source: OneOrMore) -> tuple[str, ...]:
    return (source,) if isinstance(source, str) else source
