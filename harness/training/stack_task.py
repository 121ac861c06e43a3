"""The stages of a stack on a worker: what it is sent, what it does with them, what goes back."""

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
from harness.planning.plan import Plan, Scoring
from harness.planning.resolved import ResolvedModel
from harness.planning.stacks import Stack
from harness.plugin.backbone import Backbone
from harness.plugin.locations import Locations
from harness.plugin.property import PropertySpec
from harness.remote.parcels import put_file
from harness.results.records import Failure, ResultLine
from harness.results.store import WEIGHTS_FILE, Store
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
class StackOrder:
    """Stages to be trained side by side, and cells to be scored; not those among the files.

    Attributes:
        benchmark: of the plan.
        property: of the plan.
        stack: the stages; most often one.
        scorings: what each of them alone predicts.
        files: of stages before them, and of themselves: weights and records, by path in the store.
        encodings: model, dataset and the digest of their packed encodings, among what is shared.
        limit: rows kept of each dataset, in a dry run.
    """

    benchmark: Benchmark
    property: PropertySpec
    stack: Stack
    scorings: tuple[Scoring, ...]
    files: Mapping[str, bytes]
    encodings: tuple[tuple[ResolvedModel, str], ...]
    limit: int | None


@dataclass(frozen=True, eq=False)
class StackParcel:
    """What has come of a stack.

    Attributes:
        stages: files of the artefacts, by name, of each stage by key; none of one that has failed.
        predictions: files of rows, by scoring.
        tuning: files of tuning ledgers, by scoring.
        results: lines, one per (cell, run).
        failures: of stages, or of cells.
    """

    stages: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
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
    """What a worker carries out its stack with; observers hear of it at the coordinator.

    Attributes:
        worker: that it is.
    """

    worker: Worker

    def tell(self, hook: str, event: object) -> None:
        """Tells the coordinator."""
        self.worker.tell(Told(hook, event, self.worker.link.worker))


def train_stack(worker: Worker, order: StackOrder) -> StackParcel:
    """Trains and scores the stages of a stack; see `stack_at_hand`."""
    with stack_at_hand(worker, order) as context:
        PlanExecutor(context).train(order.stack, lenient=True)
        return _parcel(context.store, order)


@contextmanager
def stack_at_hand(worker: Worker, order: StackOrder) -> Iterator[WorkerContext]:
    """Yields what carries out a stack in a store of its own, which goes when the block has ended.

    The store lies in the folder of the worker, under the first stage's key: where the block fails
    it stays, and a worker that sees the same folder goes on from the checkpoint of one that was
    lost.
    """
    folder = worker.folder / "stages" / order.stack[0].key
    store = Store.create(folder)
    store.forget_failures()
    for name, content in order.files.items():
        put_file(folder / name, content)
    yield WorkerContext(
        _plan(worker, order), store, worker.registry, LinkedStop(worker.link), worker
    )
    shutil.rmtree(folder, ignore_errors=True)


def _plan(worker: Worker, order: StackOrder) -> Plan:
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
        stages=order.stack,
        scorings=order.scorings,
        not_applicable=(),
        limit=order.limit,
    )


def _parcel(store: Store, order: StackOrder) -> StackParcel:
    keys = [node.key for node in order.stack]
    made = [key for key in keys if f"stages/{key}/{WEIGHTS_FILE}" not in order.files]
    scored = {scoring.key for scoring in order.scorings}
    return StackParcel(
        stages={key: store.stage_files(key) for key in made if store.has_stage(key)},
        predictions=_files(store.predictions_path(one.key) for one in order.scorings),
        tuning=_files(store.tuning_ledger_path(one.key) for one in order.scorings),
        results=tuple(line for line in store.read_results() if line.key in scored),
        failures=tuple(store.failures().values()),
    )


def _files(paths: Iterable[Path]) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in paths if path.is_file()}
