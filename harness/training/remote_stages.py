"""Stages of a plan on an executor: sent with all they need; what comes back is written here."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from harness.nn.encodings import pack_kept
from harness.planning.encoder import encodings_folder, encodings_of
from harness.planning.stacks import stacks_of
from harness.plugin.events import CellFinished, EpochFinished, StageFinished, StageStarted
from harness.remote.dispatcher import LOOK_SECONDS, Dispatcher, TaskFailed
from harness.results.records import Failure
from harness.results.store import STAGE_FILE, WEIGHTS_FILE
from harness.training.plan_executor import (
    encode_first,
    is_ready,
    scored_by_one,
    tell_of_failure,
    without_failed,
)
from harness.training.stack_task import StackOrder, StackParcel, Told, train_stack
from harness.training.tally import Tally

if TYPE_CHECKING:
    from typing import Any

    from harness.data.dataset import Dataset
    from harness.planning.plan import Scoring, StageNode
    from harness.planning.resolved import ResolvedModel
    from harness.planning.stacks import Stack
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
        self._waiting: list[Stack] = []
        self._wanted: set[str] = set()
        self._scored_by = scored_by_one(context.plan)
        self._encodings: dict[tuple[str, ...], tuple[str, Any]] = {}
        self._locks: dict[str, ExitStack] = {}
        self._tally = Tally()

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
        further = [node for node in stages if node.key not in self._wanted]
        self._wanted |= {node.key for node in further}
        self._waiting += stacks_of(self._plan, further)
        self._tally.want(further)

    def advance(self, seconds: float = LOOK_SECONDS) -> None:
        """Gives out what can be, and takes what has come back.

        Args:
            seconds: to wait for something, at most.

        Raises:
            TaskFailed: a stage has failed, where that is not to be noted only.
            KeyboardInterrupt, ExecutorError: see `train`.
        """
        self._waiting = self._give_out()
        for stack, outcome in self._dispatcher.finished(seconds):
            again = self._take(stack, outcome)
            self._waiting += again
            self._release(stack, again)
        if self._waiting and not self._dispatcher.under_way:  # all are other processes'
            time.sleep(seconds)

    def close(self) -> None:
        """Cancels what is under way, and leaves it to others."""
        self._dispatcher.cancel()
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()

    # --- giving out ---------------------------------------------------------------------------

    def _give_out(self) -> list[Stack]:
        """Gives out what can be; returns what still waits, less what waits for what has failed."""
        if not self._waiting:
            return []
        free = self._dispatcher.session.free
        failed = self._store.failures().keys() if self._lenient else set()
        left: list[Stack] = []
        for place, whole in enumerate(self._waiting):
            if free <= 0:
                return [*left, *self._waiting[place:]]
            stack = without_failed(whole, failed)
            if not stack:
                continue
            if not (is_ready(stack, self._store) and self._reserve(stack)):
                left.append(stack)
                continue
            if all(self._is_done(node) for node in stack):  # by another process
                self._release(stack)
                continue
            order, shared = self.order(stack, self._pending_scorings(stack))
            hear = partial(self._hear, {node.key: node for node in stack})
            self._dispatcher.start(stack, train_stack, order, hear=hear, more=shared)
            free -= 1
        return left

    def _reserve(self, stack: Stack) -> bool:
        """Takes stages for this process while they are under way elsewhere."""
        locks = ExitStack()
        if not locks.enter_context(self._store.try_stages(node.key for node in stack)):
            locks.close()
            return False
        self._locks[stack[0].key] = locks
        return True

    def _release(self, stack: Stack, again: Sequence[Stack] = ()) -> None:
        """Leaves stages to others, and counts them, but for those that wait once more."""
        self._locks.pop(stack[0].key).close()
        waiting = {node.key for alone in again for node in alone}
        for node in stack:
            if node.key not in waiting:
                self._tally.finish(node)

    def _is_done(self, node: StageNode) -> bool:
        return self._store.has_stage(node.key) and not self._pending_scorings([node])

    def _pending_scorings(self, stack: Sequence[StageNode]) -> tuple[Scoring, ...]:
        scored = self._store.scored()
        return tuple(
            scoring
            for node in stack
            for scoring in self._scored_by.get(node.key, ())
            if not set(scoring.runs) <= scored.get(scoring.key, set())
        )

    def order(
        self, stack: Stack, scorings: tuple[Scoring, ...] = ()
    ) -> tuple[StackOrder, dict[str, Any]]:
        """Returns what a worker is sent of a stack, and by digest what stands for its encodings."""
        model = stack[0].model
        fitted = [dataset for node in stack for dataset in node.datasets]
        datasets = {id(data): data for data in (*fitted, *(s.dataset for s in scorings))}
        packed = [self._packed(model, dataset) for dataset in datasets.values()]
        order = StackOrder(
            self._plan.benchmark,
            self._plan.property,
            stack,
            scorings,
            {name: content for node in stack for name, content in self._files(node).items()},
            tuple((model, digest) for digest, _ in packed),
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
            name = f"stages/{needed}/{WEIGHTS_FILE}"
            files[name] = self._store.weights_path(needed).read_bytes()
        if not own:
            files.pop(f"stages/{node.key}/{STAGE_FILE}", None)
        return files

    # --- taking back --------------------------------------------------------------------------

    def _take(self, stack: Stack, outcome: StackParcel | TaskFailed) -> list[Stack]:
        """Writes what has come of a stack: weights first, then rows, then results.

        Returns:
            What is to be trained once more, each stage alone: all that is missing of a stack that
            came to nothing, since that may be the fault of one of them.
        """
        if isinstance(outcome, TaskFailed):
            left = [node for node in stack if not self._is_done(node)]
            if len(left) > 1:
                tell_of_failure(left, outcome)
                return [(node,) for node in left]
            reason, told = str(outcome), outcome.traceback
            failures = (Failure(key=node.key, reason=reason, traceback=told) for node in left)
            outcome = StackParcel(failures=tuple(failures))
        for node in stack:
            if node.key in outcome.stages and not self._store.has_stage(node.key):
                self._store.put_stage(node.key, outcome.stages[node.key])
                self._tally.finish(node)
                seconds = self._store.stage_record(node.key).seconds
                counted = (seconds, self._tally.done, self._tally.total)
                event = StageFinished(node.key, node.title, *counted)
                self._context.tell("stage_finished", event)
        for key, rows in outcome.predictions.items():
            self._store.put_rows(self._store.predictions_path(key), rows)
        for key, rows in outcome.tuning.items():
            self._store.put_rows(self._store.tuning_ledger_path(key), rows)
        self._store.append_results(outcome.results)
        keys = {line.key for line in outcome.results}
        for scoring in (scoring for node in stack for scoring in self._scored_by.get(node.key, ())):
            if scoring.key in keys:
                cell = CellFinished(**vars(scoring.cell), runs=len(scoring.runs))
                self._context.tell("cell_finished", cell)
        for failure in outcome.failures:
            if not self._lenient:
                raise TaskFailed(failure.reason, failure.traceback)
            self._store.append_failure(failure)
        return []

    # --- observers ----------------------------------------------------------------------------

    def _hear(self, stack: Mapping[str, StageNode], told: Told) -> None:
        """Passes on what a worker tells of stages, by key; counted over the whole run."""
        event = told.event
        if isinstance(event, StageStarted):
            done, total = self._tally.done, self._tally.total
            event = replace(event, done=done, total=total, worker=told.worker)
        elif isinstance(event, EpochFinished):
            fraction = self._tally.reach(stack[event.key], event.epoch / event.epochs)
            event = replace(event, fraction=fraction, worker=told.worker)
        else:  # told when it is on disk here
            return
        self._context.tell(told.hook, event)
