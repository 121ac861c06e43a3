"""Results of others: packed, checked, merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.leaderboards import open_leaderboard, write_tables
from harness.api.lookup import Source, results_folder
from harness.api.verifying import verify
from harness.errors import StoreError
from harness.files import make_folder
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.report.merging import merge
from harness.report.submissions import (
    SUBMISSIONS,
    Submission,
    check_complete,
    check_files,
    check_schema,
    copy_whole,
    folders_of,
    pack,
)
from harness.results.store import Store

if TYPE_CHECKING:
    from harness.check.verification import Verification


def pack_submission(
    source: Source, card: Path, target: Path, out: Path | None = None
) -> Submission:
    """Packs the finished results of a benchmark into a folder of their own; see `submissions.pack`.

    Args:
        source: the benchmark, or a folder with results.
        card: the method's card, `method.toml`.
        target: the folder to make.
        out: results folder; beside the benchmark file unless given.

    Raises:
        StoreError: there is nothing to pack, not all of it, or the folder exists.
    """
    from harness import __version__

    return pack(Store(out or results_folder(source)), card, target, __version__)


def check_submission(
    folder: Path,
    *,
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    plugins: Sequence[Path] = (),
) -> Verification:
    """Checks a submission: files, schema, completeness, then every number again from the rows.

    Nothing in it is executed: it holds JSON, TOML and Parquet, and what it names is looked up among
    the plugins that are installed here.

    Args:
        folder: the submission.
        data_dir: folder with datasets, looked in first; without data, splits stay unchecked.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files of the checker's own to load as plugins.

    Raises:
        StoreError: the folder is no submission.
    """
    from harness.check.verification import Verification

    submission = Submission.read(folder)
    for check in (check_files, check_schema, check_complete):
        if differences := tuple(check(submission)):
            return Verification({}, differences, ("scores: only once the above is mended",), ())
    options: dict[str, Any] = {"data_dir": data_dir, "weights_dir": weights_dir}
    found = verify(folder, plugins=plugins, tables=False, **options)
    return replace(found, checked={"files": len(submission.manifest.files), **found.checked})


def merge_submissions(
    folders: Sequence[Path], into: Path, registry: Registry | None = None
) -> Leaderboard:
    """Adds submissions to a leaderboard of many and writes its tables; see `merging.merge`.

    They are copied to `<into>/submissions/<name>`. Check them first.

    Raises:
        StoreError: one is no submission, or another one of its name is there.
        BenchmarkError: they cannot stand in one table.
    """
    known = into / SUBMISSIONS
    have = folders_of(into)
    fresh = [Submission.read(folder) for folder in folders]
    for one in fresh:
        if (known / one.card.name).exists():
            raise StoreError(
                f"{known / one.card.name} exists already: change `name` in {one.folder}'s "
                "method.toml and pack again, or remove the old one."
            )
    merge([*have, *folders], into.name)  # an error leaves everything as it was
    make_folder(known)
    for one in fresh:
        copy_whole(one.folder, known / one.card.name)
    return write_tables(open_leaderboard(into), Store(into), registry or Registry())
