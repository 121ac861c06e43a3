"""Searches for settings: what is tried, in which study, and what has come out so far."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler, BruteForceSampler, PartialFixedSampler, RandomSampler
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
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


@dataclass(frozen=True, eq=False)
class Attempt:
    """A trial that this process is to carry out.

    Attributes:
        study: it belongs to.
        trial: of Optuna.
        runs: in which it is carried out: one, or all.
        configuration: with the settings to try.
    """

    study: optuna.Study
    trial: Trial
    runs: tuple[int, ...]
    configuration: Configuration


@dataclass(frozen=True, eq=False)
class Search:
    """The search for one configuration: a study per run, or one for all of them.

    Attributes:
        key: names its studies, which two protocols may share, in the folder of the searches.
        configuration: with the settings of the benchmark.
        planner: of its protocol.
        space: what is searched for.
        studies: by the runs that choose by it.
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
    tuning: Tuning
    shapes: tuple[str, ...]
    shapes_seed: int
    metric: str
    higher_is_better: bool
    _samplers: dict[tuple[int, ...], BaseSampler] = field(default_factory=dict)

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
        found = (own.get_trials(deepcopy=False, states=ASKED) for own in self.studies.values())
        return sum(map(len, found))

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

    def ask(self, registry: Registry, worker: str) -> list[Attempt]:
        """Asks every study for a batch of trials; to be called by one process at a time."""
        attempts = []
        for runs, study in self.studies.items():
            trials = study.get_trials(deepcopy=False)
            asked = sum(trial.state in ASKED for trial in trials)
            sampler = self._samplers.setdefault(runs, study.sampler)
            if any(trial.user_attrs.get(WORKER) != worker for trial in trials):
                # Ours has the seed of theirs, and would draw what they have drawn once more.
                sampler.reseed_rng()
            study.sampler = self._with_shapes(sampler, asked // self.tuning.batch)
            for _ in range(min(self.tuning.batch, self.tuning.trials - asked)):
                trial = _ask(study, self.space.distributions, worker)
                setting = self.space.settle(trial.params)
                trial.set_user_attr(SETTING, setting.model_dump(mode="json"))
                changed = reconfigure(self.configuration, setting, registry)
                attempts.append(Attempt(study, trial, runs, changed))
        return attempts

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


def _ask(study: optuna.Study, distributions: Mapping[str, Any], worker: str) -> Trial:
    """Asks for a trial that is found and tried again if this process dies at any point."""
    trial = study.ask()
    if _heartbeat(study):  # a trial that was never heard of would never be missed
        _storage(study).record_heartbeat(trial._trial_id)
    trial.set_user_attr(WORKER, worker)
    for name, distribution in distributions.items():
        trial._suggest(name, distribution)
    return trial


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
        shapes = {planner.shape(reconfigure(one, setting, registry)) for setting in settings}
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

    def revive(self, study: optuna.Study) -> None:
        """Has the trials of processes that are gone tried again; by one process at a time."""
        running = study.get_trials(states=(TrialState.RUNNING,))
        if _heartbeat(study):
            for trial in running:
                if WORKER not in trial.user_attrs:  # nobody is asking now: see `_ask`
                    study.tell(trial.number, state=TrialState.FAIL)
            with quiet():
                fail_stale_trials(study)
            return
        for trial in running:
            if not self._lives(trial.user_attrs.get(WORKER, "")):
                study.tell(trial.number, state=TrialState.FAIL)
                with quiet():
                    RetryHeartbeatStaleTrialCallback()(study, trial)

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
        if not interval:
            yield
            return
        stop = Event()

        def beat() -> None:
            while True:
                for attempt in attempts:
                    _storage(attempt.study).record_heartbeat(attempt.trial._trial_id)
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
