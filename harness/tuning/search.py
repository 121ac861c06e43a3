"""Searches for settings: what is tried, in which study, and what has come out so far."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, BruteForceSampler, PartialFixedSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from harness.planning.chosen_settings import Setting
from harness.planning.configurations import reconfigure
from harness.planning.resolved import Configuration
from harness.plugin.seeds import derive_seed
from harness.plugin.study import Tuning
from harness.tuning.search_space import ConfigurationSpace

if TYPE_CHECKING:
    from harness.planning.stage_planner import StagePlanner
    from harness.registry.registry import Registry

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
ASKED = (*FINISHED, TrialState.RUNNING)
WORKER = "worker"
SETTING = "setting"
BATCH = "batch"
"""Note of a trial: what it was asked for with, and is tried again with if its process dies."""

PRUNER = "pruner"
"""Note of a finished trial: what its pruner has noted, which trials to come are measured by."""

Proposer = Callable[[int], optuna.Study]
"""The number of a trial → a study with the sampler and the pruner for it, new ones."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """A trial that this process is to carry out.

    Attributes:
        study: it belongs to.
        number: of the trial in it.
        runs: in which it is carried out: one, or all.
        configuration: with the settings to try.
        proposer: of its study.
    """

    study: optuna.Study
    number: int
    runs: tuple[int, ...]
    configuration: Configuration
    proposer: Proposer

    @property
    def trial(self) -> FrozenTrial:
        """The trial as it is now."""
        return self.study.get_trials(deepcopy=False)[self.number]

    @property
    def finished(self) -> bool:
        """Whether it has been carried out, by a process that was killed after that, say."""
        return self.trial.state.is_finished()


@dataclass(frozen=True, eq=False)
class Search:
    """The search for one configuration: a study per run, or one for all of them.

    Attributes:
        key: names its studies, which two protocols may share, in the folder of the searches.
        configuration: with the settings of the benchmark.
        planner: of its protocol.
        space: what is searched for.
        studies: by the runs that choose by it.
        proposers: of these studies.
        tuning: how to search.
        shapes: names of the parameters that decide which trials can be trained side by side.
        shapes_seed: for drawing these.
        metric: name of the metric on validation rows.
        higher_is_better: its direction.
    """

    key: str
    configuration: Configuration
    planner: StagePlanner
    space: ConfigurationSpace
    studies: Mapping[tuple[int, ...], optuna.Study]
    proposers: Mapping[tuple[int, ...], Proposer]
    tuning: Tuning
    shapes: tuple[str, ...]
    shapes_seed: int
    metric: str
    higher_is_better: bool

    @property
    def title(self) -> str:
        """What is searched for, in words."""
        return title_of(self.configuration, self.planner)

    def done(self, runs: tuple[int, ...]) -> int:
        """Number of finished trials of a study."""
        return len(self.studies[runs].get_trials(deepcopy=False, states=FINISHED))

    @property
    def finished(self) -> int:
        """Number of finished trials, over all runs; at most what was asked for counts."""
        return sum(min(self.done(runs), self.tuning.trials) for runs in self.studies)

    @property
    def asked(self) -> int:
        """Number of trials that are finished or in training, over all runs."""
        return sum(map(_asked, self.studies.values()))

    @property
    def wanted(self) -> int:
        """Number of trials asked for, over all runs."""
        return self.tuning.trials * len(self.studies)

    def best(self, runs: tuple[int, ...]) -> list[FrozenTrial]:
        """Complete trials of a study, best first; of equals the earlier."""
        trials = self.studies[runs].get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        sign = -1 if self.higher_is_better else 1
        scored = [(sign * t.value, t.number, t) for t in trials if t.value is not None]
        return [trial for *_, trial in sorted(scored)]

    @staticmethod
    def score(trial: FrozenTrial) -> float:
        """Validation score of a complete trial."""
        assert trial.value is not None
        return trial.value

    def take(self, registry: Registry, worker: Worker) -> list[Attempt]:
        """Takes a batch of trials to carry out: one that was abandoned, or else a new one.

        What a trial is proposed by is the seed, its number and what is in the study, nothing that
        this process has done before: a batch that was killed while it was asked for is completed
        as it would have been. To be called by one process at a time.
        """
        least = min(map(_asked, self.studies.values()))
        batch = self._abandoned(worker) or f"{self.key} {least}"
        for runs in self.studies:
            self._complete(runs, batch)
        attempts = []
        for runs, study in self.studies.items():
            for trial in study.get_trials(deepcopy=False):
                if trial.user_attrs.get(BATCH) == batch:
                    worker.claim(study, trial)
                    changed = reconfigure(
                        self.configuration, setting_of(trial), registry, self.planner.locations
                    )
                    proposer = self.proposers[runs]
                    attempts.append(Attempt(study, trial.number, runs, changed, proposer))
        return attempts

    def _abandoned(self, worker: Worker) -> str | None:
        """Finds a batch whose process is gone."""
        for study in self.studies.values():
            for trial in worker.abandoned(study):
                if BATCH in trial.user_attrs:
                    return str(trial.user_attrs[BATCH])
                # Another program's: it would be waited for for ever.
                study.tell(trial.number, state=TrialState.FAIL)
        return None

    def _complete(self, runs: tuple[int, ...], batch: str) -> None:
        """Asks a study for the trials that a batch has not got yet, the first to the last."""
        study, proposer = self.studies[runs], self.proposers[runs]
        trials = study.get_trials(deepcopy=False)
        there = sum(trial.user_attrs.get(BATCH) == batch for trial in trials)
        before = _asked(study) - there
        missing = min(self.tuning.batch, self.tuning.trials - before) - there
        numbers = range(len(trials), len(trials) + missing)
        if not numbers:
            return
        draft = _draft(study, proposer(numbers[0]))
        for number in numbers:
            sampler = proposer(number).sampler
            draft.sampler = self._with_shapes(sampler, before // self.tuning.batch)
            draft.ask(self.space.distributions)
            proposed = draft.get_trials(deepcopy=False)[-1]
            setting = self.space.settle(proposed.params)
            notes = {BATCH: batch, SETTING: setting.model_dump(mode="json")}
            _share_notes(draft, study)
            # In one step: no trial is ever there in part.
            study.add_trial(_begun(proposed, notes))

    def _with_shapes(self, sampler: BaseSampler, round_: int) -> BaseSampler:
        """Draws what decides on shapes once for a batch, the same for all runs, knowing nothing."""
        distributions = self.space.distributions
        nothing_else = len(self.shapes) == len(distributions)  # a batch would be one trial
        in_turn = isinstance(sampler, BruteForceSampler)  # what is drawn would come twice, or never
        if self.tuning.shapes == "free" or not self.shapes or nothing_else or in_turn:
            return sampler
        draw = RandomSampler(seed=derive_seed(self.shapes_seed, round_) % 2**32)
        with quiet():
            trial = optuna.create_study(sampler=draw).ask(
                {name: distributions[name] for name in self.shapes}
            )
            return PartialFixedSampler(trial.params, sampler)


def _asked(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=ASKED))


def _begun(trial: FrozenTrial, notes: Mapping[str, Any]) -> FrozenTrial:
    """Returns a trial as it is when it begins, with nothing reported."""
    return optuna.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=dict(notes),
        system_attrs=trial.system_attrs,
    )


def _draft(
    study: optuna.Study, proposer: optuna.Study, again: Collection[int] = ()
) -> optuna.Study:
    """Copies a study into memory, for samplers and pruners to be asked what its trials make them.

    Args:
        study: is left as it is.
        proposer: with the sampler and the pruner.
        again: numbers of trials that begin anew, whatever they have reported before.
    """
    draft = optuna.create_study(
        study_name=study.study_name,
        direction=study.direction,
        sampler=proposer.sampler,
        pruner=proposer.pruner,
        storage=InMemoryStorage(),
    )
    _share_notes(study, draft)
    for trial in study.get_trials():
        if trial.number in again:
            draft.add_trial(_begun(trial, {}))
        else:
            trial.system_attrs |= trial.user_attrs.get(PRUNER, {})
            draft.add_trial(trial)
    return draft


def _share_notes(study: optuna.Study, other: optuna.Study) -> None:
    """Gives a study what samplers have noted in another one."""
    there = _notes(other)
    for name, value in _notes(study).items():
        if there.get(name) != value:
            _storage(other).set_study_system_attr(other._study_id, name, value)


def _notes(study: optuna.Study) -> dict[str, Any]:
    notes: dict[str, Any] = _storage(study).get_study_system_attrs(study._study_id)
    return notes


@dataclass(frozen=True)
class Reported:
    """The score of a trial up to an epoch.

    Attributes:
        trial: its place among those of its stack.
    """

    trial: int
    epoch: int
    score: float


@dataclass(frozen=True)
class Ended:
    """What has come of a trial.

    Attributes:
        trial: its place among those of its stack.
        value: its score, where it was trained to its end.
        state: complete or pruned.
        notes: that stay with it.
    """

    trial: int
    value: float | None
    state: TrialState
    notes: Mapping[str, Any]


class Rehearsal:
    """Decides which trials of a stack are pruned, in memory; can be sent to another machine.

    A stack that was killed is trained again as a whole, also the trials that it had finished, so
    that the others are measured and rounded as they would have been; pruners see of a trial what
    has been reported this time, and of other stacks what was there when this one began.

    Args:
        attempts: of one stack.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        drafts: dict[str, optuna.Study] = {}
        for one in attempts:
            name = one.study.study_name
            if name not in drafts:
                again = {own.number for own in attempts if own.study is one.study}
                drafts[name] = _draft(one.study, one.proposer(min(again)), again)
        self._drafts = [drafts[attempt.study.study_name] for attempt in attempts]
        self._trials = [
            Trial(draft, _id(draft, attempt.number))
            for draft, attempt in zip(self._drafts, attempts, strict=True)
        ]
        self._before = [set(attempt.trial.system_attrs) for attempt in attempts]

    def report(self, trial: int, score: float, epoch: int) -> Reported:
        """Reports the score so far of a trial."""
        self._trials[trial].report(score, epoch)
        return Reported(trial, epoch, score)

    def prunes(self, trial: int) -> bool:
        """Whether a trial is to end early, by what has been reported."""
        return self._trials[trial].should_prune()

    def end(
        self, trial: int, value: float | None, state: TrialState, notes: Mapping[str, Any]
    ) -> Ended:
        """Ends a trial, with notes that stay with it; what its pruner has noted is among them."""
        draft, number = self._drafts[trial], self._trials[trial].number
        noted = draft.get_trials(deepcopy=False)[number].system_attrs
        pruner = {name: noted[name] for name in noted if name not in self._before[trial]}
        draft.tell(number, value, state)
        return Ended(trial, value, state, {**notes, **({PRUNER: pruner} if pruner else {})})


