"""Carries out searches for settings: trials are trained in batches, as stacks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from optuna.trial import TrialState

from harness.errors import BenchmarkError, LeakError
from harness.planning.chosen_settings import Chosen
from harness.planning.plan import MemberOf, StageNode, digest_of
from harness.planning.stage_planner import Assigned, StagePlanner
from harness.plugin.events import EpochFinished, SearchProgressed
from harness.plugin.seeds import derive_seed
from harness.plugin.study import StudyRequest, Tuning
from harness.results.store import TUNING_FOLDER
from harness.training.plan_executor import PlanExecutor
from harness.tuning.search import (
    Attempt,
    Proposer,
    Rehearsal,
    Search,
    Worker,
    find_shapes,
    quiet,
    setting_of,
    title_of,
)
from harness.tuning.search_space import ConfigurationSpace, check_changes, space_of
from harness.tuning.trials_table import thaw_searches

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from harness.planning.resolved import Configuration
    from harness.plugin.metric import MetricSpec
    from harness.training.fit_progress import EpochReport
    from harness.training.run_context import RunContext
    from harness.training.stack_fit import StackFit

MOST_MEMBERS = 64
"""Members of one stack of trials; more are trained one stack after another."""


class Tuner:
    """Searches for the settings of every configuration of a plan.

    Args:
        context: with the plan of a benchmark whose `tuning` says how to search; the searches lie
            in the folder `tuning` of its store.
        join: another process has begun these searches.

    Attributes:
        searches: one for each configuration that has anything to search for.
        untuned: titles of the others, which stay at their defaults.

    Raises:
        BenchmarkError: none has; or there is no such search to join.
    """

    def __init__(self, context: RunContext, join: bool = False) -> None:
        self._context = context
        self._plan, self._store = context.plan, context.store
        self._registry = context.registry
        self.benchmark = self._plan.benchmark
        assert self.benchmark.tuning is not None
        self.tuning: Tuning = self.benchmark.tuning
        self._fraction = 0.0
        self._executor = PlanExecutor(context)
        self._folder = self._store.folder / TUNING_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._join = join
        self._stages: dict[str, StageNode] = {}
        self.untuned: list[str] = []
        with FileLock(self._folder / ".lock-studies"), quiet():
            thaw_searches(self._store.folder)
            self.searches = list(self._make_searches())
        if not self.searches:
            raise BenchmarkError(
                f"There is nothing to search for in {'; '.join(self.untuned)}: no part declares a "
                "search space, or the benchmark fixes all of it. Give one in [tuning.space]."
            )

    # --- what is searched for -----------------------------------------------------------------

    def _make_searches(self) -> Iterator[Search]:
        plan, benchmark, tuning = self._plan, self._plan.benchmark, self.tuning
        choices = {
            "backbones": [ref.name for ref in benchmark.backbones],
            "heads": [ref.name for ref in benchmark.heads],
            "transfers": [ref.name for ref in benchmark.transfers],
        }
        check_changes(tuning.space, choices)
        tunable = [one for one in plan.configurations if one.transfer is not None]
        for protocol in plan.protocols:
            planner = StagePlanner(
                benchmark,
                plan.loader,
                self._registry,
                plan.locations,
                protocol,
                self._stages,
                plan.datasets,
            )
            for one in tunable:
                if tuning.selection == "shared" and protocol.rules.leak_free:
                    _refuse_shared(one, planner, benchmark.runs)
                space = space_of(one, tuning.space, self._registry, plan.property)
                if space.distributions:
                    yield self._make_search(one, planner, space)
                else:
                    self.untuned.append(title_of(one, planner))

    def _make_search(
        self, one: Configuration, planner: StagePlanner, space: ConfigurationSpace
    ) -> Search:
        runs = range(1, self._plan.benchmark.runs + 1)
        metric = planner.selection(one.target, one.target)
        asked = [
            {name: repr(own) for name, own in sorted(space.distributions.items())},
            [[part.name, sorted(map(repr, part.fixed.items()))] for part in space.parts],
        ]
        title = f"{one.model.head_ref.name} {one.transfer_label} {one.target}"
        shared = self.tuning.selection == "shared"
        names, most = {}, space.most_epochs or 0
        for group in [tuple(runs)] if shared else [(run,) for run in runs]:
            members = planner.members([Assigned(run, one) for run in group])
            content = digest_of([members[0].stage.key, metric.name, *asked])
            most = most or members[0].member_training.training.epochs
            names[group] = f"{title} {_named(group, shared)} {content}"
        key = digest_of(list(names.values()))
        requests = {group: self._request(name, metric, most) for group, name in names.items()}
        self._begin(key, title_of(one, planner))
        return Search(
            key,
            one,
            planner,
            space,
            {group: self._make_study(request) for group, request in requests.items()},
            {group: self._proposer(request) for group, request in requests.items()},
            self.tuning,
            find_shapes(one, space, planner, self._registry),
            derive_seed(self.benchmark.seed, title, "shapes"),
            metric.name,
            metric.higher_is_better,
        )

    def _begin(self, key: str, title: str) -> None:
        """Leaves the search's lock for others to find; or finds it, where one has begun."""
        lock = self._lock_path(key)
        if self._join and not lock.exists():
            raise BenchmarkError(
                f"There is no search to join for {title} in {self._store.folder}: give the file "
                "and the --set that it was begun with, or begin one without --join."
            )
        lock.touch()

    def _lock_path(self, key: str) -> Path:
        return self._folder / f".lock-{key}"

    def _request(self, name: str, metric: MetricSpec, most: int) -> StudyRequest:
        seed = derive_seed(self._plan.benchmark.seed, "study", name)
        return StudyRequest(
            name,
            "maximize" if metric.higher_is_better else "minimize",
            seed,
            seed,
            most,
            self.tuning,
            self._folder,
        )

    def _make_study(self, request: StudyRequest) -> optuna.Study:
        study: optuna.Study | None = self._registry.manager.hook.make_study(request=request)
        if study is None:
            raise BenchmarkError(f"No plugin makes a study for {request.name!r}.")
        return study

    def _proposer(self, request: StudyRequest) -> Proposer:
        """Makes samplers and pruners anew for every trial: they remember nothing."""

        def propose(number: int) -> optuna.Study:
            seed = derive_seed(request.study_seed, "trial", number)
            return self._make_study(replace(request, seed=seed, trial=number))

        return propose

    # --- searching ----------------------------------------------------------------------------

    def search(self, deadline: float = math.inf) -> None:
        """Carries out trials until every study has as many as it was asked for.

        May be called by several processes at once: each takes batches of trials, of the search
        that has fewest so far.

        Args:
            deadline: of `time.monotonic()`; no batch is begun after it.

        Raises:
            KeyboardInterrupt: it was to stop; trials that are done are in their studies.
        """
        with Worker(self._folder) as worker, quiet():
            while time.monotonic() < deadline:
                self._context.stop.check()
                busy = False
                for search in sorted(self.searches, key=lambda own: own.asked / own.wanted):
                    attempts = self._ask(search, worker)
                    if attempts:
                        with worker.beating(attempts):
                            self._carry_out(search, attempts)
                        break
                    busy |= search.finished < search.wanted
                else:
                    if not busy:
                        if self._fraction < 1.0:  # others have carried out the last ones
                            self._say(self.searches[-1], 0.0)
                        return
                    time.sleep(1.0)  # other processes hold the last trials, and may yet be killed

    def _ask(self, search: Search, worker: Worker) -> list[Attempt]:
        with FileLock(self._lock_path(search.key)):
            return search.take(self._registry, worker)

    def _carry_out(self, search: Search, attempts: Sequence[Attempt]) -> None:
        assigned = [
            (attempt, Assigned(run, attempt.configuration))
            for attempt in attempts
            for run in attempt.runs
        ]
        groups = search.planner.by_shape([own for _, own in assigned])
        together = len(attempts[0].runs)
        for positions in groups:
            for part in _parts(positions, together):
                group = [assigned[position] for position in part]
                if all(attempt.finished for attempt, _ in group):
                    continue  # a process that was killed has come to the end of this stack
                members = search.planner.members([own for _, own in group])
                self._executor.train(_missing(members, self._store.has_stage))
                trials = _Trials([attempt for attempt, _ in group])
                self._fit(members, trials, lambda shares: self._say(search, shares / together))
        self._say(search, 0.0)

    def _fit(
        self, members: Sequence[MemberOf], trials: _Trials, tell: Callable[[float], None]
    ) -> None:
        """Trains trials to their ends.

        Args:
            members: of one stage.
            trials: told of their scores.
            tell: hears, of the members still in training, the shares that are done, summed.
        """
        (node,) = {member.stage.key: member.stage for member in members}.values()
        if node.closed_form:
            trials.finish(self._executor.validate(node))
            return
        fit = self._start(node)
        alive = list(range(len(members)))

        def heard(epoch: EpochReport) -> None:
            event = EpochFinished(
                node.key,
                node.title,
                epoch.epoch,
                node.epochs,
                node.selection.name,
                epoch.score,
                epoch.skipped,
                self._fraction,
            )
            self._context.tell("epoch_finished", event)
            self._context.stop.check()

        while alive:
            fit.train(fit.progress.epoch + self.tuning.report_every, heard)
            keep = trials.report(fit, alive)
            if keep:
                tell(len(keep) * fit.progress.epoch / node.epochs)
            if keep and len(keep) < len(alive):
                kept = [alive[place] for place in keep]
                fit = fit.of_members(keep, self._executor.stage_builder.modules(node, kept))
            alive = [alive[place] for place in keep]

    def _start(self, node: StageNode) -> StackFit:
        model = self._executor.stage_builder.modules(node)
        self._executor.stage_builder.start_weights(node, model)
        return self._executor.stage_builder.stack_fit(node, model)

    def _say(self, search: Search, training: float) -> None:
        finished = sum(own.finished for own in self.searches)
        wanted = sum(own.wanted for own in self.searches)
        self._fraction = min(1.0, (finished + training) / wanted)
        scores = [search.score(best[0]) for runs in search.studies if (best := search.best(runs))]
        event = SearchProgressed(
            search.title,
            finished,
            wanted,
            search.metric,
            float(np.mean(scores)) if scores else math.nan,
            self._fraction,
        )
        self._context.tell("search_progressed", event)

    # --- what has come out --------------------------------------------------------------------

    def choose(self) -> tuple[Chosen, ...]:
        """Returns the best settings of every search, for every run.

        Raises:
            BenchmarkError: a study has no complete trial.
        """
        return tuple(own for search in self.searches for own in self._choose(search))

    def _choose(self, search: Search) -> Iterator[Chosen]:
        one, protocol = search.configuration, search.planner.protocol
        assert one.transfer is not None
        best = {runs: search.best(runs) for runs in search.studies}
        for runs, trials in best.items():
            if not trials:
                raise BenchmarkError(
                    f"No trial of {search.title} was trained to its end"
                    f"{f' in run {runs[0]}' if len(runs) == 1 else ''}: "
                    "run `harness tune` for longer, or with more trials."
                )
        several = min(max(1, self.tuning.ensemble), *map(len, best.values()))
        for runs, trials in best.items():
            for run in runs:
                for rank, trial in enumerate(trials[:several], start=1):
                    yield Chosen(
                        backbone=one.model.backbone_ref,
                        head=one.model.head_ref,
                        transfer=one.transfer.ref,
                        protocol=protocol.ref,
                        train_on=one.target,
                        run=run,
                        rank=rank,
                        trials=search.done(runs),
                        selection=self.tuning.selection,
                        score=trial.value,
                        setting=setting_of(trial),
                    )


