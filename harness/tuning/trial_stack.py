"""Trials that are trained side by side: which of them go on, and what comes of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from optuna.trial import TrialState

from harness.plugin.events import EpochFinished
from harness.tuning.search import Attempt, Ended, Rehearsal, Reported

if TYPE_CHECKING:
    from harness.planning.plan import StageNode
    from harness.training.fit_progress import EpochReport
    from harness.training.plan_executor import PlanExecutor
    from harness.training.stack_fit import StackFit

    News = list[Reported | Ended]


class Look(NamedTuple):
    """What a look at trials in training has found.

    Attributes:
        news: of trials.
        training: of the members that go on, the shares of their epochs that are done, summed.
    """

    news: News
    training: float


class TrialStack:
    """The trials whose members share a stack; a trial has one member, or all runs.

    Can be sent to another machine.

    Args:
        attempts: one per member.
        report_every: epochs between two looks at the trials in training.
    """

    def __init__(self, attempts: Sequence[Attempt], report_every: int) -> None:
        trials = list(dict.fromkeys(attempts))
        places = {attempt: place for place, attempt in enumerate(trials)}
        self._trials = [places[attempt] for attempt in attempts]
        self._rehearsal = Rehearsal(trials)
        self._report_every = report_every

    def fit(
        self, executor: PlanExecutor, node: StageNode, hear: Callable[[EpochFinished], None]
    ) -> Iterator[Look]:
        """Trains the trials to their ends, and looks at them now and then.

        Args:
            executor: with the weights that they start from in its store.
            node: the stage of the members.
            hear: is told of every epoch.

        Raises:
            KeyboardInterrupt: it was to stop.
        """
        builder = executor.stage_builder
        if node.closed_form:
            yield Look(self._finish(executor.validate(node)), 0.0)
            return

        def heard(epoch: EpochReport) -> None:
            how = (node.epochs, node.selection.name, epoch.score, epoch.skipped, 0.0)
            hear(EpochFinished(node.key, node.title, epoch.epoch, *how))
            executor.context.stop.check()

        model = builder.modules(node)
        builder.start_weights(node, model)
        fit = builder.stack_fit([node], model)
        alive = list(range(len(self._trials)))
        while alive:
            fit.train(fit.progress.epoch + self._report_every, heard)
            keep, news = self._look(fit, alive)
            yield Look(news, len(keep) * fit.progress.epoch / node.epochs)
            if keep and len(keep) < len(alive):
                kept = [alive[place] for place in keep]
                fit = fit.of_members(keep, builder.modules(node, kept))
            alive = [alive[place] for place in keep]

    def _members(self, alive: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yields the trials that are still in training, with the places of their members."""
        places: dict[int, list[int]] = {}
        for place, member in enumerate(alive):
            places.setdefault(self._trials[member], []).append(place)
        yield from places.items()

    def _look(self, fit: StackFit, alive: Sequence[int]) -> tuple[list[int], News]:
        """Reports scores so far and ends trials; returns the places of members that go on."""
        keep: list[int] = []
        news: News = []
        training = fit.training
        for trial, places in self._members(alive):
            scores = [fit.progress.best_score[place] for place in places]
            best_epoch = float(np.mean([fit.progress.best_epoch[place] for place in places]))
            score = float(np.mean(scores))
            if math.isfinite(score):
                news.append(self._rehearsal.report(trial, score, fit.progress.epoch))
            if not training & set(places):
                news.append(self._end(trial, scores, TrialState.COMPLETE, best_epoch))
            elif math.isfinite(score) and self._rehearsal.prunes(trial):
                news.append(self._end(trial, scores, TrialState.PRUNED, best_epoch))
            else:
                keep += places
        return keep, news

    def _finish(self, scores: Sequence[float]) -> News:
        """Ends trials of heads in closed form: one score per member."""
        return [
            self._end(trial, [scores[place] for place in places], TrialState.COMPLETE)
            for trial, places in self._members(range(len(self._trials)))
        ]

    def _end(
        self,
        trial: int,
        scores: Sequence[float],
        state: TrialState,
        best_epoch: float | None = None,
    ) -> Ended:
        score = float(np.mean(scores))
        notes: dict[str, float | None] = {"best_epoch": best_epoch}
        if len(scores) > 1:
            notes["spread"] = float(np.std(scores, ddof=1))
        if not math.isfinite(score):
            # Counts as a trial, or settings that diverge would be tried for ever.
            state = TrialState.PRUNED
        value = score if state is TrialState.COMPLETE else None
        return self._rehearsal.end(trial, value, state, notes)
