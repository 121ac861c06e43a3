"""Files and folders written whole or not at all: the only home of that.

Everything is filled in a hidden folder beside its place, `.<name>.unfinished-<random>`, and
renamed into it: a rename within a file system happens or does not. The writer holds a lock in
there for as long as it lives, and the lock vanishes with it, so `sweep` can tell what a dead writer
left from what a living one is at. On a file system without locks nothing is swept.

A folder can be renamed only onto nothing, or onto an empty one; so the old one is moved aside.
A writer that is killed between these two renames leaves the old one whole in its hidden folder.
Whoever sweeps next, as does every writer of a folder beside it, puts it back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from harness.errors import StoreError

_MARK = ".unfinished-"
_LOCK = "lock"
_NEW = "new"
_OLD = "old"
_GONE = "gone"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of a disk, a quota, or within the limit on the size of a file."""


# --- errors -----------------------------------------------------------------------------------


def unwritable(folder: Path, problem: OSError) -> StoreError:
    """Returns the error that says where nothing can be written, and why."""
    other = "choose another folder with --results or --to"
    if problem.errno == errno.EFBIG:
        remedy = f"Raise the limit on the size of files (`ulimit -f`), or {other}."
    elif problem.errno in NO_ROOM:
        remedy = f"Make room there, or {other}."
    else:
        remedy = f"{other.capitalize()}, or change its permissions."
    return StoreError(f"Cannot write results to {folder}: {problem.strerror or problem}. {remedy}")


def lacks_room(problem: OSError) -> bool:
    """Whether an error is one that only writing meets: no room, or a limit."""
    return problem.errno in NO_ROOM


def place_of(problem: OSError) -> Path:
    """The folder that an error of writing is about, as far as it says; else the current one."""
    return Path(os.fsdecode(problem.filename)).parent if problem.filename else Path()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns errors of the operating system into `unwritable`."""
    try:
        yield
    except OSError as problem:
        raise unwritable(folder, problem) from problem


def make_folder(folder: Path) -> Path:
    """Makes a folder, and those above it, where there is none.

    Raises:
        StoreError: it cannot be made.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- files ------------------------------------------------------------------------------------


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields the path of a file to write, which takes the place of `path` when the block succeeds.

    It has the same name, for libraries that tell a format by it.

    Raises:
        OSError: the folder cannot be written, or the block wrote nothing.
    """
    with _staging_beside(path) as staging:
        yield staging / path.name
        os.replace(staging / path.name, path)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Is `whole_file` for results.

    Raises:
        StoreError: the file cannot be written.
    """
    with explained(path.parent), whole_file(path) as staging:
        yield staging


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yields an empty folder, whose files go into `folder` when the block succeeds.

    Each of them is written whole or not at all; one after the other they take their places. That
    costs a fifth of `replacing` for each.

    Raises:
        StoreError: they cannot be written.
    """
    with explained(folder), _new_beside(folder / "files") as new:
        yield new
        for path in new.iterdir():
            os.replace(path, folder / path.name)


# --- folders ----------------------------------------------------------------------------------


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes `target`, which must not exist, on success.

    Raises:
        StoreError: it exists, or somebody else has made it meanwhile.
        OSError: the folder above it cannot be written.
    """
    sweep(target.parent)
    taken = StoreError(f"{target} exists already. Name another folder, or remove it.")
    if os.path.lexists(target):
        raise taken
    with _new_beside(target) as new:
        yield new
        try:
            os.rename(new, target)
        except OSError as problem:
            if problem.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise taken from None
            raise


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that takes the place of `target`, if there is one, on success.

    Raises:
        OSError: the folder above it cannot be written; what was there before is still there.
    """
    sweep(target.parent)
    with _new_beside(target) as new:
        yield new
        with suppress(FileNotFoundError):
            os.rename(target, new.with_name(_OLD))
        os.rename(new, target)


def remove_folder(target: Path) -> None:
    """Removes a folder: it is gone at once, and its files follow.

    Raises:
        OSError: it cannot be removed.
    """
    sweep(target.parent)
    with _staging_beside(target) as staging:
        os.rename(target, staging / _GONE)


def discard(path: Path) -> None:
    """Removes whatever lies there, a file, a link or a folder; it may also be nothing.

    Raises:
        StoreError: it cannot be removed.
    """
    with explained(path.parent):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what writers that were killed have left in a folder.

    A folder that one of them had moved aside, and put nothing in its place yet, is put back. What
    cannot be removed stays, since it does no harm.
    """
    for leftover in folder.glob(f".*{_MARK}*"):
        with suppress(OSError):
            _sweep_one(leftover)


def _sweep_one(leftover: Path) -> None:
    contents = {path.name for path in leftover.iterdir()}
    target = leftover.with_name(leftover.name[1:].rpartition(_MARK)[0])
    if _LOCK in contents:
        with (leftover / _LOCK).open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(leftover, target)
    elif contents:  # whoever was removing it was killed
        _clear(leftover, target)
    else:  # about to be locked, or left so: its maker takes another one
        leftover.rmdir()


# --- staging ----------------------------------------------------------------------------------


@contextmanager
def _new_beside(target: Path) -> Iterator[Path]:
    with _staging_beside(target) as staging:
        new = staging / _NEW
        new.mkdir()
        yield new


@contextmanager
def _staging_beside(target: Path) -> Iterator[Path]:
    """Yields a hidden folder beside a path, removed at the end with what is left in it."""
    staging, lock = _claim_staging(target)
    with lock:
        try:
            yield staging
        finally:
            with suppress(OSError):
                _clear(staging, target)


def _clear(staging: Path, target: Path) -> None:
    """Removes a hidden folder, but for an old one that nothing has taken the place of."""
    old = staging / _OLD
    if os.path.lexists(old):
        # half removed, it must not be taken for one to put back
        os.rename(old, staging / _GONE if os.path.lexists(target) else target)
    shutil.rmtree(staging, ignore_errors=True)


def _claim_staging(target: Path) -> tuple[Path, BufferedWriter]:
    """Makes a hidden folder and locks it, before anyone can take it for a leftover."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}{_MARK}", dir=target.parent))
        try:
            lock = (staging / _LOCK).open("wb")
        except FileNotFoundError:  # somebody who sweeps was faster
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # likewise
            lock.close()
            continue
        except OSError:  # no locks here: then nobody sweeps
            return staging, lock
        if os.fstat(lock.fileno()).st_nlink:
            return staging, lock
        lock.close()