class _Trials:
    """Tells Optuna of the trials whose members share a stack; a trial has one member, or all runs.

    Args:
        attempts: one per member.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._attempts = attempts
        self._rehearsal = Rehearsal(list(dict.fromkeys(attempts)))

    def _members(self, alive: Sequence[int]) -> Iterator[tuple[Attempt, list[int]]]:
        """Yields the trials that are still in training, with the places of their members."""
        places: dict[int, list[int]] = {}
        for place, member in enumerate(alive):
            places.setdefault(id(self._attempts[member]), []).append(place)
        for own in places.values():
            yield self._attempts[alive[own[0]]], own

    def report(self, fit: StackFit, alive: Sequence[int]) -> list[int]:
        """Reports scores so far and ends trials; returns the places of members that go on."""
        keep: list[int] = []
        training = fit.training
        for attempt, places in self._members(alive):
            score = self._score(fit, places)
            if math.isfinite(score):
                self._rehearsal.report(attempt, score, fit.progress.epoch)
            if not training & set(places):
                self._tell(attempt, fit, places, TrialState.COMPLETE)
            elif math.isfinite(score) and self._rehearsal.prunes(attempt):
                self._tell(attempt, fit, places, TrialState.PRUNED)
            else:
                keep += places
        return keep

    def finish(self, scores: Sequence[float]) -> None:
        """Ends trials of heads in closed form: one score per member."""
        for attempt, places in self._members(range(len(self._attempts))):
            own = [scores[place] for place in places]
            self._close(attempt, own, TrialState.COMPLETE)

    def _score(self, fit: StackFit, places: Sequence[int]) -> float:
        return float(np.mean([fit.progress.best_score[place] for place in places]))

    def _tell(
        self, attempt: Attempt, fit: StackFit, places: Sequence[int], state: TrialState
    ) -> None:
        best = float(np.mean([fit.progress.best_epoch[place] for place in places]))
        self._close(attempt, [fit.progress.best_score[place] for place in places], state, best)

    def _close(
        self,
        attempt: Attempt,
        scores: Sequence[float],
        state: TrialState,
        best_epoch: float | None = None,
    ) -> None:
        score = float(np.mean(scores))
        notes: dict[str, float | None] = {"best_epoch": best_epoch}
        if len(scores) > 1:
            notes["spread"] = float(np.std(scores, ddof=1))
        if not math.isfinite(score):
            # Counts as a trial, or settings that diverge would be tried for ever.
            state = TrialState.PRUNED
        value = score if state is TrialState.COMPLETE else None
        self._rehearsal.end(attempt, value, state, notes)


def _parts(positions: Sequence[int], together: int) -> Iterator[Sequence[int]]:
    """Cuts a group that is too large for one stack; the runs of one trial stay together."""
    size = max(1, MOST_MEMBERS // together) * together
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def _missing(members: Sequence[MemberOf], has_stage: Callable[[str], bool]) -> list[StageNode]:
    """The stages that members go on from and that are not there yet, first to last."""
    found = {before.stage.key: before.stage for member in members for before in member.line[:-1]}
    return [stage for key, stage in found.items() if not has_stage(key)]


def _named(runs: Sequence[int], shared: bool) -> str:
    return "all runs" if shared else f"run {runs[0]}"


def _refuse_shared(one: Configuration, planner: StagePlanner, runs: int) -> None:
    """Refuses to choose by rows that are test rows of other runs, and names one.

    Raises:
        LeakError: there is such a row.
    """
    splits = planner.splits
    for run in range(1, runs + 1):
        test = set(splits.of(one.target, run).test.tolist())
        for other in range(1, runs + 1):
            for row in splits.of(one.target, other).validation.tolist():
                if row in test:
                    raise LeakError(
                        f"tuning.selection = 'shared': row {row + 1} of {one.target!r} is a test "
                        f"row of run {run} and a validation row of run {other}, so one setting "
                        f"for all runs would be chosen by test rows. The protocol "
                        f"{planner.protocol.ref.name!r} promises to be leak-free: "
                        "use selection = 'per-run'."
                    )
