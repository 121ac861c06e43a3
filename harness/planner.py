"""Lays out the plan of a benchmark: resolves names, splits data, and keys every stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.benchmark import Benchmark, Choice, check_settings
from harness.contracts import Split, Stage, TransferSpec
from harness.errors import BenchmarkError, PluginError
from harness.ledger import check_plan
from harness.library import Library
from harness.plan import (
    MemberRows,
    Model,
    Plan,
    Rules,
    Scoring,
    StageNode,
    array_digest,
    digest_of,
)
from harness.scores import BASELINE, Cell
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


@dataclass(frozen=True)
class Strategy:
    """A transfer strategy, resolved."""

    choice: Choice
    spec: TransferSpec
    settings: Any


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
        self.strategies = [self._strategy(choice) for choice in benchmark.transfers]
        self.protocols = [self._protocol(choice) for choice in benchmark.protocols]
        self.models = [
            self._model(backbone, head)
            for backbone in benchmark.backbones
            for head in benchmark.heads
        ]
        self.baselines = [self._model(b.backbone, b.head) for b in benchmark.baselines]
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

    def _strategy(self, choice: Choice) -> Strategy:
        spec = self.registry.transfers[choice.name]
        settings = check_settings(spec.settings, choice.settings, f"transfer {choice.name!r}")
        return Strategy(choice, spec, settings)

    def _protocol(self, choice: Choice) -> Rules:
        spec = self.registry.protocols[choice.name]
        settings = check_settings(spec.settings, choice.settings, f"protocol {choice.name!r}")
        rules = spec.make(settings)
        self.registry.metrics[rules.selection]
        return Rules(choice, rules)

    def _model(self, backbone: Choice, head: Choice) -> Model:
        spec = self.registry.backbones[backbone.name]
        settings = check_settings(spec.settings, backbone.settings, f"backbone {backbone.name!r}")
        head_spec = self.registry.heads[head.name]
        head_settings = check_settings(head_spec.settings, head.settings, f"head {head.name!r}")
        return Model(
            backbone,
            spec.make(settings),
            spec.rows_per_second,
            head,
            head_spec,
            head_settings,
            {
                "backbone": [backbone.name, settings.model_dump(mode="json")],
                "head": [head.name, head_settings.model_dump(mode="json")],
            },
        )

    def plan(self) -> Plan:
        scorings: list[Scoring] = []
        skipped: list[tuple[str, str]] = []
        for protocol in self.protocols:
            splits = Splits(self.library, protocol.rules, self.benchmark.seed)
            for model, transfer, target, stages in self._configurations():
                if not stages:
                    skipped.append((transfer, target))
                    continue
                last = self._chain(transfer, stages, model, protocol, splits)
                identity = (
                    model.backbone_choice.label,
                    model.head_choice.label,
                    transfer,
                    protocol.label,
                    target,
                )
                scorings += self._scorings(last, identity, protocol, splits)
        _check_cells(scorings)
        laid_out = Plan(
            self.benchmark,
            self.library,
            self.locations,
            tuple(self.stages.values()),
            tuple(scorings),
            tuple(dict.fromkeys(skipped)),
            self.limit,
        )
        check_plan(laid_out)
        return laid_out

    def _configurations(self) -> Iterator[tuple[Model, str, str, list[Stage]]]:
        """Yields (model, transfer's label, target, stages) for every row of the table."""
        targets = self.benchmark.train_on
        for model in self.baselines:
            for target in targets:
                yield model, BASELINE, target, [Stage(target, "random")]
        for model in self.models:
            for strategy in self.strategies:
                for target in targets:
                    stages = list(strategy.spec.stages(strategy.settings, target))
                    yield model, strategy.choice.label, target, stages

    def _chain(
        self,
        transfer: str,
        stages: Sequence[Stage],
        model: Model,
        protocol: Rules,
        splits: Splits,
    ) -> StageNode:
        node: StageNode | None = None
        if model.head.fit is not None and len(stages) > 1:
            raise BenchmarkError(
                f"The head {model.head_choice.name!r} is fitted in closed form and trains no "
                f"backbone, so the strategy {transfer!r} of {len(stages)} stages makes no sense "
                "with it: use 'scratch' or 'pretrained', or another head."
            )
        if stages[0].start == "previous":
            raise PluginError(
                f"The strategy {transfer!r}: its first stage starts from 'previous', but there is "
                "none before it. Use 'random' or 'pretrained' there."
            )
        for position, stage in enumerate(stages):
            final = position == len(stages) - 1
            node = self._stage(stage, final, node, model, protocol, splits)
        assert node is not None
        return node

    def _stage(
        self,
        stage: Stage,
        final: bool,
        previous: StageNode | None,
        model: Model,
        protocol: Rules,
        splits: Splits,
    ) -> StageNode:
        parent = previous if stage.start == "previous" else None
        training = self.benchmark.training_for(stage.dataset, stage.training)
        if model.head.fit is not None:  # what concerns gradients alone must not change its key
            training = TrainingSettings()
        weights = (
            model.backbone.find_pretrained(self.locations) if stage.start == "pretrained" else None
        )
        members = tuple(
            self._member(stage, final, run, previous, protocol, splits, model)
            for run in range(1, self.benchmark.runs + 1)
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
            }
        )
        start = f"after {parent.dataset.name}" if parent else stage.start
        title = f"{stage.dataset} ({start})"
        node = StageNode(
            key,
            title,
            dataset,
            model,
            protocol,
            parent,
            weights,
            training,
            stage.freeze,
            members,
        )
        return self.stages.setdefault(key, node)

    def _member(
        self,
        stage: Stage,
        final: bool,
        run: int,
        previous: StageNode | None,
        protocol: Rules,
        splits: Splits,
        model: Model,
    ) -> MemberRows:
        split = splits.of(stage.dataset, run)
        train, validation = split.train, split.validation
        if not final and protocol.rules.leak_free:
            reserved = self._reserved_groups(stage.dataset, run, splits)
            train = self._without(train, stage.dataset, reserved)
            validation = self._without(validation, stage.dataset, reserved)
        splits.check(stage.dataset, run, train=train, validation=validation)
        split = Split(train, validation, split.test)
        if protocol.rules.scaler_stage == "first" and previous is not None:
            scaler_rows = np.array([], dtype=np.int64)
            scaler = previous.members[run - 1].scaler
        else:
            scaler_rows = splits.scaler_rows(split)
            scaler = splits.scaler(stage.dataset, split)
        seeds = (self.benchmark.seed, model.backbone_choice.name, model.head_choice.name)
        return MemberRows(
            run,
            train,
            validation,
            scaler_rows,
            splits.labels(stage.dataset, run, scaler),
            scaler,
            derive_seed(*seeds, "initial weights", run),
            derive_seed(self.benchmark.seed, "batches", stage.dataset, run),
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
