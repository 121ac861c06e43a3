"""The rows of a table: every model with every transfer strategy on every target that it can fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from harness.errors import BenchmarkError, HarnessError, PluginError, WeightsError
from harness.nn.published_weights import find_weights_file
from harness.planning.benchmark import Benchmark, Model, check_settings
from harness.planning.chosen_settings import Setting
from harness.planning.component_ref import ComponentRef, NamedComponents
from harness.planning.plan import digest_of, optional
from harness.planning.resolved import (
    Configuration,
    ResolvedBackbone,
    ResolvedModel,
    ResolvedProtocol,
    ResolvedTransfer,
)
from harness.planning.trainable import find_trainable
from harness.plugin.backbone import Backbone, BackboneSpec, Layers, PretrainedWeights
from harness.plugin.cell import FIXED
from harness.plugin.head import FIT_ON, HeadSpec
from harness.plugin.protocol import ProtocolRules
from harness.plugin.settings import Settings
from harness.plugin.transfer import Stage, Target
from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry


ROWS_TO_FIT = ("train", "train+validation")
"""What heads in closed form may be fitted on; the first unless said otherwise."""


def reconfigure(
    one: Configuration, setting: Setting, registry: Registry, locations: Locations
) -> Configuration:
    """Returns a configuration with other settings, which go over its own.

    Raises:
        HarnessError: a setting is unknown or has a wrong value, or cannot be carried out.
    """
    assert one.transfer is not None
    model = one.model
    if setting.backbone or setting.head:
        model = resolve_model(
            model.backbone_ref.with_settings(setting.backbone),
            model.head_ref.with_settings(setting.head),
            registry,
            locations,
        )
    transfer = resolve_transfer(one.transfer.ref.with_settings(setting.transfer), registry)
    stages = _stages(transfer, model, one.target)
    return Configuration(model, transfer, one.target, stages, one.own, setting.training)


def resolve_transfer(ref: ComponentRef, registry: Registry) -> ResolvedTransfer:
    """Looks up a transfer strategy and checks its settings."""
    spec = registry.transfers[ref.name]
    settings = check_settings(spec.settings, ref.settings, f"transfer {ref.name!r}")
    return ResolvedTransfer(ref, spec, settings)


def resolve_protocol(ref: ComponentRef, registry: Registry) -> ResolvedProtocol:
    """Looks up a protocol, checks its settings, and makes its rules."""
    spec = registry.protocols[ref.name]
    settings = check_settings(spec.settings, ref.settings, f"protocol {ref.name!r}")
    action = f"making the protocol {ref.name!r}"
    rules: ProtocolRules = call(spec.make, settings, action=action, returns=ProtocolRules)
    return ResolvedProtocol(ref, rules)


def resolve_backbone(
    ref: ComponentRef, registry: Registry, locations: Locations
) -> ResolvedBackbone:
    """Looks up a backbone, checks its settings, and makes it, those that it is made of first.

    Raises:
        HarnessError: the name or a setting is unknown, or weights that a setting names are missing.
    """
    spec = registry.backbones[ref.name]
    settings = check_settings(spec.settings, ref.settings, f"backbone {ref.name!r}")
    written = settings.model_dump(mode="json")
    identity = dict(written)
    parts = tuple(resolve_backbone(part, registry, locations) for part in _parts_of(ref, registry))
    given: list[Any] = []
    if spec.made_of:
        given = [{part.backbone_ref.label: part.backbone for part in parts}]
        for of_own, of_part in ((written, "backbone_settings"), (identity, "backbone_identity")):
            of_own[spec.made_of] = [
                {"name": part.backbone_ref.name, **getattr(part, of_part)} for part in parts
            ]
    if spec.weights_in:
        weights = named_weights(spec, settings, locations)
        given.append(weights)
        if weights is not None:
            identity[spec.weights_in] = weights.digest
    action = f"making the backbone {ref.name!r}"
    return ResolvedBackbone(
        ref,
        call(spec.make, settings, *given, action=action, returns=Backbone),
        spec.rows_per_second,
        code_of_backbone(ref, registry),
        written,
        identity,
        parts,
    )


def named_weights(
    spec: BackboneSpec, settings: Settings, locations: Locations
) -> PretrainedWeights | None:
    """Finds the file of weights that the settings of a backbone name; see `weights_in`.

    Raises:
        WeightsError: it is in none of the places, which the message names.
    """
    name = getattr(settings, spec.weights_in)
    return find_weights_file(name, locations) if name else None


def _parts_of(ref: ComponentRef, registry: Registry) -> list[ComponentRef]:
    """Returns the backbones that one is made of, as they are named in its settings."""
    key = registry.backbones[ref.name].made_of
    if not key:
        return []
    who = f"backbone {ref.name!r}"
    found: NamedComponents = check_settings(
        NamedComponents, {"names": ref.settings.get(key, ())}, f"{who}: {key}"
    )
    labels = [part.label for part in found.names]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise BenchmarkError(f"{who}: {key}: {twice[0]} stands there twice. Take one out.")
    return list(found.names)


def code_of_backbone(ref: ComponentRef, registry: Registry) -> str:
    """Names what computes a backbone, and those that it is made of; see `Registry.code_of`."""
    own = registry.code_of(registry.backbones, ref.name)
    parts = [code_of_backbone(part, registry) for part in _parts_of(ref, registry)]
    return digest_of([own, *parts]) if any(parts) else own


def resolve_model(
    backbone: ComponentRef, head: ComponentRef, registry: Registry, locations: Locations
) -> ResolvedModel:
    """Looks up backbone and head, checks their settings, and makes the backbone."""
    own = resolve_backbone(backbone, registry, locations)
    spec, given = registry.heads[head.name], head.settings
    fits_validation = _fits_validation(head, spec, given.pop(FIT_ON, ROWS_TO_FIT[0]))
    settings = check_settings(spec.settings, given, f"head {head.name!r}")
    code = [own.backbone_code, registry.code_of(registry.heads, head.name)]
    return ResolvedModel(
        **vars(own),
        head_ref=head,
        head=spec,
        head_settings=settings,
        fits_validation=fits_validation,
        settings={
            "backbone": [backbone.name, own.backbone_identity],
            "head": [head.name, settings.model_dump(mode="json")],
            **optional(
                code=code if any(code) else None,
                fit_on=ROWS_TO_FIT[1] if fits_validation else None,
            ),
        },
    )


def _fits_validation(head: ComponentRef, spec: HeadSpec, fit_on: Any) -> bool:
    """Whether a head is fitted on validation rows too, as the benchmark file says of it."""
    if fit_on not in ROWS_TO_FIT:
        known = " or ".join(map(repr, ROWS_TO_FIT))
        raise BenchmarkError(f"head {head.name!r}: {FIT_ON}: expected {known} (got {fit_on!r}).")
    both = bool(fit_on == ROWS_TO_FIT[1])
    if both and spec.fit is None:
        raise BenchmarkError(
            f"head {head.name!r}: {FIT_ON} = {fit_on!r} is for heads in closed form. This one is "
            "trained by gradient, and its validation rows choose the epoch."
        )
    return both


def known_models(
    benchmark: Benchmark, registry: Registry, locations: Locations
) -> list[ResolvedModel]:
    """Returns, of every backbone that is installed here, a model.

    Rows that one of them cannot encode are left out of every dataset.
    """
    pairs = (*benchmark.models, *(benchmark.baselines or ()))
    heads = (*benchmark.heads, *(own.head for own in pairs))
    found: list[ResolvedModel] = []
    for backbone in (*benchmark.backbones, *(own.backbone for own in pairs)):
        for head in heads:
            try:
                found.append(resolve_model(backbone, head, registry, locations))
            except HarnessError:  # one of the two is not installed here
                continue
            break
    return found


@dataclass(frozen=True, eq=False)
class Entry:
    """A model of a benchmark, resolved.

    Attributes:
        transfers: that it is carried over by.
        own: its entry in the benchmark's `models`, where it has one.
    """

    model: ResolvedModel
    transfers: tuple[ResolvedTransfer, ...]
    own: Model | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a benchmark names, resolved.

    Attributes:
        fixed: the transfer of models whose backbone is fixed.
    """

    models: tuple[Entry, ...]
    fixed: ResolvedTransfer
    protocols: tuple[ResolvedProtocol, ...]
    baselines: tuple[ResolvedModel, ...]


