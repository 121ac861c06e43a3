"""Lays out the plan of a benchmark: splits data, and keys every stage and scoring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.benchmark import Benchmark
from harness.blame import call
from harness.configurations import (
    Configuration,
    configure,
    configure_baselines,
    resolve_model,
    resolve_protocol,
    resolve_strategy,
)
from harness.contracts import PretrainedWeights, Split, Stage
from harness.errors import BenchmarkError
from harness.ledger import check_plan
from harness.library import Library
from harness.plan import (
    AlongsideRows,
    MemberRows,
    Model,
    Plan,
    Rules,
    Scoring,
    StageNode,
    array_digest,
    digest_of,
    optional,
)
from harness.scores import Cell
from harness.seeds import derive_seed
from harness.splits import Splits
from harness.training_settings import TrainingSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.locations import Locations
    from harness.registry import Registry

    Indices = NDArray[np.int64]

FORMAT = 1
"""Raised when the meaning of an artefact changes, so that old ones are not taken for new ones."""


def plan(
    benchmark: Benchmark,
    registry: Registry,
    locations: Locations,
    *,
    limit: int | None = None,
    strict_data: bool = False,
) -> Plan:
    """Resolves every name, loads and splits the datasets, and lays out stages and scorings.

    Raises:
        HarnessError: an unknown name, missing data or weights, or a split that cannot be made.
        LeakError: a protocol that promises to be leak-free is not.
    """
    return _Planner(benchmark, registry, locations, limit, strict_data).plan()


class _Planner:
    def __init__(
        self,
        benchmark: Benchmark,
        registry: Registry,
        locations: Locations,
        limit: int | None,
        strict_data: bool,
    ) -> None:
        self.benchmark = benchmark
        self.registry = registry
        self.locations = locations
        self.limit = limit
        self._check_names()
        self.strategies = [resolve_strategy(choice, registry) for choice in benchmark.transfers]
        self.protocols = [resolve_protocol(choice, registry) for choice in benchmark.protocols]
        self.models = [
            resolve_model(backbone, head, registry)
            for backbone in benchmark.backbones
            for head in benchmark.heads
        ]
        self.baselines = [resolve_model(b.backbone, b.head, registry) for b in benchmark.baselines]
        known = [
            (m.backbone_choice.name, m.backbone.elements) for m in (*self.models, *self.baselines)
        ]
        self.library = Library(registry, locations, limit, dict.fromkeys(known), strict_data)
        self.stages: dict[str, StageNode] = {}

    def _check_names(self) -> None:
        benchmark = self.benchmark
        for name in (*benchmark.train_on, *benchmark.test_on, *benchmark.training_on):
            self.registry.datasets[name]
        for name in benchmark.metrics:
            self.registry.metrics[name]
        if len(set(benchmark.metrics)) < len(benchmark.metrics):
            raise BenchmarkError(f"metrics: a name stands twice in {', '.join(benchmark.metrics)}.")

    def plan(self) -> Plan:
        scorings: list[Scoring] = []
        targets = self.benchmark.train_on
        found, skipped = configure(self.models, self.strategies, targets, self.locations)
        for protocol in self.protocols:
            splits = Splits(self.library, protocol.rules, self.benchmark.seed)
            for one in (*configure_baselines(self.baselines, targets), *found):
                last = self._chain(one, protocol, splits)
                identity = (
                    one.model.backbone_choice.label,
                    one.model.head_choice.label,
                    one.transfer,
                    protocol.label,
                    one.target,
                )
                scorings += self._scorings(last, identity, protocol, splits)
        _check_cells(scorings)
        laid_out = Plan(
            self.benchmark,
            self.library,
            self.locations,
            tuple(self.stages.values()),
            tuple(scorings),
            skipped,
            self.limit,
        )
        check_plan(laid_out)
        return laid_out

    def _chain(self, one: Configuration, protocol: Rules, splits: Splits) -> StageNode:
        node: StageNode | None = None
        for stage in one.stages:
            node = self._stage(stage, one.target, node, one.model, protocol, splits)
        assert node is not None
        return node

    def _stage(
        self,
        stage: Stage,
        target: str,
        previous: StageNode | None,
        model: Model,
        protocol: Rules,
        splits: Splits,
    ) -> StageNode:
        parent = previous if stage.start == "previous" else None
        training = self.benchmark.training_for(stage.dataset, stage.training)
        if model.head.fit is not None:  # what concerns gradients alone must not change its key
            training = TrainingSettings()
        weights = _find_weights(model, self.locations) if stage.start == "pretrained" else None
        members = self._members(stage.dataset, target, previous, protocol, splits, model)
        alongside = tuple(
            AlongsideRows(
                self.library[name],
                weight,
                self._members(name, target, None, protocol, splits, model, choosing=False),
            )
            for name, weight in stage.alongside.items()
        )
        dataset = self.library[stage.dataset]
        key = digest_of(
            {
                "format": FORMAT,
                "start": parent.key if parent else weights.digest if weights else "random",
                "dataset": dataset.digest,
                "model": model.settings,
                "encoding": model.backbone.encoding,
                "training": training.model_dump(mode="json"),
                "freeze": stage.freeze,
                "selection": protocol.rules.selection,
                "members": [_member_identity(member) for member in members],
                **optional(
                    groups=[asdict(group) for group in stage.groups],
                    alongside=[
                        [other.dataset.digest, other.weight, *map(_member_identity, other.members)]
                        for other in alongside
                    ],
                ),
            }
        )
        node = StageNode(
            key,
            _title(stage, parent),
            dataset,
            model,
            protocol,
            parent,
            weights,
            training,
            stage.freeze,
            stage.groups,
            alongside,
            members,
        )
        return self.stages.setdefault(key, node)

    def _members(
        self,
        dataset: str,
        target: str,
        previous: StageNode | None,
        protocol: Rules,
        splits: Splits,
        model: Model,
        choosing: bool = True,
    ) -> tuple[MemberRows, ...]:
        """Returns what every run does with a dataset of a stage.

        Args:
            dataset: its name.
            target: the dataset that the last stage of the chain fits.
            previous: the stage before.
            protocol: whose rules hold.
            splits: of that protocol.
            model: for the seed of its weights.
            choosing: whether validation rows choose the epoch.
        """
        return tuple(
            self._member(dataset, target, run, previous, protocol, splits, model, choosing)
            for run in range(1, self.benchmark.runs + 1)
        )

    def _member(
        self,
        dataset: str,
        target: str,
        run: int,
        previous: StageNode | None,
        protocol: Rules,
        splits: Splits,
        model: Model,
        choosing: bool,
    ) -> MemberRows:
        split = splits.of(dataset, run)
        train, validation = split.train, split.validation
        if dataset != target and protocol.rules.leak_free:
            reserved = self._reserved_groups(dataset, run, splits)
            train = self._without(train, dataset, reserved)
            validation = self._without(validation, dataset, reserved)
        splits.check(dataset, run, train=train)
        if choosing:
            splits.check(dataset, run, validation=validation)
        else:
            validation = validation[:0]
        split = Split(train, validation, split.test)
        if protocol.rules.scaler_stage == "first" and previous is not None:
            scaler_rows = np.array([], dtype=np.int64)
            scaler = previous.members[run - 1].scaler
        else:
            scaler_rows = splits.scaler_rows(split)
            scaler = splits.scaler(dataset, split)
        seeds = (self.benchmark.seed, model.backbone_choice.name, model.head_choice.name)
        return MemberRows(
            run,
            train,
            validation,
            scaler_rows,
            splits.labels(dataset, run, scaler),
            scaler,
            derive_seed(*seeds, "initial weights", run),
            derive_seed(self.benchmark.seed, "batches", dataset, run),
        )

    def _reserved_groups(self, source: str, run: int, splits: Splits) -> set[str]:
        """Groups that a source stage must leave out.

        Those of all test sets of the benchmark, and of the validation rows of its targets (other
        than the source itself). One source stage then serves all targets.
        """
        reserved: set[str] = set()
        for name in self.benchmark.test_on:
            reserved |= self._groups(name, splits.of(name, run).test)
        for name in self.benchmark.train_on:
            if name != source:
                split = splits.of(name, run)
                reserved |= self._groups(name, np.concatenate([split.validation, split.test]))
        return reserved

    def _seen_by_weights(self, stage: StageNode) -> set[str]:
        """Groups of the pre-training data, where the weights name a dataset that is registered."""
        names = {s.weights.seen for s in stage.chain if s.weights} & set(self.registry.datasets)
        return {formula for name in names for formula in self.library[name].formulas}

    def _groups(self, dataset: str, rows: Iterable[int]) -> set[str]:
        formulas = self.library[dataset].formulas
        return {formulas[row] for row in rows}

    def _without(self, rows: Indices, dataset: str, groups: set[str]) -> Indices:
        formulas = self.library[dataset].formulas
        return np.array([row for row in rows if formulas[row] not in groups], dtype=np.int64)

    def _scorings(
        self,
        stage: StageNode,
        identity: tuple[str, str, str, str, str],
        protocol: Rules,
        splits: Splits,
    ) -> list[Scoring]:
        pretraining = self._seen_by_weights(stage)
        seen = [stage.trained_groups(m) | pretraining for m in range(len(stage.members))]
        scorings = []
        for name in self.benchmark.test_on:
            dataset = self.library[name]
            rows, labels, overlap = [], [], []
            for groups, member in zip(seen, stage.members, strict=True):
                test = splits.of(name, member.run).test
                splits.check(name, member.run, test=test)
                rows.append(test)
                labels.append(splits.labels(name, member.run, member.scaler)[test])
                overlap.append(np.array([dataset.formulas[row] in groups for row in test]))
            content = [
                stage.key,
                dataset.digest,
                [array_digest(a) for a in (*rows, *labels, *overlap)],
            ]
            scorings.append(
                Scoring(
                    digest_of([*identity, name, content]),
                    Cell(*identity, name),
                    protocol,
                    stage,
                    dataset,
                    tuple(rows),
                    tuple(labels),
                    tuple(overlap),
                )
            )
        return scorings


def _find_weights(model: Model, locations: Locations) -> PretrainedWeights:
    weights: PretrainedWeights = call(
        model.backbone.find_pretrained,
        locations,
        action=f"looking for weights of the backbone {model.backbone_choice.name!r}",
        returns=PretrainedWeights,
    )
    return weights


def _title(stage: Stage, parent: StageNode | None) -> str:
    """What a stage fits and where it starts, as `Dataset1 with AFLOW (pretrained)`."""
    what = " with ".join((stage.dataset, *stage.alongside))
    start = f"after {parent.dataset.name}" if parent else stage.start
    return f"{what} ({start})"


def _check_cells(scorings: Sequence[Scoring]) -> None:
    """Refuses two cells of one name, whose runs a table could not tell apart."""
    cells: set[Cell] = set()
    for scoring in scorings:
        if scoring.cell in cells:
            named = ", ".join(f"{key} {value!r}" for key, value in vars(scoring.cell).items())
            raise BenchmarkError(
                f"Two entries of the benchmark make the same cell: {named}. "
                "Take one out, or let their settings differ."
            )
        cells.add(scoring.cell)


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
