"""The plan: a directed acyclic graph of stages and scorings, plain data. `planner` lays it out.

A stage's key is the hash of all that determines its outcome, so equal stages are trained once and
a stage whose artefact exists is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset import Dataset
from harness.data.dataset_loader import DatasetLoader
from harness.planning.benchmark import Benchmark
from harness.planning.encoder import Encoder
from harness.planning.member_training import MemberTraining
from harness.planning.resolved import Configuration, ResolvedModel, ResolvedProtocol
from harness.plugin.backbone import PretrainedWeights
from harness.plugin.cell import Cell
from harness.plugin.protocol import Scaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.planning.groups import Groups
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.locations import Locations
    from harness.plugin.property import PropertySpec
    from harness.plugin.transfer import Adapter
    from harness.registry.property_metrics import PropertyMetric
    from harness.scoring.averages import Weighting


@dataclass(frozen=True, eq=False)
class MemberRows:
    """What one run does in a stage: rows (positions in the dataset), labels, scaler, seeds.

    Attributes:
        scaler_rows: rows on which the scaler was fitted; none where an earlier stage gave it.
        labels: targets of every row of the dataset in the property's unit, as the protocol lets
            this run see them.
        groups: of every row of the dataset, as the protocol has them in this run.
    """

    run: int
    train: Indices
    validation: Indices
    scaler_rows: Indices
    labels: Floats
    scaler: Scaler
    groups: Groups
    init_seed: int
    shuffle_seed: int


@dataclass(frozen=True, eq=False)
class AlongsideRows:
    """A dataset that a stage fits at the same time as its own, with a head of its own.

    Attributes:
        members: like those of the stage; without validation rows, since these choose nothing.
    """

    dataset: Dataset
    members: tuple[MemberRows, ...]


@dataclass(frozen=True, eq=False)
class MemberOf:
    """One member of a stage: a trained model of one run.

    Attributes:
        index: its position in the stack.
    """

    stage: StageNode
    index: int

    @property
    def rows(self) -> MemberRows:
        """What it is fitted to."""
        return self.stage.members[self.index]

    @property
    def member_training(self) -> MemberTraining:
        """How it is trained."""
        return self.stage.member_trainings[self.index]

    @property
    def line(self) -> tuple[MemberOf, ...]:
        """This member and those whose weights it goes on with, first to last."""
        parents = self.stage.parents
        return (*(parents[self.index].line if parents else ()), self)

    def fitted(self) -> Iterator[tuple[Dataset, MemberRows]]:
        """Yields what it is fitted to: of every dataset, its rows."""
        yield self.stage.dataset, self.rows
        for other in self.stage.alongside:
            yield other.dataset, other.members[self.index]

    def trained_groups(self) -> Mapping[str, set[str | None]]:
        """Groups that it has seen in training, over its whole line, by property."""
        groups: dict[str, set[str | None]] = {}
        for member in self.line:
            for dataset, rows in member.fitted():
                seen = (rows.groups[row] for row in rows.train)
                groups.setdefault(dataset.property.name, set()).update(seen)
        return groups


@dataclass(frozen=True, eq=False)
class StageNode:
    """One fit of several members as one stack: of all runs, unless settings differ between runs.

    Attributes:
        parents: for every member, the one whose weights it goes on with; none where the stage is
            the first. All are of one stage.
        selection: the metric on validation rows that chooses each member's epoch.
        member_trainings: how each member is trained.
        members: what each member is fitted to.
        adapters: low-rank updates of weights that stay.
        new_head: whether it leaves behind a head that could go on.
    """

    key: str
    title: str
    dataset: Dataset
    model: ResolvedModel
    protocol: ResolvedProtocol
    selection: PropertyMetric
    parents: tuple[MemberOf, ...]
    weights: PretrainedWeights | None
    member_trainings: tuple[MemberTraining, ...]
    freeze: tuple[str, ...]
    alongside: tuple[AlongsideRows, ...]
    members: tuple[MemberRows, ...]
    adapters: tuple[Adapter, ...] = ()
    new_head: bool = False

    @property
    def closed_form(self) -> bool:
        """Whether the head is fitted in closed form, the backbone staying as it starts."""
        return self.model.head.fit is not None

    @property
    def rows(self) -> int:
        """Training rows, summed over members."""
        return sum(len(member.train) for member in self.members)

    @property
    def work(self) -> int:
        """Rows that training goes through, over all members, epochs and datasets."""
        if self.closed_form:
            return 0
        pairs = zip(self.member_trainings, self.members, strict=True)
        passes = sum(one.training.epochs * len(member.train) for one, member in pairs)
        return passes * (1 + len(self.alongside))

    @property
    def epochs(self) -> int:
        """Epochs of the member that trains longest; 0 where the head is in closed form."""
        return 0 if self.closed_form else max(one.training.epochs for one in self.member_trainings)

    @property
    def parent(self) -> StageNode | None:
        """The stage that it goes on from."""
        return self.parents[0].stage if self.parents else None

    @property
    def keeps_head(self) -> bool:
        """Whether its head goes on from the stage before, which has fitted the same property."""
        return (
            self.parent is not None
            and self.parent.dataset.property == self.dataset.property
            and not self.new_head
        )

    @property
    def seconds(self) -> float:
        """A rough estimate of its training time on one CPU core."""
        return self.work / self.model.rows_per_second

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The dataset it fits, then those that it fits alongside."""
        return (self.dataset, *(other.dataset for other in self.alongside))

    @cached_property
    def chain(self) -> tuple[StageNode, ...]:
        """This stage and those before it, first to last."""
        return (*(self.parent.chain if self.parent else ()), self)

    def facts(self) -> dict[str, Any]:
        """What a record of the stage says of how it was planned, JSON-like."""
        weights = zip(*(one.alongside for one in self.member_trainings), strict=True)
        others = [
            {
                "dataset": other.dataset.name,
                "dataset_digest": other.dataset.digest,
                "dataset_rows": len(other.dataset),
                "weight": alike(of_members),
                "train_rows": [len(member.train) for member in other.members],
                "scalers": [asdict(member.scaler) for member in other.members],
            }
            for other, of_members in zip(self.alongside, weights, strict=True)
        ]
        trainings = [one.training.model_dump(mode="json") for one in self.member_trainings]
        groups = [[asdict(group) for group in one.groups] for one in self.member_trainings]
        return {
            "title": self.title,
            "dataset": self.dataset.name,
            "dataset_digest": self.dataset.digest,
            "dataset_rows": len(self.dataset),
            "model": self.model.settings,
            "training": None if self.closed_form else alike(trainings),
            "freeze": list(self.freeze),
            "protocol": self.protocol.label,
            "parent": self.parent.key if self.parent else None,
            "weights": self.weights.name if self.weights else None,
            "weights_digest": self.weights.digest if self.weights else None,
            "runs": [member.run for member in self.members],
            "train_rows": [len(member.train) for member in self.members],
            "validation_rows": [len(member.validation) for member in self.members],
            "scalers": [asdict(member.scaler) for member in self.members],
            **optional(
                parent_members=goes_on(self),
                groups=alike(groups),
                alongside=others,
                adapters=[asdict(adapter) for adapter in self.adapters],
                new_head=self.new_head,
            ),
        }


