"""The plan: a directed acyclic graph of stages and scorings, plain data. `planner` lays it out.

A stage's key is the hash of all that determines its outcome, so equal stages are trained once and
a stage whose artefact exists is not run again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.benchmark import Benchmark, Choice
from harness.contracts import (
    Backbone,
    HeadSpec,
    ParameterGroup,
    PretrainedWeights,
    ProtocolRules,
    Scaler,
)
from harness.dataset import Dataset
from harness.library import Library
from harness.scores import Cell
from harness.training_settings import TrainingSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.locations import Locations

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Model:
    """A backbone with a head, resolved.

    Attributes:
        settings: all that determines what it is, the code of plugins that are not built in
            included; part of the key of its stages.
        backbone_code: digest of the code of the backbone's plugin; see `Registry.code_digest`.
    """

    backbone_choice: Choice
    backbone: Backbone
    rows_per_second: float
    head_choice: Choice
    head: HeadSpec
    head_settings: Any
    settings: Mapping[str, Any]
    backbone_code: str


@dataclass(frozen=True, eq=False)
class Rules:
    """A protocol, resolved."""

    choice: Choice
    rules: ProtocolRules

    @property
    def label(self) -> str:
        """Name in tables: with its view where it has one, else with its settings."""
        return f"{self.choice.name} [{self.rules.view}]" if self.rules.view else self.choice.label


@dataclass(frozen=True, eq=False)
class MemberRows:
    """What one run does in a stage: rows (positions in the dataset), labels, scaler, seeds.

    Attributes:
        scaler_rows: rows on which the scaler was fitted; none where an earlier stage gave it.
        labels: κ in W/(m·K) of every row of the dataset, as the protocol lets this run see it.
    """

    run: int
    train: Indices
    validation: Indices
    scaler_rows: Indices
    labels: Floats
    scaler: Scaler
    init_seed: int
    shuffle_seed: int


@dataclass(frozen=True, eq=False)
class AlongsideRows:
    """A dataset that a stage fits at the same time as its own, with a head of its own.

    Attributes:
        weight: of its loss, beside that of the stage's own dataset.
        members: one per run; without validation rows, since these choose nothing.
    """

    dataset: Dataset
    weight: float
    members: tuple[MemberRows, ...]


@dataclass(frozen=True, eq=False)
class StageNode:
    """One fit of all runs as one stack."""

    key: str
    title: str
    dataset: Dataset
    model: Model
    protocol: Rules
    parent: StageNode | None
    weights: PretrainedWeights | None
    training: TrainingSettings
    freeze: tuple[str, ...]
    groups: tuple[ParameterGroup, ...]
    alongside: tuple[AlongsideRows, ...]
    members: tuple[MemberRows, ...]

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
        epochs = 0 if self.closed_form else self.training.epochs
        return epochs * self.rows * (1 + len(self.alongside))

    @property
    def seconds(self) -> float:
        """A rough estimate of its training time on one CPU core."""
        return self.work / self.model.rows_per_second

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The dataset it fits, then those that it fits alongside."""
        return (self.dataset, *(other.dataset for other in self.alongside))

    def fitted(self, member: int) -> Iterator[tuple[Dataset, MemberRows]]:
        """Yields what one member is fitted to: of every dataset, its rows."""
        yield self.dataset, self.members[member]
        for other in self.alongside:
            yield other.dataset, other.members[member]

    @cached_property
    def chain(self) -> tuple[StageNode, ...]:
        """This stage and those before it, first to last."""
        return (*(self.parent.chain if self.parent else ()), self)

    def facts(self) -> dict[str, Any]:
        """What a record of the stage says of how it was planned, JSON-like."""
        others = [
            {
                "dataset": other.dataset.name,
                "dataset_digest": other.dataset.digest,
                "dataset_rows": len(other.dataset),
                "weight": other.weight,
                "train_rows": [len(member.train) for member in other.members],
                "scalers": [asdict(member.scaler) for member in other.members],
            }
            for other in self.alongside
        ]
        return {
            "title": self.title,
            "dataset": self.dataset.name,
            "dataset_digest": self.dataset.digest,
            "dataset_rows": len(self.dataset),
            "model": self.model.settings,
            "training": None if self.closed_form else self.training.model_dump(mode="json"),
            "freeze": list(self.freeze),
            "protocol": self.protocol.label,
            "parent": self.parent.key if self.parent else None,
            "weights": self.weights.name if self.weights else None,
            "weights_digest": self.weights.digest if self.weights else None,
            "runs": [member.run for member in self.members],
            "train_rows": [len(member.train) for member in self.members],
            "validation_rows": [len(member.validation) for member in self.members],
            "scalers": [asdict(member.scaler) for member in self.members],
            **optional(groups=[asdict(group) for group in self.groups], alongside=others),
        }

    def trained_groups(self, member: int) -> set[str]:
        """Reduced formulas that one member has seen in training, over the whole chain."""
        return {
            dataset.formulas[row]
            for stage in self.chain
            for dataset, rows in stage.fitted(member)
            for row in rows.train
        }


@dataclass(frozen=True, eq=False)
class Scoring:
    """Predictions of every run of a stage on the test rows of a dataset.

    Attributes:
        protocol: whose promise the scoring is under; equal stages are shared between protocols.
        rows: per run, positions of its test rows in the dataset.
        labels: per run, κ of those rows as the protocol lets it be seen, W/(m·K).
        overlap: per run, whether the row's group is in a training set of the chain, or in the
            dataset that its pretrained weights have seen, where that is a registered one.
    """

    key: str
    cell: Cell
    protocol: Rules
    stage: StageNode
    dataset: Dataset
    rows: tuple[Indices, ...]
    labels: tuple[Floats, ...]
    overlap: tuple[NDArray[np.bool_], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a run will do, in order.

    Attributes:
        locations: where data, weights and caches are looked for.
        stages: each after its parent.
        scorings: in table order.
        not_applicable: (transfer, train_on) pairs that are left out: the strategy makes no sense
            for that target, or (then with its name) for a model.
        limit: rows kept of each dataset, in a dry run.
    """

    benchmark: Benchmark
    library: Library
    locations: Locations
    stages: tuple[StageNode, ...]
    scorings: tuple[Scoring, ...]
    not_applicable: tuple[tuple[str, str], ...]
    limit: int | None = None


def optional(**facts: Any) -> dict[str, Any]:
    """Returns the facts that say something: what is empty leaves keys and records as they were."""
    return {name: value for name, value in facts.items() if value}


def digest_of(content: Any) -> str:
    """Returns 16 hexadecimal digits that depend on JSON-like content."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def array_digest(values: NDArray[Any]) -> str:
    """Returns the sha256 of an array's bytes."""
    return sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