def resolve(benchmark: Benchmark, registry: Registry, locations: Locations) -> Parts:
    """Looks up everything that a benchmark names besides datasets and metrics."""
    transfers = tuple(resolve_transfer(ref, registry) for ref in benchmark.transfers)
    return Parts(
        models=tuple(_entries(benchmark, transfers, registry, locations)),
        fixed=resolve_transfer(ComponentRef(name=FIXED), registry),
        protocols=tuple(resolve_protocol(ref, registry) for ref in benchmark.protocols),
        baselines=tuple(
            resolve_model(baseline.backbone, baseline.head, registry, locations)
            for baseline in benchmark.baselines or ()
        ),
    )


def _entries(
    benchmark: Benchmark,
    transfers: tuple[ResolvedTransfer, ...],
    registry: Registry,
    locations: Locations,
) -> Iterator[Entry]:
    """Yields every model but the baselines."""
    for backbone, head in product(benchmark.backbones, benchmark.heads):
        yield Entry(resolve_model(backbone, head, registry, locations), transfers)
    for own in benchmark.models:
        given = transfers
        if own.transfers is not None:
            given = tuple(resolve_transfer(ref, registry) for ref in own.transfers)
        yield Entry(resolve_model(own.backbone, own.head, registry, locations), given, own)


def configure_baselines(
    models: Sequence[ResolvedModel], targets: Sequence[str]
) -> Iterator[Configuration]:
    """Yields the baselines: models that train no backbone, on every target."""
    for model in models:
        for target in targets:
            yield Configuration(model, None, target, _only_stage(model, target))


