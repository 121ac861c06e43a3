"""Lays out stages: of what members, trained how, on which rows, under which key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset_loader import DatasetLoader
from harness.errors import BenchmarkError
from harness.planning.benchmark import Benchmark
from harness.planning.member_training import MemberTraining
from harness.planning.plan import (
    AlongsideRows,
    MemberOf,
    MemberRows,
    StageNode,
    alike,
    array_digest,
    digest_of,
    goes_on,
    optional,
)
from harness.planning.resolved import Configuration, ResolvedModel, ResolvedProtocol
from harness.planning.splits import Splits, with_validation
from harness.planning.training_settings import LOSS_NEEDS, Loss, TrainingSettings, loss_of
from harness.plugin.backbone import PretrainedWeights
from harness.plugin.cell import FIXED
from harness.plugin.property import NEEDED, THERMAL_CONDUCTIVITY
from harness.plugin.protocol import Split
from harness.plugin.seeds import derive_seed
from harness.plugin.transfer import Stage
from harness.registry.plugin_calls import call

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.plugin.locations import Locations
    from harness.plugin.protocol import Scaler
    from harness.registry.property_metrics import PropertyMetric
    from harness.registry.registry import Registry

FORMAT = 1
"""Raised when the meaning of an artefact changes, so that old ones are not taken for new ones."""


@dataclass(frozen=True, eq=False)
class Assigned:
    """A configuration that one run carries out."""

    run: int
    configuration: Configuration


class StagePlanner:
    """The stages of a benchmark under one protocol; equal ones are laid out once.

    Args:
        benchmark: for its settings, runs and seed.
        loader: of the datasets.
        registry: of the metrics that choose epochs.
        locations: where pretrained weights are looked for.
        protocol: whose rules hold.
        stages: by key, each after those it goes on from; new ones are added.
        datasets: all that the benchmark trains on, tests on or starts from.

    Attributes:
        splits: of the protocol.
        locations: as given.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        loader: DatasetLoader,
        registry: Registry,
        locations: Locations,
        protocol: ResolvedProtocol,
        stages: dict[str, StageNode],
        datasets: Sequence[str],
    ) -> None:
        self.protocol = protocol
        self.splits = Splits(loader, protocol.rules, benchmark.seed, datasets, benchmark.test_on)
        self._benchmark, self._loader = benchmark, loader
        self._registry, self.locations = registry, locations
        self._stages = stages

    def members(self, assigned: Sequence[Assigned]) -> tuple[MemberOf, ...]:
        """Lays out what is assigned, shapes apart; returns the last member of each, in order."""
        members: dict[int, MemberOf] = {}
        for positions in self.by_shape(assigned):
            group = [assigned[position] for position in positions]
            last = len(group[0].configuration.stages) - 1
            members.update(zip(positions, self._level(last, group), strict=True))
        return tuple(members[position] for position in range(len(assigned)))

    def by_shape(self, assigned: Sequence[Assigned]) -> list[list[int]]:
        """Groups positions by what can be trained side by side: what differs in numbers alone."""
        groups: dict[str, list[int]] = {}
        for position, member in enumerate(assigned):
            groups.setdefault(self.shape(member.configuration), []).append(position)
        return list(groups.values())

    def shape(self, one: Configuration) -> str:
        """Names what must be equal for configurations to be trained side by side."""
        stages = [
            [
                stage.dataset,
                stage.start,
                stage.freeze,
                [group.prefixes for group in stage.groups],
                list(stage.alongside),
                stage.new_head,
                [asdict(adapter) for adapter in stage.adapters],
                self._training_of(one, level).training.batch_size,
            ]
            for level, stage in enumerate(one.stages)
        ]
        return digest_of([one.model.settings, stages])

    def _training_of(self, one: Configuration, level: int) -> MemberTraining:
        if one.model.head.fit is not None:  # what concerns gradients alone must not change its key
            return MemberTraining(TrainingSettings(loss="mape"))
        stage = one.stages[level]
        searched = one.training if level == len(one.stages) - 1 else {}
        own = one.own.training_for(stage.dataset) if one.own else {}
        changes = {**own, **stage.training, **searched}
        training = self._with_loss(stage.dataset, one.target, changes)
        if "lr" not in searched:
            training = training.model_copy(update={"lr": training.lr * stage.lr_factor})
        return MemberTraining(
            training,
            stage.groups,
            tuple(stage.alongside.values()),
            tuple(self._alongside_loss(name, stage.dataset) for name in stage.alongside),
        )

    def _with_loss(
        self, dataset: str, target: str, overrides: Mapping[str, Any]
    ) -> TrainingSettings:
        """Training settings of a stage, with a loss that makes sense for what it fits.

        A source of another property, for which the benchmark's makes no sense, has that property's
        loss, unless one is given for it.

        Raises:
            BenchmarkError: a loss is given that makes no sense; names those that do.
        """
        training = self._benchmark.training_for(dataset, overrides)
        spec, wanted = (self._loader.property_of(name) for name in (dataset, target))
        given = {**self._benchmark.training_on.get(dataset, {}), **overrides}.get("loss")
        fits = training.loss is not None and spec.satisfies(LOSS_NEEDS[training.loss])
        if training.loss is None or (given is None and spec != wanted and not fits):
            training = training.model_copy(update={"loss": loss_of(spec)})
        assert training.loss is not None
        if not spec.satisfies(needs := LOSS_NEEDS[training.loss]):
            fitting = [loss for loss, needed in LOSS_NEEDS.items() if spec.satisfies(needed)]
            raise BenchmarkError(
                f"The loss {training.loss!r} needs {NEEDED[needs]}, and makes no sense for "
                f"{spec.title} (the dataset {dataset!r}). Those that do: {', '.join(fitting)}."
            )
        return training

    def _alongside_loss(self, dataset: str, beside: str) -> Loss | None:
        """The loss of a dataset that is fitted beside one of another property; else none."""
        spec, other = (self._loader.property_of(name) for name in (dataset, beside))
        return None if spec == other else self._with_loss(dataset, beside, {}).loss

    def selection(self, dataset: str, target: str) -> PropertyMetric:
        """Returns the metric that chooses the epochs of a stage.

        Raises:
            BenchmarkError: the protocol's makes no sense for the property of the target.
        """
        spec, wanted = (self._loader.property_of(name) for name in (dataset, target))
        metrics = self._registry.metrics_of(spec.name)
        name = self.protocol.rules.selection or spec.metric
        if spec != wanted and name not in metrics:
            name = spec.metric
        try:
            return metrics[name]
        except BenchmarkError as problem:
            raise BenchmarkError(
                f"The protocol {self.protocol.label!r} chooses epochs by {name!r}. {problem}"
            ) from None

    def _level(self, level: int, assigned: Sequence[Assigned]) -> tuple[MemberOf, ...]:
        """Lays out one stage of a chain, after those before it."""
        member_trainings = [self._training_of(member.configuration, level) for member in assigned]
        one = assigned[0].configuration
        runs = range(1, self._benchmark.runs + 1)
        if level < len(one.stages) - 1 and [member.run for member in assigned] != list(runs):
            so_far = [
                [self._training_of(member.configuration, before) for before in range(level + 1)]
                for member in assigned
            ]
            if all(trainings == so_far[0] for trainings in so_far):
                # The same for all of them: laid out for all runs, so that others can share it.
                whole = self._level(level, [replace(assigned[0], run=run) for run in runs])
                return tuple(whole[member.run - 1] for member in assigned)
        previous = self._level(level - 1, assigned) if level else ()
        return self._stage(one.stages[level], one, assigned, member_trainings, previous)

    def _stage(
        self,
        stage: Stage,
        one: Configuration,
        assigned: Sequence[Assigned],
        member_trainings: Sequence[MemberTraining],
        previous: Sequence[MemberOf],
    ) -> tuple[MemberOf, ...]:
        model, target, own = one.model, one.target, self._loader[stage.dataset]
        parents = tuple(previous) if stage.start == "previous" else ()
        weights = find_weights(model, self.locations) if stage.start == "pretrained" else None
        runs = [member.run for member in assigned]
        could_go_on = bool(previous) and _same_property(previous[0].stage.dataset, own)
        goes_on_with_head = could_go_on and not stage.new_head
        scalers = [member.rows.scaler for member in previous] if goes_on_with_head else []
        rows = self._rows(stage.dataset, target, runs, scalers, model)
        alongside = tuple(
            AlongsideRows(
                self._loader[name],
                self._rows(name, target, runs, [], model, choosing=False),
            )
            for name in stage.alongside
        )
        node = StageNode(
            "",
            _title(stage, parents, one.transfer_label),
            own,
            model,
            self.protocol,
            self.selection(stage.dataset, target),
            parents,
            weights,
            tuple(member_trainings),
            stage.freeze,
            alongside,
            rows,
            stage.adapters,
            could_go_on and stage.new_head,
        )
        node = replace(node, key=digest_of(_identity(node)))
        node = self._stages.setdefault(node.key, node)
        return tuple(MemberOf(node, index) for index in range(len(rows)))

    def _rows(
        self,
        dataset: str,
        target: str,
        runs: Sequence[int],
        scalers: Sequence[Scaler],
        model: ResolvedModel,
        choosing: bool = True,
    ) -> tuple[MemberRows, ...]:
        """Returns what every member does with a dataset of a stage.

        Args:
            dataset: its name.
            target: the dataset that the last stage of the chain fits.
            runs: of the members.
            scalers: of the stage before; none where there is none, or it fits another property.
            model: for the seed of its weights.
            choosing: whether validation rows choose the epoch.
        """
        inherits = self.protocol.rules.scaler_stage == "first"
        given = scalers if scalers and inherits else [None] * len(runs)
        return tuple(
            self._member(dataset, target, run, scaler, model, choosing)
            for run, scaler in zip(runs, given, strict=True)
        )

    def _member(
        self,
        dataset: str,
        target: str,
        run: int,
        scaler: Scaler | None,
        model: ResolvedModel,
        choosing: bool,
    ) -> MemberRows:
        splits = self.splits
        split = splits.of(dataset, run)
        train, validation = split.train, split.validation
        if dataset != target and self.protocol.rules.leak_free and not self._keeps(dataset, target):
            # One source stage serves all targets, unless that leaves nothing of it, as of a
            # composite dataset whose parts are the targets.
            for targets in (self._benchmark.train_on, (target,)):
                reserved = self._reserved_groups(dataset, run, targets)
                groups = splits.grouping.of(dataset, run)
                train, validation = (
                    np.array([row for row in rows if groups[row] not in reserved], dtype=np.int64)
                    for rows in (split.train, split.validation)
                )
                if len(train) and (len(validation) or not choosing):
                    break
        splits.check(dataset, run, train=train)
        if model.fits_validation:
            split = with_validation(Split(train, validation, split.test))
            train, validation = split.train, split.validation
        elif choosing:
            splits.check(dataset, run, validation=validation)
        else:
            validation = validation[:0]
        scaler_rows = np.array([], dtype=np.int64)
        if scaler is None:
            split = Split(train, validation, split.test)
            scaler_rows = splits.scaler_rows(split)
            scaler = splits.scaler(dataset, split)
        seed = self._benchmark.seed
        names = (model.backbone_ref.name, model.head_ref.name)
        return MemberRows(
            run,
            train,
            validation,
            scaler_rows,
            splits.labels(dataset, run, scaler),
            scaler,
            splits.grouping.of(dataset, run),
            derive_seed(seed, *names, "initial weights", run),
            derive_seed(seed, "batches", dataset, run),
        )

    def _keeps(self, source: str, target: str) -> bool:
        """Whether a source keeps the groups of test rows: it knows the crystals, not the labels."""
        return self.protocol.rules.keep_other_properties and not _same_property(
            self._loader[source], self._loader[target]
        )

    def _reserved_groups(self, source: str, run: int, targets: Sequence[str]) -> set[str | None]:
        """Groups that a source stage must leave out.

        Those of all test sets of the benchmark, and of the validation rows of the targets that it
        serves (other than the source itself).
        """
        reserved: set[str | None] = set()
        for name in self._benchmark.test_on:
            reserved |= self._groups(name, run, self.splits.of(name, run).test)
        for name in targets:
            if name != source:
                split = self.splits.of(name, run)
                held_out = np.concatenate([split.validation, split.test])
                reserved |= self._groups(name, run, held_out)
        return reserved

    def _groups(self, dataset: str, run: int, rows: Iterable[int]) -> set[str | None]:
        groups = self.splits.grouping.of(dataset, run)
        return {groups[row] for row in rows}