class TrialNotes:
    """Notes in their studies what comes of the trials of a stack that were not finished before.

    Args:
        attempts: of the stack.
    """

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self._attempts = attempts
        self._finished = [attempt.finished for attempt in attempts]

    def take(self, news: Iterable[Reported | Ended]) -> None:
        """Notes what is new; what was noted before may come again."""
        for one in news:
            if self._finished[one.trial]:
                continue
            attempt = self._attempts[one.trial]
            study = attempt.study
            identifier = _id(study, attempt.number)
            with suppress(UpdateFinishedTrialError):  # taken for dead, and another was faster
                if isinstance(one, Reported):
                    _storage(study).set_trial_intermediate_value(identifier, one.epoch, one.score)
                    continue
                for name, note in one.notes.items():
                    _storage(study).set_trial_user_attr(identifier, name, note)
            if isinstance(one, Ended):
                study.tell(attempt.number, one.value, one.state, skip_if_finished=True)


def _id(study: optuna.Study, number: int) -> int:
    """The number that only the storage of a study knows a trial by."""
    find = _storage(study).get_trial_id_from_study_id_trial_number
    identifier: int = find(study._study_id, number)
    return identifier


def title_of(one: Configuration, planner: StagePlanner) -> str:
    """Returns all that a configuration is called by."""
    model = one.model
    names = (model.backbone_ref.label, model.head_ref.label, one.transfer_label)
    return ", ".join((*names, planner.protocol.label, one.target))


