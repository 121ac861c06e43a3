"""What a check has shown of results that others sent: kept beside them, and shown in tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, get_args

from harness.errors import StoreError
from harness.files import replacing
from harness.report.submission_schema import MANIFEST_FILE
from harness.results.records import Digest, Key, Record

Trust = Literal["reproduced", "recomputed", "unchecked"]
TRUST: Final[tuple[Trust, ...]] = get_args(Trust)
"""Most trusted first."""

MEANING: Final[Mapping[Trust, str]] = {
    "reproduced": "predicted again here, from the data, with the same outcome",
    "recomputed": (
        "the scores follow from predictions of rows whose ids, targets and splits are those of the "
        "data here; that a model as described made these predictions is only claimed"
    ),
    "unchecked": (
        "only claimed: data or protocol were not known where it was checked, or nobody checked it; "
        "never called best"
    ),
}

CHECKS_FILE = "checks.json"


class CheckedSubmission(Record):
    """What a check has shown of one submission.

    Attributes:
        manifest: sha256 of its manifest as it was then; of another one nothing is known.
        cells: how far each cell can be trusted, by key; one that is not named is unchecked.
        unchecked: what could not be checked, and why.
    """

    LEFT_OUT = ()

    manifest: Digest
    cells: dict[Key, Trust]
    unchecked: tuple[str, ...] = ()


class Checks(Record):
    """`checks.json` of a leaderboard of many people: their submissions, by name."""

    format: Literal[1] = 1
    submissions: dict[str, CheckedSubmission]


def read_checks(folder: Path) -> dict[str, CheckedSubmission]:
    """Reads what is known of the submissions of a leaderboard; nothing where there is no file.

    Raises:
        StoreError: it is damaged.
    """
    path = folder / CHECKS_FILE
    if not path.is_file():
        return {}
    try:
        return Checks.read(path.read_bytes()).submissions
    except (OSError, ValueError) as problem:
        raise StoreError(
            f"{path} is damaged: {problem}. Remove it, and its leaderboard counts as unchecked."
        ) from None


def write_checks(folder: Path, checks: Mapping[str, CheckedSubmission]) -> None:
    """Writes what is known of the submissions of a leaderboard, atomically."""
    made = Checks(submissions=dict(sorted(checks.items())))
    with replacing(folder / CHECKS_FILE) as staging:
        staging.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")


def manifest_digest(submission: Path) -> str:
    """Returns the sha256 of a submission's manifest, which names the digest of every file."""
    return sha256((submission / MANIFEST_FILE).read_bytes()).hexdigest()


def most_trusted(several: list[Trust]) -> Trust:
    """Returns the most trusted of several."""
    return min(several, key=TRUST.index)


def in_words(cells: list[Trust]) -> str:
    """Says how many cells are of which kind, as `2 cells reproduced, 1 unchecked`."""
    counts = Counter(cells)
    found = [f"{counts[trust]} {trust}" for trust in TRUST if counts[trust]]
    first, *others = found or ["no cell"]
    number, _, what = first.partition(" ")
    noun = "cell" if number == "1" else "cells"
    return ", ".join([f"{number} {noun} {what}", *others]) if found else first