def find_weights(model: ResolvedModel, locations: Locations) -> PretrainedWeights:
    """Finds the pretrained weights of a model's backbone."""
    weights: PretrainedWeights = call(
        model.backbone.find_pretrained,
        locations,
        action=f"looking for weights of the backbone {model.backbone_ref.name!r}",
        returns=PretrainedWeights,
    )
    return weights


def _same_property(one: Dataset, other: Dataset) -> bool:
    return one.property == other.property


def _title(stage: Stage, parents: Sequence[MemberOf], transfer: str) -> str:
    """What a stage fits and where it starts, as `Dataset1 with AFLOW (pretrained)`."""
    what = " with ".join((stage.dataset, *stage.alongside))
    start = f"after {parents[0].stage.dataset.name}" if parents else stage.start
    if transfer == FIXED:
        start = FIXED
    return f"{what} ({start})"


def _identity(node: StageNode) -> Mapping[str, Any]:
    """All that determines the outcome of a stage."""
    start = node.parent.key if node.parent else node.weights.digest if node.weights else "random"
    revision, spec = node.selection.revision, node.dataset.property
    weights = [
        alike(of_members)
        for of_members in zip(*(one.alongside for one in node.member_trainings), strict=True)
    ]
    return {
        "format": FORMAT,
        "start": start,
        "dataset": node.dataset.digest,
        "model": node.model.settings,
        "encoding": node.model.backbone.encoding,
        "training": alike([one.training.model_dump(mode="json") for one in node.member_trainings]),
        "freeze": node.freeze,
        "selection": node.selection.name,
        "members": [_member_identity(member) for member in node.members],
        **optional(
            selection_revision=revision if revision > 1 else None,
            property=[spec.scale, spec.lowest] if spec.name != THERMAL_CONDUCTIVITY else None,
            parent_members=goes_on(node),
            row_groups=_own_groups(node),
            groups=alike(
                [[asdict(group) for group in one.groups] for one in node.member_trainings]
            ),
            alongside_losses=[
                loss for loss in node.member_trainings[0].alongside_losses if loss is not None
            ],
            alongside=[
                [other.dataset.digest, weight, *map(_member_identity, other.members)]
                for other, weight in zip(node.alongside, weights, strict=True)
            ],
            adapters=[asdict(adapter) for adapter in node.adapters],
            new_head=node.new_head,
        ),
    }


def _own_groups(node: StageNode) -> str | None:
    """A digest of the groups of its rows, where they are others than reduced formulas.

    They decide which test rows overlap, so protocols with other groups share no stage.
    """
    fitted = [pair for index in range(len(node.members)) for pair in MemberOf(node, index).fitted()]
    if all(rows.groups is data.formulas for data, rows in fitted):
        return None
    return digest_of([list(rows.groups) for _, rows in fitted])


def _member_identity(member: MemberRows) -> list[Any]:
    return [
        member.run,
        array_digest(member.train),
        array_digest(member.validation),
        array_digest(member.labels),
        [member.scaler.offset, member.scaler.mean, member.scaler.std],
        member.init_seed,
        member.shuffle_seed,
    ]
