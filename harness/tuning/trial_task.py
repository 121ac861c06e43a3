"""A stack of trials on a worker: what it is sent, what it tells, and what goes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plugin.events import EpochFinished
from harness.training.plan_executor import PlanExecutor
from harness.training.stack_task import StackOrder, stack_at_hand
from harness.tuning.search import Ended, Reported, quiet
from harness.tuning.trial_stack import TrialStack

if TYPE_CHECKING:
    from harness.remote.tasks import Worker


@dataclass(frozen=True, eq=False)
class TrialsOrder:
    """Trials to be carried out.

    Attributes:
        training: of the stage that their members make up, with what it goes on from.
        stack: decides which of them go on.
    """

    training: StackOrder
    stack: TrialStack


@dataclass(frozen=True)
class TrialsTold:
    """What a worker tells of trials in training.

    Attributes:
        worker: that it is.
        epoch: that is done.
        training: the members' shares of their epochs, summed; unless it is of an epoch.
    """

    worker: str
    epoch: EpochFinished | None = None
    training: float = 0.0


def train_trials(worker: Worker, order: TrialsOrder) -> list[Reported | Ended]:
    """Trains trials to their ends; returns all that is to be noted of them."""
    news: list[Reported | Ended] = []
    name = worker.link.worker
    with stack_at_hand(worker, order.training) as context, quiet():

        def hear(epoch: EpochFinished) -> None:
            worker.tell(TrialsTold(name, epoch))

        for look in order.stack.fit(PlanExecutor(context), order.training.stack[0], hear):
            news += look.news
            worker.tell(TrialsTold(name, training=look.training))
    return news
