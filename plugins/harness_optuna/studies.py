"""Opens studies by the names of sampler and pruner, in a journal file or a database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar
from weakref import WeakValueDictionary

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, BruteForceSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages import RetryHeartbeatStaleTrialCallback as Retry
from optuna.storages.journal import JournalFileBackend

from harness.plugin import BenchmarkError, StudyRequest, did_you_mean

JOURNAL = "journal.log"
Maker = TypeVar("Maker")
GRACE = 3
"""A trial that has missed so many heartbeats is taken for dead."""

DATABASES: WeakValueDictionary[tuple[str, int], RDBStorage] = WeakValueDictionary()
"""Those in use: studies share one, since each holds a connection, and servers have few of them."""


def _tpe(request: StudyRequest) -> BaseSampler:
    # Trials of one batch are proposed without knowing of each other's outcome: pretending that
    # they are bad keeps them apart.
    return TPESampler(seed=request.seed % 2**32, constant_liar=True)


def _qmc(request: StudyRequest) -> BaseSampler:
    return QMCSampler(seed=request.seed % 2**32, scramble=True, warn_independent_sampling=False)


class _EveryOne(BruteForceSampler):
    """Tries every combination once; the number of trials, not the sampler, ends a search."""

    def after_trial(self, *arguments: object) -> None:
        """Does not stop the study: outside of `Study.optimize` that would be an error."""


SAMPLERS: Mapping[str, Callable[[StudyRequest], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda request: RandomSampler(seed=request.seed % 2**32),
    "qmc": _qmc,
    "brute-force": lambda request: _EveryOne(seed=request.seed % 2**32),
}


def _median(request: StudyRequest) -> BasePruner:
    start = request.tuning.report_every
    return MedianPruner(n_startup_trials=5, n_warmup_steps=start)


def _hyperband(request: StudyRequest) -> BasePruner:
    least = min(request.tuning.report_every, request.epochs)
    return HyperbandPruner(min_resource=least, max_resource=request.epochs, reduction_factor=3)


PRUNERS: Mapping[str, Callable[[StudyRequest], BasePruner]] = {
    "median": _median,
    "hyperband": _hyperband,
    "none": lambda request: NopPruner(),
}


def open_study(request: StudyRequest) -> optuna.Study:
    """Makes a study, or opens it where it is there already.

    Raises:
        BenchmarkError: sampler, pruner or storage is unknown.
    """
    tuning = request.tuning
    return optuna.create_study(
        study_name=request.name,
        direction=request.direction,
        sampler=_known(SAMPLERS, "sampler", tuning.sampler)(request),
        pruner=_known(PRUNERS, "pruner", tuning.pruner)(request),
        storage=_storage(request),
        load_if_exists=True,
    )


def _known(table: Mapping[str, Maker], what: str, name: str) -> Maker:
    if name not in table:
        raise BenchmarkError(
            f"tuning.{what} = {name!r}: no plugin knows it.{did_you_mean(name, table)} "
            f"Built in: {', '.join(table)}."
        )
    return table[name]


def _storage(request: StudyRequest) -> BaseStorage:
    url = request.tuning.storage_url
    if url is None:
        return JournalStorage(JournalFileBackend(str(request.folder / JOURNAL)))
    beat = max(1, round(request.tuning.heartbeat_seconds))
    if (known := DATABASES.get((url, beat))) is not None:
        return known
    try:
        opened = RDBStorage(
            url,
            heartbeat_interval=beat,
            grace_period=GRACE * beat,
            heartbeat_stale_trial_callback=Retry(),
        )
    except Exception as problem:  # of the database driver, whichever it is
        shown = request.tuning.model_dump()["storage"]  # without a password
        raise BenchmarkError(
            f"tuning.storage = {shown!r} cannot be opened: {problem}. Expected a "
            "URL of SQLAlchemy, as sqlite:///trials.db or postgresql://user@host/database."
        ) from None  # what the driver raised may name the password
    DATABASES[url, beat] = opened
    return opened
