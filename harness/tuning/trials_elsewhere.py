"""Trials on an executor: sent with what decides on them; what comes back is noted here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from harness.plugin.events import EpochFinished
from harness.remote.dispatcher import LOOK_SECONDS, Dispatcher, TaskFailed
from harness.training.remote_stages import RemoteStages
from harness.tuning.trial_task import TrialsOrder, TrialsTold, train_trials

if TYPE_CHECKING:
    from harness.remote.executor_session import ExecutorSession
    from harness.training.run_context import RunContext
    from harness.tuning.search import TrialNotes
    from harness.tuning.trial_jobs import TrialJob


class TrialsElsewhere:
    """Has stacks of trials trained on an executor, after the stages that they go on from.

    This process alone writes the studies: a stack whose worker was lost is trained again from its
    beginning, by what was known then, so nothing depends on who was lost.

    Args:
        context: with the plan.
        session: with the executor.
        report_every: epochs between two looks at the trials in training.
        hear: is told of every epoch.
    """

    def __init__(
        self,
        context: RunContext,
        session: ExecutorSession,
        report_every: int,
        hear: Callable[[EpochFinished], None],
    ) -> None:
        self._stages = RemoteStages(context, session, lenient=False)
        self._dispatcher = Dispatcher(session)
        self._store, self._report_every, self._hear = context.store, report_every, hear
        self._waiting: list[TrialJob] = []
        self._in_training: set[TrialJob] = set()
        self._told: SimpleQueue[tuple[TrialJob, TrialsTold]] = SimpleQueue()

    @property
    def free(self) -> int:
        """Slots less the stacks that were started; what they go on from takes turns with them."""
        started = len(self._in_training) + len(self._waiting)
        return self._dispatcher.session.slots - started

    def start(self, job: TrialJob) -> None:
        """Takes a stack, which is sent when what it goes on from is there."""
        self._stages.want(job.missing(self._store.has_stage))
        self._waiting.append(job)

    def advance(self) -> Iterator[tuple[TrialJob, bool]]:
        """Gives out what can be, waits a moment, and notes what has come; see `TrialCarrier`."""
        self._waiting = [job for job in self._waiting if not self._send(job)]
        at_trials = bool(self._in_training)
        if self._waiting:
            self._stages.advance(0.0 if at_trials else LOOK_SECONDS)
        for (job, notes), outcome in self._dispatcher.finished():
            if isinstance(outcome, TaskFailed):
                raise outcome
            yield from self._heard()
            self._in_training.remove(job)
            notes.take(outcome)
            yield job, True
        yield from self._heard()

    def close(self) -> None:
        """Cancels what is under way."""
        self._stages.close()
        self._dispatcher.cancel()

    def _send(self, job: TrialJob) -> bool:
        """Sends a stack, if what it goes on from is there."""
        if job.missing(self._store.has_stage):
            return False
        order, shared = self._stages.order((job.node,))
        stack, notes = job.begin(self._report_every)
        about: tuple[TrialJob, TrialNotes] = (job, notes)
        hear = partial(self._listen, job)
        self._dispatcher.start(
            about, train_trials, TrialsOrder(order, stack), hear=hear, more=shared
        )
        self._in_training.add(job)
        return True

    def _listen(self, job: TrialJob, told: TrialsTold) -> None:
        """Takes messages in another thread, for this one to pass on."""
        self._told.put((job, told))

    def _heard(self) -> Iterator[tuple[TrialJob, bool]]:
        while True:
            try:
                job, told = self._told.get_nowait()
            except Empty:
                return
            if job not in self._in_training:  # a last word that came too late
                continue
            if told.epoch is not None:
                self._hear(replace(told.epoch, worker=told.worker))
            elif told.training:
                job.progressed(told.training)
                yield job, False