def configure(
    parts: Parts, targets: Sequence[str], locations: Locations
) -> tuple[list[Configuration], tuple[tuple[str, str], ...]]:
    """Asks every strategy for its stages, for every model and target.

    Returns:
        What can be carried out; and the (transfer, target) pairs that are left out, since the
        strategy makes no sense for that target, or (then named) that model.

    Raises:
        HarnessError: a strategy that none of the models can carry out.
    """
    configurations: list[Configuration] = []
    left_out: list[tuple[str, str]] = []
    misfits: dict[str, list[HarnessError]] = {}
    carried: list[str] = []
    for entry in parts.models:
        model = entry.model
        name = f"{model.backbone_ref.label} and {model.head_ref.label}"
        if model.backbone.fixed:
            found = [
                Configuration(model, parts.fixed, target, _only_stage(model, target))
                for target in targets
            ]
            configurations += found
            others = (t.ref.label for t in entry.transfers if t.ref.name != FIXED)
            left_out += [(f"{label} with {name}", own) for label in others for own in targets]
            continue
        for transfer in entry.transfers:
            label = transfer.ref.label
            carried.append(label)
            problems = []
            for target in targets:
                stages = _stages(transfer, model, target)
                if not stages:
                    left_out.append((label, target))
                elif (problem := _misfit(label, stages, model, locations)) is not None:
                    problems.append(problem)
                    left_out.append((f"{label} with {name}", target))
                else:
                    configurations.append(Configuration(model, transfer, target, stages, entry.own))
            misfits.setdefault(label, []).extend(problems[:1])
    for label, problems in misfits.items():
        if len(problems) == carried.count(label):
            raise problems[0]
    return configurations, tuple(dict.fromkeys(left_out))


def _only_stage(model: ResolvedModel, target: str) -> tuple[Stage, ...]:
    """The stage of a model that trains no backbone, with the weights of a fixed one."""
    begins_trained = model.backbone.fixed and model.backbone.offers_weights
    return (Stage(target, "pretrained" if begins_trained else "random"),)


def _stages(transfer: ResolvedTransfer, model: ResolvedModel, target: str) -> tuple[Stage, ...]:
    if model.backbone.fixed:
        return _only_stage(model, target)
    if transfer.ref.name == FIXED:  # it is for no backbone that is trained
        return ()
    return _ask_for_stages(transfer, Target(target, layers_of(model), _Shapes(model)))


def _ask_for_stages(transfer: ResolvedTransfer, target: Target) -> tuple[Stage, ...]:
    function, name = transfer.spec.stages, transfer.ref.name
    action = f"asking the transfer {name!r} for its stages on {target.dataset!r}"
    stages = call(function, transfer.settings, target, action=action, returns=Sequence)
    for stage in stages:
        if not isinstance(stage, Stage):
            raise Breach(
                function,
                f"The transfer {name!r} must return Stage objects, but returned "
                f"{type(stage).__name__}: {stage!r}.",
            )
    return tuple(stages)


def layers_of(model: ResolvedModel) -> Layers:
    """Layers of a whole model, from input to output, by the names of its parameters."""
    backbone = [tuple(f"backbone.{name}" for name in layer) for layer in model.backbone.layers]
    return (*(backbone or [("backbone",)]), ("head",))


def _misfit(
    transfer: str, stages: Sequence[Stage], model: ResolvedModel, locations: Locations
) -> HarnessError | None:
    """Says why a model cannot carry out a strategy, where it cannot."""
    if stages[0].start == "previous":
        raise PluginError(
            f"The strategy {transfer!r}: its first stage starts from 'previous', but there is "
            "none before it. Use 'random' or 'pretrained' there."
        )
    particular = any(
        stage.freeze or stage.groups or stage.alongside or stage.adapters for stage in stages
    )
    if model.head.fit is not None and (len(stages) > 1 or particular):
        return BenchmarkError(
            f"The head {model.head_ref.name!r} is fitted in closed form and trains no "
            f"backbone, so the strategy {transfer!r}, which says how to train one, makes no "
            "sense with it: use 'scratch' or 'pretrained', or another head."
        )
    try:
        if not model.backbone.offers_weights and "pretrained" in {s.start for s in stages}:
            model.backbone.find_pretrained(locations)  # raises, and says what to do
        if particular:
            from harness.planning.adapted_weights import find_adapted
            from harness.planning.plugin_modules import skeleton

            whole = skeleton(model)
            for stage in stages:
                adapted = find_adapted(whole, stage.adapters)
                find_trainable(whole, stage.freeze, stage.groups, adapted)
    except Breach:
        raise
    except WeightsError as problem:
        backbone = model.backbone_ref.name
        return WeightsError(f"The backbone {backbone!r} with the strategy {transfer!r}: {problem}")
    except HarnessError as problem:
        return problem
    return None


class _Shapes(Mapping[str, tuple[int, ...]]):
    """Shapes of a model's parameters in one member, by name; the model is made when asked for."""

    def __init__(self, model: ResolvedModel) -> None:
        self._model = model

    @cached_property
    def _found(self) -> dict[str, tuple[int, ...]]:
        if self._model.head.make is None:  # fitted in closed form: nothing is trained by gradient
            return {}
        from harness.planning.plugin_modules import skeleton

        named = skeleton(self._model).named_parameters()
        return {name: tuple(p.shape[1:]) for name, p in named if p.requires_grad}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
