"""Stages of a plan on an executor: sent with all they need; what comes back is written here."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from harness.nn.encodings import pack_kept
from harness.planning.encoder import encodings_folder, encodings_of
from harness.plugin.events import CellFinished, EpochFinished, StageFinished, StageStarted
from harness.remote.dispatcher import LOOK_SECONDS, Dispatcher, TaskFailed
from harness.results.records import Failure
from harness.results.store import STAGE_FILE
from harness.training.plan_executor import encode_first, scored_by_one
from harness.training.stage_task import StageOrder, StageParcel, Told, train_stage

if TYPE_CHECKING:
    from typing import Any

    from harness.data.dataset import Dataset
    from harness.planning.plan import Scoring, StageNode
    from harness.planning.resolved import ResolvedModel
    from harness.remote.executor_session import ExecutorSession
    from harness.training.run_context import RunContext


class RemoteStages:
    """Trains what is pending of a plan on an executor, and scores what single stages predict.

    This process alone writes the store: what comes back is written as if it had been made here,
    stage by stage, so whatever was finished stays when this process or the executor is lost.

    Args:
        context: with the plan.
        session: with the executor.
        lenient: note what fails, and go on with what is not made of it.
    """

    def __init__(
        self, context: RunContext, session: ExecutorSession, *, lenient: bool = True
    ) -> None:
        self._context, self._plan, self._store = context, context.plan, context.store
        self._dispatcher, self._lenient = Dispatcher(session), lenient
        self._waiting: list[StageNode] = []
        self._scored_by = scored_by_one(context.plan)
        self._encodings: dict[tuple[str, ...], tuple[str, Any]] = {}
        self._locks: dict[str, ExitStack] = {}
        self._fractions: dict[str, float] = {}
        self._total, self._done, self._work, self._work_done = 0, 0, 0, 0

    def train(self, stages: Sequence[StageNode]) -> None:
        """Has stages trained, each once what it goes on from is there, until none is left.

        Args:
            stages: each after its parent.

        Raises:
            KeyboardInterrupt: it was to stop; what is complete is on disk.
            ExecutorError: nothing can be carried out there any more; the same.
        """
        encode_first(self._plan, stages)  # while all workers are free
        self.want(stages)
        try:
            while self._waiting or self._dispatcher.under_way:
                self.advance()
        finally:
            self.close()

    def want(self, stages: Sequence[StageNode]) -> None:
        """Takes stages to be trained, each after its parent; some may be wanted already."""
        wanted = self._locks.keys() | {node.key for node in self._waiting}
        further = [node for node in stages if node.key not in wanted]
        self._waiting += further
        self._total += len(further)
        self._work += sum(node.work for node in further)

    def advance(self, seconds: float = LOOK_SECONDS) -> None:
        """Gives out what can be, and takes what has come back.

        Args:
            seconds: to wait for something, at most.

        Raises:
            TaskFailed: a stage has failed, where that is not to be noted only.
            KeyboardInterrupt, ExecutorError: see `train`.
        """
        self._waiting = self._give_out()
        for node, outcome in self._dispatcher.finished(seconds):
            self._take(node, outcome)
            self._locks.pop(node.key).close()
        if self._waiting and not self._dispatcher.under_way:  # all are other processes'
            time.sleep(seconds)

    def close(self) -> None:
        """Cancels what is under way, and leaves it to others."""
        self._dispatcher.cancel()
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()

    # --- giving out ---------------------------------------------------------------------------

    def _give_out(self) -> list[StageNode]:
        """Gives out what can be; returns what still waits, less what waits for what has failed."""
        if not self._waiting:
            return []
        free = self._dispatcher.session.free
        failed = self._store.failures().keys() if self._lenient else set()
        left: list[StageNode] = []
        for place, node in enumerate(self._waiting):
            if free <= 0:
                return [*left, *self._waiting[place:]]
            if not failed.isdisjoint(stage.key for stage in node.chain):
                continue
            ready = node.parent is None or self._store.has_stage(node.parent.key)
            if not (ready and self._reserve(node)):
                left.append(node)
                continue
            scorings = self._pending_scorings(node)
            if not scorings and self._store.has_stage(node.key):  # another process has done it
                self._locks.pop(node.key).close()
                self._finish(node)
                continue
            order, shared = self.order(node, scorings)
            hear = partial(self._hear, node)
            self._dispatcher.start(node, train_stage, order, hear=hear, more=shared)
            free -= 1
        return left

    def _reserve(self, node: StageNode) -> bool:
        """Takes a stage for this process while it is under way elsewhere."""
        lock = ExitStack()
        if not lock.enter_context(self._store.try_stage(node.key)):
            lock.close()
            return False
        self._locks[node.key] = lock
        return True

    def _pending_scorings(self, node: StageNode) -> tuple[Scoring, ...]:
        scored = self._store.scored()
        return tuple(
            scoring
            for scoring in self._scored_by.get(node.key, ())
            if not set(scoring.runs) <= scored.get(scoring.key, set())
        )

    def order(
        self, node: StageNode, scorings: tuple[Scoring, ...] = ()
    ) -> tuple[StageOrder, dict[str, Any]]:
        """Returns what a worker is sent of a stage, and by digest what stands for its encodings."""
        datasets = {id(data): data for data in (*node.datasets, *(s.dataset for s in scorings))}
        packed = [self._packed(node.model, dataset) for dataset in datasets.values()]
        order = StageOrder(
            self._plan.benchmark,
            self._plan.property,
            node,
            scorings,
            self._files(node),
            tuple((node.model, digest) for digest, _ in packed),
            self._plan.limit,
        )
        return order, dict(packed)

    def _packed(self, model: ResolvedModel, dataset: Dataset) -> tuple[str, Any]:
        """Encodes a dataset where that has not been done; returns what stands for its encodings."""
        identity = (*encodings_of(model), dataset.digest)
        if identity not in self._encodings:
            with suppress(Exception):  # it is met again, and told, by the stage
                self._plan.encoder.encode(model, dataset)
            folder = encodings_folder(self._plan.encoder.cache, model)
            shard = pack_kept(model.backbone, dataset.crystals, folder)
            self._encodings[identity] = self._dispatcher.session.packer.share_bytes(shard)
        return self._encodings[identity]

    def _files(self, node: StageNode) -> dict[str, bytes]:
        """What a worker has to read of stages: records of all before, weights to go on with."""
        files = {}
        for stage in node.chain:
            if self._store.has_record(stage.key):
                record = json.dumps(self._store.stage_record(stage.key).as_json())
                files[f"stages/{stage.key}/{STAGE_FILE}"] = record.encode()
        own = self._store.has_stage(node.key)
        needed = node.key if own else node.parent.key if node.parent else None
        if needed is not None:
            name = f"stages/{needed}/weights.safetensors"
            files[name] = self._store.weights_path(needed).read_bytes()
        if not own:
            files.pop(f"stages/{node.key}/{STAGE_FILE}", None)
        return files

    # --- taking back --------------------------------------------------------------------------

    def _take(self, node: StageNode, outcome: StageParcel | TaskFailed) -> None:
        """Writes what has come of a stage: weights first, then rows, then results."""
        if isinstance(outcome, TaskFailed):
            failure = Failure(key=node.key, reason=str(outcome), traceback=outcome.traceback)
            outcome = StageParcel(failures=(failure,))
        for failure in outcome.failures:
            if not self._lenient:
                raise TaskFailed(failure.reason, failure.traceback)
            self._store.append_failure(failure)
        if outcome.stage and not self._store.has_stage(node.key):
            self._store.put_stage(node.key, outcome.stage)
            seconds = self._store.stage_record(node.key).seconds
            self._finish(node)
            self._context.tell(
                "stage_finished",
                StageFinished(node.key, node.title, seconds, self._done, self._total),
            )
        else:
            self._finish(node)
        for key, rows in outcome.predictions.items():
            self._store.put_rows(self._store.predictions_path(key), rows)
        for key, rows in outcome.tuning.items():
            self._store.put_rows(self._store.tuning_ledger_path(key), rows)
        self._store.append_results(outcome.results)
        keys = {line.key for line in outcome.results}
        for scoring in self._scored_by.get(node.key, ()):
            if scoring.key in keys:
                event = CellFinished(**vars(scoring.cell), runs=len(scoring.runs))
                self._context.tell("cell_finished", event)

    def _finish(self, node: StageNode) -> None:
        self._done += 1
        self._work_done += node.work
        self._fractions.pop(node.key, None)

    # --- observers ----------------------------------------------------------------------------

    def _hear(self, node: StageNode, told: Told) -> None:
        """Passes on what a worker tells, counted over the whole run."""
        event = told.event
        if isinstance(event, StageStarted):
            event = replace(event, done=self._done, total=self._total, worker=told.worker)
        elif isinstance(event, EpochFinished):
            self._fractions[node.key] = event.fraction * node.work
            work = self._work_done + sum(list(self._fractions.values()))
            event = replace(event, fraction=min(work / (self._work or 1), 1.0), worker=told.worker)
        else:  # told when it is on disk here
            return
        self._context.tell(told.hook, event)
