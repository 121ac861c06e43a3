"""Opens studies by the names of sampler and pruner, in a journal file or a database."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, BruteForceSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from harness.plugin import BenchmarkError, StudyRequest, did_you_mean

JOURNAL = "journal.log"
Maker = TypeVar("Maker")
GRACE = 3
"""A trial that has missed so many heartbeats is taken for dead."""

BLOCK = 4096
"""Bytes of a journal that are looked at together."""

NOT_A_JOURNAL = (ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What lines that are none of Optuna's lead to."""

DATABASES: WeakValueDictionary[tuple[str, int], RDBStorage] = WeakValueDictionary()
"""Those in use: studies share one, since each holds a connection, and servers have few of them."""


def _tpe(request: StudyRequest) -> BaseSampler:
    # Trials of one batch are proposed without knowing of each other's outcome: pretending that
    # they are bad keeps them apart.
    return TPESampler(seed=request.seed % 2**32, constant_liar=True)


class _Sequence(QMCSampler):
    """Trial n takes the n-th point of its study's sequence; Optuna counts in the study instead."""

    def __init__(self, request: StudyRequest) -> None:
        super().__init__(
            seed=request.study_seed % 2**32,
            scramble=True,
            independent_sampler=RandomSampler(seed=request.seed % 2**32),
            warn_independent_sampling=False,
        )
        self._number = request.trial or 0

    def _find_sample_id(self, *arguments: object) -> int:
        return self._number


class _EveryOne(BruteForceSampler):
    """Tries every combination once; the number of trials, not the sampler, ends a search."""

    def after_trial(self, *arguments: object) -> None:
        """Does not stop the study: outside of `Study.optimize` that would be an error."""


SAMPLERS: Mapping[str, Callable[[StudyRequest], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda request: RandomSampler(seed=request.seed % 2**32),
    "qmc": _Sequence,
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
        storage=_storage(request) if request.trial is None else None,  # none: in memory
        load_if_exists=True,
    )


def _known(table: Mapping[str, Maker], what: str, name: str) -> Maker:
    if name not in table:
        raise BenchmarkError(
            f"tuning.{what} = {name!r}: no plugin knows it.{did_you_mean(name, table)} "
            f"Built in: {', '.join(table)}."
        )
    return table[name]


class _JournalLock(JournalFileOpenLock):
    """A lock of the operating system, which vanishes with the process that holds it.

    Whoever takes it finds the journal whole: what a process that was killed, or a full disk, has
    left of a last line is dropped, or the next line would be glued to it.

    Args:
        journal: path of the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal
        # Not the name that Optuna's own lock has, which can be a link to the journal.
        self._lock = FileLock(journal.with_name(f".{journal.stem}.lock"))

    def acquire(self) -> bool:
        """Waits for the lock."""
        self._lock.acquire()
        try:
            _drop_stump(self._journal)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        """Lets others write."""
        self._lock.release()


def _drop_stump(path: Path) -> None:
    """Cuts off a last line that does not end."""
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK)
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                end = start + last + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _open_journal(path: Path) -> JournalStorage:
    """Opens the journal of a search, and reads all of it.

    Raises:
        BenchmarkError: it is damaged, or no plain file.
    """
    if os.path.lexists(path) and not path.is_file():  # a pipe would be waited for
        problem = "it is not a regular file"
    else:
        try:
            return JournalStorage(JournalFileBackend(str(path), _JournalLock(path)))
        except NOT_A_JOURNAL as found:
            problem = str(found) or type(found).__name__
    raise BenchmarkError(
        f"{path}, the journal of the search, is damaged: {problem}. Restore the file, or remove it "
        "to begin the search anew."
    )


def _storage(request: StudyRequest) -> BaseStorage:
    url = request.tuning.storage_url
    if url is None:
        return _open_journal(request.folder / JOURNAL)
    beat = max(1, round(request.tuning.heartbeat_seconds))
    if (known := DATABASES.get((url, beat))) is not None:
        return known
    try:
        opened = RDBStorage(
            url,
            heartbeat_interval=beat,
            grace_period=GRACE * beat,
        )
    except Exception as problem:  # of the database driver, whichever it is
        shown = request.tuning.model_dump()["storage"]  # without a password
        raise BenchmarkError(
            f"tuning.storage = {shown!r} cannot be opened: {problem}. Expected a "
            "URL of SQLAlchemy, as sqlite:///trials.db or postgresql://user@host/database."
        ) from None  # what the driver raised may name the password
    DATABASES[url, beat] = opened
    return opened
