"""Stacks of trials of this command, and their training in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from harness.planning.stage_planner import Assigned
from harness.plugin.events import EpochFinished
from harness.tuning.search import Attempt, Search, TrialNotes
from harness.tuning.trial_stack import TrialStack

if TYPE_CHECKING:
    from harness.planning.plan import MemberOf, StageNode
    from harness.training.plan_executor import PlanExecutor


@dataclass(eq=False)
class Batch:
    """Trials of one search that were taken together.

    Attributes:
        search: theirs.
        beating: ends when they have ended: others then hear of them no more.
        jobs: stacks of them that have not ended.
    """

    search: Search
    beating: ExitStack
    jobs: int = 0


@dataclass(eq=False)
class TrialJob:
    """Trials of one batch that are trained side by side.

    Attributes:
        batch: theirs.
        parts: of every member, its trial and what the member is.
        share: of the trials' epochs so far, summed over trials.
    """

    batch: Batch
    parts: Sequence[tuple[Attempt, Assigned]]
    share: float = 0.0

    @property
    def attempts(self) -> list[Attempt]:
        """The trial of every member."""
        return [attempt for attempt, _ in self.parts]

    @cached_property
    def members(self) -> Sequence[MemberOf]:
        """The members, of one stage."""
        return self.batch.search.planner.members([assigned for _, assigned in self.parts])

    @property
    def node(self) -> StageNode:
        """The stage of the members."""
        (node,) = {member.stage.key: member.stage for member in self.members}.values()
        return node

    @property
    def finished(self) -> bool:
        """Whether a process that was killed had come to the end of this stack."""
        return all(attempt.finished for attempt in self.attempts)

    def missing(self, has_stage: Callable[[str], bool]) -> list[StageNode]:
        """The stages that members go on from and that are not there yet, first to last."""
        before = {one.stage.key: one.stage for member in self.members for one in member.line[:-1]}
        return [stage for key, stage in before.items() if not has_stage(key)]

    def begin(self, report_every: int) -> tuple[TrialStack, TrialNotes]:
        """Returns what decides on the trials, by what is known now, and what notes it."""
        notes = TrialNotes(list(dict.fromkeys(self.attempts)))
        return TrialStack(self.attempts, report_every), notes

    def progressed(self, training: float) -> None:
        """Takes the members' shares of their epochs, summed."""
        self.share = training / len(self.parts[0][0].runs)


class TrialCarrier(Protocol):
    """What carries out stacks of trials: this process, or an executor."""

    @property
    def free(self) -> int:
        """How many further stacks may be started."""

    def start(self, job: TrialJob) -> None:
        """Takes a stack."""

    def advance(self) -> Iterator[tuple[TrialJob, bool]]:
        """Yields stacks that have come further, and whether their trials have ended.

        Raises:
            KeyboardInterrupt: it was to stop; trials that have ended are in their studies.
        """

    def close(self) -> None:
        """Gives up what is under way."""


class TrialsHere:
    """Trains stacks of trials in this process, one after another.

    Args:
        executor: of the stages that trials go on from, and of trials.
        report_every: epochs between two looks at the trials in training.
        hear: is told of every epoch.
    """

    def __init__(
        self, executor: PlanExecutor, report_every: int, hear: Callable[[EpochFinished], None]
    ) -> None:
        self._executor, self._report_every, self._hear = executor, report_every, hear
        self._job: TrialJob | None = None

    @property
    def free(self) -> int:
        """One, unless a stack was started."""
        return int(self._job is None)

    def start(self, job: TrialJob) -> None:
        """Takes a stack, which is trained by `advance`."""
        self._job = job

    def advance(self) -> Iterator[tuple[TrialJob, bool]]:
        """Trains the stack, after what it goes on from; see `TrialCarrier`."""
        job = self._job
        if job is None:
            return
        self._executor.train(job.missing(self._executor.store.has_stage))
        stack, notes = job.begin(self._report_every)
        for look in stack.fit(self._executor, job.node, self._hear):
            notes.take(look.news)
            job.progressed(look.training)
            if look.training:
                yield job, False
        self._job = None
        yield job, True

    def close(self) -> None:
        """Does nothing: whatever ends `advance` has ended the training."""