def setting_of(trial: FrozenTrial) -> Setting:
    """Returns the settings that a trial has tried."""
    return Setting.model_validate(trial.user_attrs[SETTING])


def find_shapes(
    one: Configuration, space: ConfigurationSpace, planner: StagePlanner, registry: Registry
) -> tuple[str, ...]:
    """Finds the parameters whose value decides which trials can be trained side by side."""
    with quiet():
        base = optuna.create_study(sampler=RandomSampler(seed=0)).ask(space.distributions).params
    found = []
    for name, distribution in space.distributions.items():
        ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)  # type: ignore[attr-defined]
        settings = [space.settle({**base, name: end}) for end in ends]
        shapes = {
            planner.shape(reconfigure(one, setting, registry, planner.locations))
            for setting in settings
        }
        if len(shapes) > 1:
            found.append(name)
    return tuple(found)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from telling of every study and of what is experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # `Worker.beating` sends them.
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


class Worker:
    """This process among those that share searches; others see whether it lives.

    In a database, trials in training are heard of by heartbeats. Elsewhere every process holds a
    lock of the operating system, which vanishes with it.

    Args:
        folder: where locks lie.
    """

    def __init__(self, folder: Path) -> None:
        self.name = uuid.uuid4().hex
        self._folder = folder / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self._path(self.name))

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *problem: object) -> None:
        self._lock.release()
        self._path(self.name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def abandoned(self, study: optuna.Study) -> list[FrozenTrial]:
        """Returns the trials of processes that are gone; for one process at a time."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running and _heartbeat(study):
            missed = set(_storage(study)._get_stale_trial_ids(study._study_id))
            # Nobody is asking now: what is nobody's was being asked for, see `claim`.
            return [
                own for own in running if WORKER not in own.user_attrs or own._trial_id in missed
            ]
        return [own for own in running if not self._lives(own.user_attrs.get(WORKER, ""))]

    def claim(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Makes a trial, unless it is finished, one of this process."""
        if trial.state.is_finished():
            return
        if _heartbeat(study):  # a trial that was never heard of would never be missed
            _storage(study).record_heartbeat(trial._trial_id)
        _storage(study).set_trial_user_attr(trial._trial_id, WORKER, self.name)

    def _lives(self, name: str) -> bool:
        path = self._path(name)
        if name == self.name:
            return True
        if not name or not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        return False

    @contextmanager
    def beating(self, attempts: Sequence[Attempt]) -> Iterator[None]:
        """Sends heartbeats for trials while the block runs, where the storage takes them."""
        interval = next((_heartbeat(attempt.study) for attempt in attempts), None)
        beats = [
            (_storage(own.study), _id(own.study, own.number))
            for own in attempts
            if not own.finished
        ]
        if not interval:
            yield
            return
        stop = Event()

        def beat() -> None:
            while True:
                for storage, trial in beats:
                    storage.record_heartbeat(trial)
                if stop.wait(interval):
                    return

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _storage(study: optuna.Study) -> Any:
    return study._storage  # Optuna has no public way from a study to its storage


def _heartbeat(study: optuna.Study) -> int | None:
    """Seconds between heartbeats; None where the storage takes none."""
    ask = getattr(_storage(study), "get_heartbeat_interval", None)
    interval: int | None = ask() if ask else None
    return interval


def trial_rows(search: Search) -> list[dict[str, Any]]:
    """Returns one mapping per trial: configuration, run, state, score, epochs, parameters."""
    one = search.configuration
    rows = []
    for runs, study in search.studies.items():
        for trial in study.get_trials(deepcopy=False):
            rows.append(
                {
                    "backbone": one.model.backbone_ref.label,
                    "head": one.model.head_ref.label,
                    "transfer": one.transfer_label,
                    "protocol": search.planner.protocol.label,
                    "train_on": one.target,
                    "run": runs[0] if len(runs) == 1 else "all",
                    "trial": trial.number,
                    "state": trial.state.name.lower(),
                    search.metric: trial.value,
                    "spread": trial.user_attrs.get("spread"),
                    "best_epoch": trial.user_attrs.get("best_epoch"),
                    "epochs": trial.last_step,
                    **trial.params,
                    "setting": json.dumps(trial.user_attrs.get(SETTING, {})),
                }
            )
    return rows
