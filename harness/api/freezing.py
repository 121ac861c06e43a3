"""Complete leaderboards, packed into few files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.api.lookup import Source, results_folder
from harness.errors import StoreError
from harness.report.submission_schema import MANIFEST_FILE
from harness.results import freezing
from harness.results.store import WEIGHTS_FILE, Store

MANY = 24
"""Loose files that are worth a word."""


@dataclass(frozen=True)
class FreezeReport:
    """What a freeze has done.

    Attributes:
        folder: of the results.
        before, after: number of files, those that are not kept (weights) left out.
        bytes: that the files after take up.
    """

    folder: Path
    before: int
    after: int
    bytes: int


def freeze(source: Source, *, out: Path | str | None = None) -> FreezeReport:
    """Packs the results of a complete leaderboard into few files.

    All that reads them goes on as before, and so does a run: what it adds lies beside the packed
    files until the next freeze. Weights stay where they are.

    Args:
        source: a benchmark that was run, or a folder with its results.
        out: results folder; beside the benchmark file unless given.

    Raises:
        StoreError: nothing was run, results are missing or damaged, the folder is a submission, or
            a process is at work there.
    """
    from harness.tuning.trials_table import freeze_searches

    store = Store(Path(out) if out else results_folder(source))
    if (store.folder / MANIFEST_FILE).is_file():
        raise StoreError(f"{store.folder} is a submission, which stays as it was signed.")
    store.sweep()
    before = _files(store.folder)
    freezing.freeze(store, freeze_searches)
    after = _files(store.folder)
    size = sum(path.stat().st_size for path in after)
    return FreezeReport(store.folder, len(before), len(after), size)


def freezable(source: Source, out: Path | str | None = None) -> int:
    """Returns how many files a freeze would pack; 0 where results lack something, or it is few."""
    store = Store(Path(out) if out else results_folder(source))
    loose = freezing.loose_files(store)
    if len(loose) < MANY:
        return 0
    try:
        freezing.check_complete(store)
    except StoreError:
        return 0
    return len(loose)


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and p.name != WEIGHTS_FILE]
