"""One stage on a worker: what it is sent, what it does with it, and what goes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.data.dataset import Dataset
from harness.data.dataset_loader import DatasetLoader
from harness.nn.encodings import put_shard
from harness.planning.benchmark import Benchmark
from harness.planning.encoder import Encoder, encodings_folder
from harness.planning.plan import Plan, Scoring, StageNode
from harness.planning.resolved import ResolvedModel
from harness.plugin.backbone import Backbone
from harness.plugin.locations import Locations
from harness.plugin.property import PropertySpec
from harness.remote.parcels import put_file
from harness.results.records import Failure, ResultLine
from harness.results.store import Store
from harness.training.plan_executor import PlanExecutor
from harness.training.run_context import RunContext
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from pathlib import Path

    from harness.plugin.executor import TaskLink
    from harness.remote.tasks import Worker

BY_CONTENT = (Dataset, Backbone)
"""What travels to a worker once, however many tasks need it, and is one object in a process."""


@dataclass(frozen=True, eq=False)
class StageOrder:
    """A stage to be trained, unless its artefact is among the files, and cells to be scored by it.

    Attributes:
        benchmark: of the plan.
        property: of the plan.
        node: the stage.
        scorings: what it alone predicts.
        files: of stages before it, and of itself: weights and records, by path in the store.
        encodings: model, dataset and the digest of their packed encodings, among what is shared.
        limit: rows kept of each dataset, in a dry run.
    """

    benchmark: Benchmark
    property: PropertySpec
    node: StageNode
    scorings: tuple[Scoring, ...]
    files: Mapping[str, bytes]
    encodings: tuple[tuple[ResolvedModel, str], ...]
    limit: int | None


@dataclass(frozen=True, eq=False)
class StageParcel:
    """What has come of a stage.

    Attributes:
        stage: files of its artefact, by name; none where it has failed.
        predictions: files of rows, by scoring.
        tuning: files of tuning ledgers, by scoring.
        results: lines, one per (cell, run).
        failures: of the stage, or of cells.
    """

    stage: Mapping[str, bytes] = field(default_factory=dict)
    predictions: Mapping[str, bytes] = field(default_factory=dict)
    tuning: Mapping[str, bytes] = field(default_factory=dict)
    results: tuple[ResultLine, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Told:
    """An event of a worker, for the observers of the coordinator."""

    hook: str
    event: object
    worker: str


class LinkedStop(StopSignal):
    """Ends a task where it was cancelled, or nobody waits for it."""

    def __init__(self, link: TaskLink) -> None:
        super().__init__()
        self._link = link

    def is_set(self) -> bool:
        """Whether the task is to end."""
        return self._link.is_stopped()


@dataclass(frozen=True, eq=False)
class WorkerContext(RunContext):
    """What a worker carries out its stage with; observers hear of it at the coordinator.

    Attributes:
        worker: that it is.
    """

    worker: Worker

    def tell(self, hook: str, event: object) -> None:
        """Tells the coordinator."""
        self.worker.tell(Told(hook, event, self.worker.link.worker))


def train_stage(worker: Worker, order: StageOrder) -> StageParcel:
    """Trains and scores one stage; see `stage_at_hand`."""
    with stage_at_hand(worker, order) as context:
        PlanExecutor(context).train([order.node], lenient=True)
        return _parcel(context.store, order)


@contextmanager
def stage_at_hand(worker: Worker, order: StageOrder) -> Iterator[WorkerContext]:
    """Yields what carries out a stage in a store of its own, which goes when the block has ended.

    The store lies in the folder of the worker, under the stage's key: where the block fails it
    stays, and a worker that sees the same folder goes on from the checkpoint of one that was lost.
    """
    folder = worker.folder / "stages" / order.node.key
    store = Store.create(folder)
    store.forget_failures()
    for name, content in order.files.items():
        put_file(folder / name, content)
    yield WorkerContext(
        _plan(worker, order), store, worker.registry, LinkedStop(worker.link), worker
    )
    shutil.rmtree(folder, ignore_errors=True)


def _plan(worker: Worker, order: StageOrder) -> Plan:
    """The part of the plan that this is, with data, weights and encodings as they were sent."""
    locations = Locations()
    cache = worker.folder
    for model, digest in order.encodings:
        put_shard(model.backbone, encodings_folder(cache, model), worker.shared[digest])
    return Plan(
        benchmark=order.benchmark,
        property=order.property,
        loader=DatasetLoader(worker.registry, locations, order.limit),
        encoder=Encoder(cache, jobs=1),
        locations=locations,
        protocols=(),
        configurations=(),
        stages=(order.node,),
        scorings=order.scorings,
        not_applicable=(),
        limit=order.limit,
    )


def _parcel(store: Store, order: StageOrder) -> StageParcel:
    key = order.node.key
    return StageParcel(
        stage=store.stage_files(key) if store.has_stage(key) else {},
        predictions=_files(store.predictions_path(one.key) for one in order.scorings),
        tuning=_files(store.tuning_ledger_path(one.key) for one in order.scorings),
        results=tuple(store.read_results()),
        failures=tuple(store.failures().values()),
    )


def _files(paths: Iterable[Path]) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in paths if path.is_file()}
