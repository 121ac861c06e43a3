"""Carries out searches for settings: trials are trained in batches, as stacks."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from harness.errors import BenchmarkError, LeakError
from harness.planning.chosen_settings import Chosen
from harness.planning.plan import digest_of
from harness.planning.stage_planner import Assigned, StagePlanner
from harness.plugin.events import EpochFinished, SearchProgressed
from harness.plugin.seeds import derive_seed
from harness.plugin.study import StudyRequest, Tuning
from harness.results.store import TUNING_FOLDER
from harness.training.plan_executor import PlanExecutor
from harness.tuning.search import (
    Attempt,
    Proposer,
    Search,
    Worker,
    find_shapes,
    quiet,
    setting_of,
    title_of,
)
from harness.tuning.search_space import ConfigurationSpace, check_changes, space_of
from harness.tuning.trial_jobs import Batch, TrialCarrier, TrialJob, TrialsHere
from harness.tuning.trials_elsewhere import TrialsElsewhere
from harness.tuning.trials_table import thaw_searches

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from harness.planning.plan import StageNode
    from harness.planning.resolved import Configuration
    from harness.plugin.metric import MetricSpec
    from harness.training.run_context import RunContext

PATIENCE_SECONDS = 1.0
"""Between two looks at trials that other processes hold."""

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
        self._carrier = self._make_carrier()
        self._under_way: list[TrialJob] = []
        self._ask_from = -math.inf
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
        with Worker(self._folder) as worker, quiet(), ExitStack() as ends:
            ends.callback(self._carrier.close)
            waiting: deque[TrialJob] = deque()
            while True:
                self._context.stop.check()
                self._give_out(waiting, worker, deadline, ends)
                if self._under_way:
                    for job, ended in self._carrier.advance():
                        self._take(job, ended=ended)
                elif self._asked_all():
                    if self._fraction < 1.0:  # others have carried out the last ones
                        self._say(self.searches[-1])
                    return
                elif time.monotonic() >= deadline:
                    return
                else:  # other processes hold the last trials, and may yet be killed
                    time.sleep(PATIENCE_SECONDS)

    def _give_out(
        self, waiting: deque[TrialJob], worker: Worker, deadline: float, ends: ExitStack
    ) -> None:
        """Starts stacks of trials while there is room; asks for further trials when it needs to."""
        while self._carrier.free > 0:
            if not waiting:
                now = time.monotonic()
                if not self._ask_from <= now < deadline:
                    return
                waiting += self._next_jobs(worker, ends)
                if not waiting:
                    self._ask_from = now + PATIENCE_SECONDS
                    return
            job = waiting.popleft()
            if job.finished:
                self._take(job, ended=True)
            else:
                self._carrier.start(job)
                self._under_way.append(job)

    def _next_jobs(self, worker: Worker, ends: ExitStack) -> list[TrialJob]:
        """Takes a batch of trials, of the search that has fewest; none where none are left."""
        for search in sorted(self.searches, key=lambda own: own.asked / own.wanted):
            with FileLock(self._lock_path(search.key)):
                attempts = search.take(self._registry, worker)
            if attempts:
                beating = ends.enter_context(ExitStack())
                beating.enter_context(worker.beating(attempts))
                jobs = list(self._stacks(Batch(search, beating), attempts))
                jobs[0].batch.jobs = len(jobs)
                return jobs
        return []

    def _stacks(self, batch: Batch, attempts: Sequence[Attempt]) -> Iterator[TrialJob]:
        """Yields the trials of a batch by what can be trained side by side."""
        assigned = [
            (attempt, Assigned(run, attempt.configuration))
            for attempt in attempts
            for run in attempt.runs
        ]
        groups = batch.search.planner.by_shape([own for _, own in assigned])
        for positions in groups:
            for part in _parts(positions, len(attempts[0].runs)):
                yield TrialJob(batch, [assigned[position] for position in part])

    def _take(self, job: TrialJob, *, ended: bool) -> None:
        """Tells how far a stack of trials is; ends its batch when it was the last of it."""
        batch = job.batch
        if ended:
            job.share = 0.0
            batch.jobs -= 1
            if job in self._under_way:
                self._under_way.remove(job)
            if batch.jobs:
                return
            batch.beating.close()
            self._ask_from = -math.inf
        self._say(batch.search)

    def _asked_all(self) -> bool:
        return all(search.finished >= search.wanted for search in self.searches)

    def _hear(self, epoch: EpochFinished) -> None:
        self._context.tell("epoch_finished", replace(epoch, fraction=self._fraction))

    def _make_carrier(self) -> TrialCarrier:
        session, every = self._context.elsewhere, self.tuning.report_every
        if session is None:
            return TrialsHere(PlanExecutor(self._context), every, self._hear)
        return TrialsElsewhere(self._context, session, every, self._hear)

    def _say(self, search: Search) -> None:
        training = sum(job.share for job in self._under_way)
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


def _parts(positions: Sequence[int], together: int) -> Iterator[Sequence[int]]:
    """Cuts a group that is too large for one stack; the runs of one trial stay together."""
    size = max(1, MOST_MEMBERS // together) * together
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


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
