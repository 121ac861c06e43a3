"""Results of others: packed, checked, merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.api.leaderboards import open_leaderboard, write_tables
from harness.api.lookup import Source, results_folder
from harness.api.plans import stored_benchmark
from harness.api.verifying import verify
from harness.apps.submissions.reproduction import Reproduction, reproduce_baselines
from harness.check.verification import Verification
from harness.errors import StoreError
from harness.files import make_folder
from harness.plugin.locations import Locations
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.report.merging import merge
from harness.report.submission_schema import MANIFEST_FILE
from harness.report.submissions import (
    SUBMISSIONS,
    Submission,
    check_complete,
    check_files,
    check_schema,
    copy_whole,
    folders_of,
    pack,
    shortened,
)
from harness.report.trust import (
    CheckedSubmission,
    Trust,
    in_words,
    manifest_digest,
    read_checks,
    write_checks,
)
from harness.results.store import Store

LIMITS = (
    "Reproduced: predicted again here. Recomputed: the scores follow from predictions of the rows "
    "that the data here give; made-up predictions would pass just so, and only training the model "
    "again can tell. Unchecked: only claimed."
)
"""What a check proves, and what not."""

NOT_AS_EXPECTED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What numbers and keys of others may lead to in the middle of a check."""


@dataclass(frozen=True)
class SubmissionCheck(Verification):
    """What was found of a submission.

    Attributes:
        trust: how far each of its cells can be trusted, by key; none where anything differs.
    """

    trust: Mapping[str, Trust] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The findings in a few sentences, with what they prove."""
        if self.differences:
            return super().verdict
        return f"{super().verdict} {in_words(list(self.trust.values()))}. {LIMITS}"


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
) -> SubmissionCheck:
    """Checks a submission: files, schema, completeness, then every number again from the rows.

    Rows, targets and splits are compared with the data that are here, whatever the models are
    called, and baselines in closed form are fitted again. Nothing in it is executed: it holds JSON,
    TOML and Parquet, and what it names is looked up among the plugins that are installed here.

    Args:
        folder: the submission.
        data_dir: folder with datasets, looked in first; without data, splits stay unchecked.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files of the checker's own to load as plugins.

    Raises:
        StoreError: the folder is no submission.
    """
    submission = Submission.read(folder)
    for check in (check_files, check_schema, check_complete):
        if differences := tuple(check(submission)):
            unchecked = ("scores: only once the above is mended",)
            return SubmissionCheck({}, differences, unchecked, ())
    options: dict[str, Any] = {"data_dir": data_dir, "weights_dir": weights_dir}
    try:
        return _recompute(submission, plugins, options)
    except NOT_AS_EXPECTED as problem:
        # Of every file the form was checked; what does not fit together may end anywhere.
        line = shortened(f"what it holds does not fit together: {problem!r}")
        return SubmissionCheck({}, (line,), ("scores: only once the above is mended",), ())


def _recompute(
    submission: Submission, plugins: Sequence[Path], options: Mapping[str, Any]
) -> SubmissionCheck:
    """Checks what a submission says, once its form is known to be right."""
    folder = submission.folder
    found = verify(folder, plugins=plugins, tables=False, **options)
    store = Store(folder)
    baselines = _reproduce(store, found, Registry(plugins), **options)
    differences = (*found.differences, *baselines.differences)
    return SubmissionCheck(
        {
            "files": len(submission.manifest.files),
            **found.checked,
            "reproduced cells": len(baselines.reproduced),
        },
        differences,
        (*found.unchecked, *baselines.unchecked),
        found.not_kept,
        found.compared,
        found.level,
        {} if differences else _trust(store, found.compared, baselines.reproduced),
    )


def _reproduce(
    store: Store,
    found: Verification,
    registry: Registry,
    data_dir: Path | None,
    weights_dir: Path | None,
) -> Reproduction:
    """Fits baselines again, unless something differs already."""
    if found.differences:
        return Reproduction()
    locations = replace(Locations.of(data_dir, weights_dir), offline=True)
    benchmark = stored_benchmark(store)
    with blaming(registry):
        return reproduce_baselines(store, benchmark, registry, locations, found.compared)


def _trust(store: Store, compared: Sequence[str], reproduced: Sequence[str]) -> dict[str, Trust]:
    trust: dict[str, Trust] = {cell.key: "unchecked" for cell in store.read_plan().cells}
    trust |= dict.fromkeys(compared, "recomputed")
    return trust | dict.fromkeys(reproduced, "reproduced")


def merge_submissions(
    folders: Sequence[Path],
    into: Path,
    registry: Registry | None = None,
    checks: Mapping[Path, SubmissionCheck] = {},
) -> Leaderboard:
    """Adds submissions to a leaderboard of many and writes its tables; see `merging.merge`.

    They are copied to `<into>/submissions/<name>`; what was checked is kept in `checks.json`. Of
    one that is there already only the check and the tables are made again.

    Args:
        folders: the submissions.
        into: folder of the leaderboard.
        registry: where metrics come from.
        checks: what `check_submission` has found, by folder; others stand as unchecked.

    Raises:
        StoreError: one is no submission, its check found differences, or another one of its name is
            there.
        BenchmarkError: they cannot stand in one table.
    """
    known = into / SUBMISSIONS
    fresh = [Submission.read(folder) for folder in folders]
    copied = [known / one.card.name for one in fresh if _is_copied(one, known)]
    have = [folder for folder in folders_of(into) if folder not in copied]
    for one in fresh:
        target = known / one.card.name
        if target.exists() and target not in copied:
            raise StoreError(
                f"{target} exists already: change `name` in {one.folder}'s "
                "method.toml and pack again, or remove the old one."
            )
    known_checks = read_checks(into) | {
        one.card.name: _checked(one.folder, checks[one.folder])
        for one in fresh
        if one.folder in checks
    }
    merge([*have, *folders], into.name, known_checks)  # an error leaves everything as it was
    make_folder(known)
    for one in fresh:
        if known / one.card.name not in copied:
            copy_whole(one.folder, known / one.card.name)
    write_checks(into, known_checks)
    return write_tables(open_leaderboard(into), Store(into), registry or Registry())


def _is_copied(submission: Submission, known: Path) -> bool:
    """Whether the same submission is there already, as after a merge that was killed."""
    there = known / submission.card.name
    return (there / MANIFEST_FILE).is_file() and (
        manifest_digest(there) == manifest_digest(submission.folder)
    )


def _checked(folder: Path, found: SubmissionCheck) -> CheckedSubmission:
    if found.differences:
        raise StoreError(f"{folder} cannot be merged: {found.differences[0]}")
    return CheckedSubmission(
        manifest=manifest_digest(folder), cells=dict(found.trust), unchecked=found.unchecked
    )
