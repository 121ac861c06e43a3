"""Packs a complete leaderboard into few files; see `frozen` for what they hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import StoreError
from harness.results.frozen import (
    HISTORIES_FILE,
    LEDGERS_FILE,
    PREDICTIONS_FILE,
    STAGES_FILE,
    TABLES,
    TUNING_LEDGERS_FILE,
    history_rows,
    is_table,
    write_packed,
    write_records,
)
from harness.results.plan_claim import LOCK_FILE
from harness.results.store import LEDGER_FILE, STAGE_FILE, TUNING_FOLDER, Store

if TYPE_CHECKING:
    import pandas as pd


LEFTOVERS = (
    "stages/*.lock",
    "stages/*.checkpoint*",
    "stages/.*",
    "predictions/.*",
    "tuning/.*",
    "tuning/workers",
    ".lock-results",
    LOCK_FILE,
    *(f".{Path(name).stem}.*" for name in (*TABLES, STAGES_FILE)),
)
"""What a run or a freeze leaves behind that says nothing of results; killed ones, half a file."""

RECORDS = f"stages/*/{STAGE_FILE}"
LOCKS = (LOCK_FILE, "stages/*.lock", "tuning/workers/*.lock")
"""Held by the processes that are at work in a folder."""


@dataclass(frozen=True)
class _Kind:
    """One kind of rows: the pattern of its loose files, the frozen one, and how it is read."""

    pattern: str
    file: str
    read: Callable[[str], pd.DataFrame]


def loose_files(store: Store) -> list[Path]:
    """Returns the files that a freeze packs, and so removes; none where all is frozen."""
    patterns = [*(kind.pattern for kind in _kinds(store)), RECORDS]
    return [path for pattern in patterns for path in _loose(store.folder, pattern).values()]


def _loose(folder: Path, pattern: str) -> dict[str, Path]:
    """Finds loose files by key; what a killed process was writing has none."""
    in_folders = pattern.startswith("stages/")
    found = {p.parent.name if in_folders else p.stem: p for p in folder.glob(pattern)}
    return {key: found[key] for key in sorted(found) if not key.startswith(".")}


def freeze(store: Store, freeze_searches: Callable[[Path], None] = lambda folder: None) -> None:
    """Packs the loose files of results, with what is frozen already, and removes them.

    Killed at any moment, it leaves all results: a loose file, which goes before, is removed only
    when what was packed of it has been read back and is the same. Result lines of cells that are
    not in the plan, of settings that the folder had before, are left out.

    Args:
        store: the results.
        freeze_searches: packs what searches have left in a folder, which takes Optuna.

    Raises:
        StoreError: the results are not complete, a file is damaged, or a process is at work here.
    """
    check_complete(store)
    planned = {cell.key for cell in store.read_plan().cells}
    with _nobody_at_work(store.folder):
        if strange := {line.key for line in store.read_results()} - planned:
            store.forget_results(strange)
        freeze_searches(store.folder)
        packed = loose_files(store)
        if packed:
            stamps = {path: _stamp(path) for path in packed}
            for kind in _kinds(store):
                _pack(store, kind)
            _pack_records(store)
            for path, stamp in stamps.items():
                if _stamp(path) == stamp:  # else it has been written anew, and goes before
                    path.unlink()
        _clear(store.folder)


def check_complete(store: Store) -> None:
    """Sees that all results of the plan are there.

    Raises:
        StoreError: some are not; says how many, and the first.
    """
    plan = store.read_plan()
    store.complete_results(plan)
    missing = [
        *(f"the rows of the cell {c.key}" for c in plan.cells if not store.has_predictions(c.key)),
        *(
            f"the rows that the settings of the cell {c.key} were chosen by"
            for c in plan.cells
            if c.tuned and not store.has_tuning_ledger(c.key)
        ),
        *(f"the record of the stage {key}" for key in plan.stages if not store.has_record(key)),
        *(f"the ledger of the stage {key}" for key in plan.stages if not store.has_ledger(key)),
    ]
    if missing:
        raise StoreError(
            f"{store.folder} cannot be frozen: it lacks {len(missing)} things, first "
            f"{missing[0]}. Restore them, or remove what was made of them and run it again."
        )


@contextmanager
def _nobody_at_work(folder: Path) -> Iterator[None]:
    """Holds the locks of all that processes could be at.

    Raises:
        StoreError: a process holds one.
    """
    with ExitStack() as stack:
        for path in (path for pattern in LOCKS for path in sorted(folder.glob(pattern))):
            try:
                stack.enter_context(FileLock(path, timeout=0))
            except Timeout:
                raise StoreError(
                    f"A process is at work in {folder} ({path.name} is held): freeze it when it "
                    "has ended."
                ) from None
        yield


def _kinds(store: Store) -> tuple[_Kind, ...]:
    return (
        _Kind("predictions/*.parquet", PREDICTIONS_FILE, store.read_predictions),
        _Kind(f"stages/*/{LEDGER_FILE}", LEDGERS_FILE, store.read_ledger),
        _Kind(f"{TUNING_FOLDER}/*.parquet", TUNING_LEDGERS_FILE, store.read_tuning_ledger),
    )


def _pack(store: Store, kind: _Kind) -> None:
    """Packs the rows of one kind: loose ones, and those that are frozen and nowhere else."""
    loose = _loose(store.folder, kind.pattern)
    if not loose:
        return
    keys = sorted(loose.keys() | store.frozen.keys(kind.file))
    frames = {key: kind.read(key) for key in keys}
    write_packed(store.folder / kind.file, frames)
    table = store.frozen.tables[kind.file]
    for key, frame in frames.items():
        _compare(store.folder / kind.file, key, _same_rows(table.read(key), frame))


def _pack_records(store: Store) -> None:
    """Packs the records of stages, and their histories, where these are tables, apart."""
    loose = _loose(store.folder, RECORDS)
    if not loose:
        return
    keys = sorted(loose.keys() | store.frozen.keys(STAGES_FILE))
    records = {key: store.stage_record(key) for key in keys}
    tables = {
        key: history_rows(record.history)
        for key, record in records.items()
        if record.history and is_table(record.history)
    }
    if not tables:
        (store.folder / HISTORIES_FILE).unlink(missing_ok=True)
    else:
        per_epoch = {key: names for key, (_, names) in tables.items()}
        frames = {key: frame for key, (frame, _) in tables.items()}
        write_packed(store.folder / HISTORIES_FILE, frames, per_epoch=per_epoch)
    write_records(
        store.folder / STAGES_FILE,
        {
            key: record.model_copy(update={"history": None}) if key in tables else record
            for key, record in records.items()
        },
    )
    frozen = store.frozen
    for key, record in records.items():
        _compare(store.folder / STAGES_FILE, key, frozen.record(key) == record)


def _same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    if list(found) != list(expected) or len(found) != len(expected):
        return False
    return all(found[name].astype(expected[name].dtype).equals(expected[name]) for name in expected)


def _compare(path: Path, key: str, same: bool) -> None:
    if not same:
        raise StoreError(
            f"{path} does not give back what was packed of {key}: nothing was removed. This is a "
            "bug in the harness, please report it."
        )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    if not path.is_file():
        return None
    facts = path.stat()
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _clear(folder: Path) -> None:
    """Removes what is left over, and the folders that are empty then."""
    for path in (path for pattern in LEFTOVERS for path in folder.glob(pattern)):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for pattern in ("stages/*", "stages", "predictions", TUNING_FOLDER):
        for path in folder.glob(pattern):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