@dataclass(frozen=True, eq=False)
class Scoring:
    """Predictions of every run of a configuration on the test rows of a dataset.

    Attributes:
        protocol: whose promise the scoring is under; equal stages are shared between protocols.
        sources: per run, the members whose predictions it is made of: one, or several of which
            the mean on the property's scale is taken.
        weighting: how they count in it.
        groups: per run, the group of every row of the dataset tested on.
        tuning: per run, positions of rows of the dataset trained on that settings were chosen by.
        rows: per run, positions of its test rows in the dataset.
        labels: per run, targets of those rows as the protocol lets them be seen.
        overlap: per run, whether the row's group is in a training set of the chain of the same
            property, or its formula in the dataset that its pretrained weights have seen, where
            that is a registered one.
        crystals_seen: other properties with which the chain has seen groups of test rows.
    """

    key: str
    cell: Cell
    protocol: ResolvedProtocol
    sources: tuple[tuple[MemberOf, ...], ...]
    tuning: tuple[Indices, ...]
    dataset: Dataset
    groups: tuple[Groups, ...]
    rows: tuple[Indices, ...]
    labels: tuple[Floats, ...]
    overlap: tuple[NDArray[np.bool_], ...]
    crystals_seen: tuple[str, ...] = ()
    weighting: Weighting = "equal"

    @property
    def runs(self) -> tuple[int, ...]:
        """The runs it scores, in order: those with test rows in its dataset."""
        return tuple(members[0].rows.run for members in self.sources)

    @property
    def target(self) -> Dataset:
        """The dataset that the last stages fit."""
        return self.sources[0][0].stage.dataset

    @cached_property
    def stages(self) -> tuple[StageNode, ...]:
        """The stages that predict."""
        stages = (source.stage for members in self.sources for source in members)
        return tuple({stage.key: stage for stage in stages}.values())

    @cached_property
    def chain(self) -> tuple[StageNode, ...]:
        """The stages that predict and those they go on from, first to last."""
        return tuple({stage.key: stage for last in self.stages for stage in last.chain}.values())


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run will do, in order.

    Attributes:
        property: what every dataset trained on for its own sake, and tested on, holds.
        encoder: how crystals are encoded.
        locations: where data, weights and caches are looked for.
        protocols: in the order of the benchmark.
        configurations: in table order, under every protocol; the baselines first.
        stages: each after its parent.
        scorings: in table order.
        not_applicable: (transfer, train_on) pairs that are left out: the strategy makes no sense
            for that target, or (then with its name) for a model.
        run_names: what each run tests, by label of the protocols whose runs have names.
        limit: rows kept of each dataset, in a dry run.
    """

    benchmark: Benchmark
    property: PropertySpec
    loader: DatasetLoader
    encoder: Encoder
    locations: Locations
    protocols: tuple[ResolvedProtocol, ...]
    configurations: tuple[Configuration, ...]
    stages: tuple[StageNode, ...]
    scorings: tuple[Scoring, ...]
    not_applicable: tuple[tuple[str, str], ...]
    run_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """All that its configurations fit and that are tested on."""
        stages = (stage for one in self.configurations for stage in one.stages)
        fitted = (name for stage in stages for name in (stage.dataset, *stage.alongside))
        return tuple(dict.fromkeys((*fitted, *self.benchmark.test_on)))


def facts_of_run(sources: Sequence[MemberOf], tested: Dataset) -> dict[str, Any]:
    """What a result line says of how a run was planned, JSON-like.

    Args:
        sources: the members that predict.
        tested: the dataset whose test rows they predict.
    """
    stages = [member.stage for source in sources for member in source.line]
    return {
        "stage": one_or_all([source.stage.key for source in sources]),
        "train_rows": len(sources[0].rows.train),
        "epochs": one_or_all(
            [0 if s.stage.closed_form else s.member_training.training.epochs for s in sources]
        ),
        "datasets": {
            data.name: {"digest": data.digest, "rows": len(data)}
            for data in (*(fitted for stage in stages for fitted in stage.datasets), tested)
        },
    }


def one_or_all(values: Sequence[Any]) -> Any:
    """Returns the only value; all of them where there are several."""
    return values[0] if len(values) == 1 else list(values)


def alike(values: Sequence[Any]) -> Any:
    """Returns the value that all share; all of them where they differ."""
    return values[0] if all(value == values[0] for value in values) else list(values)


def goes_on(stage: StageNode) -> list[int]:
    """Positions in the stage before of the members that a stage goes on with; none if the same."""
    positions = [member.index for member in stage.parents]
    return positions if positions != list(range(len(positions))) else []


def optional(**facts: Any) -> dict[str, Any]:
    """Returns the facts that say something: what is empty leaves keys and records as they were."""
    return {name: value for name, value in facts.items() if value}


def digest_of(content: Any) -> str:
    """Returns 16 hexadecimal digits that depend on JSON-like content."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def array_digest(values: NDArray[Any]) -> str:
    """Returns the sha256 of an array's bytes."""
    return sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
