"""Cases of transfer strategies: stages that the core can carry out, whatever the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, combinations
from typing import Any

from pydantic import ValidationError

from harness.apps.testing.cases import SettingsCases
from harness.apps.testing.promises import broken, promise, skip
from harness.planning.trainable import lies_under
from harness.planning.training_settings import TrainingSettings
from harness.plugin.backbone import Layers
from harness.plugin.transfer import Adapter, ParameterGroup, Stage, Target, TransferSpec

SOURCE = "SourceData"
"""Stands for the dataset that a strategy starts from, where its settings have a `source`."""

TARGETS = ("TargetData", "OtherData")

LAYOUTS: tuple[Layers, ...] = (
    (("backbone",), ("head",)),
    (("backbone.embedding", "backbone.encoder"), ("backbone.block1",), ("head",)),
    (
        *((f"backbone.layer{number}",) for number in range(6)),
        ("backbone.readout", "backbone.projection"),
        ("head",),
    ),
)
"""Layers of models: one that declares none, one with a few, one with many."""


class TransferCases(SettingsCases):
    """What a transfer strategy promises.

    Where the settings have a `source`, a dataset is made up for it; only its name is needed.
    """

    spec_type = TransferSpec

    def given(self, spec: TransferSpec) -> dict[str, Any]:
        """Returns the settings to try, with a source where one is required."""
        source = spec.settings.model_fields.get("source")
        made_up = {"source": SOURCE} if source is not None and source.is_required() else {}
        return {**made_up, **self.settings}

    def test_last_stage_fits_the_target(self, spec: TransferSpec) -> None:
        """There are stages, and the last one fits the target."""
        for _, target, stages in self._plans(spec):
            fitted = [stage.dataset for stage in stages]
            promise(
                fitted[-1:] == [target.dataset],
                f"the last stage fits the target, {target.dataset!r}",
                f"stages on {fitted or 'nothing'}",
                "end with Stage(target.dataset, …); no stages only for the strategy's own source",
            )

    def test_first_stage_starts_from_nothing_before_it(self, spec: TransferSpec) -> None:
        """The first stage starts from random or pretrained weights."""
        for _, _, stages in self._plans(spec):
            promise(
                stages[0].start != "previous",
                "the first stage starts from 'random' or 'pretrained'",
                "it starts from 'previous', and there is none before it",
                "give the first Stage another start",
            )

    def test_training_settings_are_valid(self, spec: TransferSpec) -> None:
        """What a stage changes of the training exists and has valid values."""
        for _, _, stages in self._plans(spec):
            for stage in stages:
                try:
                    TrainingSettings.model_validate(dict(stage.training))
                except ValidationError as problem:
                    first = problem.errors()[0]
                    broken(
                        "`training` of a stage holds training settings",
                        f"{'.'.join(map(str, first['loc']))}: {first['msg']} in {stage.training}",
                        f"known: {', '.join(TrainingSettings.model_fields)}",
                    )

    def test_prefixes_name_layers(self, spec: TransferSpec) -> None:
        """What is frozen, grouped or adapted exists in the model, whatever its layers."""
        for _, target, stages in self._plans(spec):
            known = list(target.parameters)
            for stage in stages:
                parts: tuple[ParameterGroup | Adapter, ...] = (*stage.groups, *stage.adapters)
                for prefix in (*stage.freeze, *(name for part in parts for name in part.prefixes)):
                    promise(
                        any(lies_under(name, [prefix]) for name in known),
                        "`freeze`, `groups` and `adapters` name parameters of the model, its "
                        "layers, 'backbone' or 'head'",
                        f"{prefix!r} for the layers {target.layers}",
                        "take prefixes from `target.layers` and `target.parameters`",
                    )

    def test_something_is_left_to_train(self, spec: TransferSpec) -> None:
        """No stage freezes everything, and none freezes what it puts into a group."""
        for _, target, stages in self._plans(spec):
            known = list(target.parameters)
            for stage in stages:
                free = [name for name in known if not lies_under(name, stage.freeze)]
                promise(
                    bool(free or stage.adapters),
                    "every stage trains something",
                    f"freeze = {stage.freeze} leaves nothing of {target.layers}",
                    "freeze less",
                )
                for group in stage.groups:
                    promise(
                        any(lies_under(name, group.prefixes) for name in free),
                        "groups hold parameters that are trained",
                        f"all of {group.prefixes} is frozen by freeze = {stage.freeze}",
                        "leave the group out, or freeze less",
                    )

    def test_groups_do_not_overlap(self, spec: TransferSpec) -> None:
        """No parameter is in two groups, and none has two adapters."""
        for _, _, stages in self._plans(spec):
            for stage in stages:
                pairs: Iterator[tuple[ParameterGroup | Adapter, ParameterGroup | Adapter]]
                pairs = chain(combinations(stage.groups, 2), combinations(stage.adapters, 2))
                for one, other in pairs:
                    clash = [
                        (a, b)
                        for a in one.prefixes
                        for b in other.prefixes
                        if lies_under(a, [b]) or lies_under(b, [a])
                    ]
                    promise(
                        not clash,
                        "no parameter is in two groups, or two adapters, of a stage",
                        f"{clash[:1]} are in two",
                        "give every layer to one group, and to one adapter",
                    )

    def test_datasets_alongside_are_others(self, spec: TransferSpec) -> None:
        """Datasets fitted at the same time are others than the stage's own, with real weights."""
        for _, _, stages in self._plans(spec):
            for stage in stages:
                promise(
                    stage.dataset not in stage.alongside,
                    "`alongside` holds other datasets than the stage's own",
                    f"{stage.dataset!r} stands in its own `alongside`",
                    "return no stages where target and source are the same",
                )
                promise(
                    all(0 < weight < math.inf for weight in stage.alongside.values()),
                    "weights of datasets alongside are positive and finite",
                    str(dict(stage.alongside)),
                    "validate the weight in the settings",
                )

    def test_own_source_has_no_stages(self, spec: TransferSpec) -> None:
        """Nothing is transferred from a dataset to itself."""
        if "source" not in spec.settings.model_fields:
            skip("the settings have no `source`")
        for settings in self._variants(spec):
            if settings.source is None:
                continue
            for layers in LAYOUTS:
                stages = tuple(spec.stages(settings, _target(settings.source, layers)))
                promise(
                    stages == (),
                    "no stages for a target that is the strategy's own source",
                    f"{len(stages)} stages on {[stage.dataset for stage in stages]}",
                    "return () where target.dataset == settings.source",
                )

    def test_stages_depend_on_their_arguments_alone(self, spec: TransferSpec) -> None:
        """Asked twice, the strategy returns the same stages."""
        for settings, target, stages in self._plans(spec):
            again = _stages(spec, settings, replace(target))
            promise(
                again == stages,
                "the same settings and target give the same stages",
                f"{stages}, then {again}",
                "keep no state between calls, and draw no random numbers",
            )

    def _variants(self, spec: TransferSpec) -> Iterator[Any]:
        """Settings as given; and with a source, where the settings have an optional one."""
        settings = self.made_settings(spec)
        yield settings
        if "source" in spec.settings.model_fields and settings.source is None:
            yield self._validated(
                spec,
                {**self.given(spec), "source": SOURCE},
                "let `source` be any name of a dataset",
            )

    def _plans(self, spec: TransferSpec) -> Iterator[tuple[Any, Target, tuple[Stage, ...]]]:
        """Yields (settings, target, stages) for targets other than the source."""
        for settings in self._variants(spec):
            for name in TARGETS:
                if name == getattr(settings, "source", None):
                    continue
                for layers in LAYOUTS:
                    target = _target(name, layers)
                    yield settings, target, _stages(spec, settings, target)


def _target(dataset: str, layers: Layers) -> Target:
    """A target for a model with these layers, in which every prefix is a linear layer."""
    shapes = {"weight": (8, 8), "bias": (1, 8)}
    prefixes = [prefix for layer in layers for prefix in layer]
    parameters = {f"{name}.{leaf}": shape for name in prefixes for leaf, shape in shapes.items()}
    return Target(dataset, layers, parameters)


def _stages(spec: TransferSpec, settings: Any, target: Target) -> tuple[Stage, ...]:
    returned: Any = spec.stages(settings, target)
    promise(
        isinstance(returned, Sequence) and all(isinstance(stage, Stage) for stage in returned),
        "a sequence of Stage",
        f"{returned!r}",
        "return a tuple of Stage",
    )
    promise(
        len(returned) > 0,
        f"stages for the target {target.dataset!r}, which is not the strategy's source",
        "none",
        "return no stages only where the strategy makes no sense for the target",
    )
    return tuple(returned)
