"""Where the published datasets come from: the user's folders, the cache, else the network."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plugin import DataError, find_neutral, read_neutral, write_neutral

if TYPE_CHECKING:
    from harness.plugin import Locations

PUBLISHED_URL = (
    "https://raw.githubusercontent.com/liudakl/ParAIsite/"
    "cc0c1ff578cbed186ba930784db2909b0066a80e/main/src/structures_scalers"
)
"""Folder of the published pickles; `$HARNESS_PARAISITE_URL` names a mirror."""

TIMEOUT_SECONDS = 30.0


def load_rows(name: str, card: Path, locations: Locations) -> Iterable[Mapping[str, Any]]:
    """Returns the rows of a published dataset.

    The neutral form is looked for first. Where there is none, the published pickles are taken from
    the same folders or downloaded, verified, converted, and kept in neutral form in the cache.

    Args:
        name: `Dataset1`, `Dataset2` or `AFLOW`.
        card: its card, which lists the published files and their git blob ids.
        locations: where to look.

    Raises:
        DataError: the dataset is nowhere and cannot be fetched, or a file is not the published one.
    """
    neutral = find_neutral(name, locations)
    if neutral is None:
        neutral = _cache(locations) / f"{name}.jsonl.gz"
        files = tomllib.loads(card.read_text(encoding="utf-8"))["files"]
        rows = _convert_published(name, files, locations)
        try:
            write_neutral(neutral, rows)
        except OSError as problem:
            raise DataError(
                f"The dataset {name!r} was fetched but cannot be kept in {neutral.parent}: "
                f"{problem.strerror}. Make the folder writable or point $HARNESS_CACHE elsewhere."
            ) from None
    return read_neutral(neutral)


def _cache(locations: Locations) -> Path:
    return locations.cache / "datasets"


def _folders(locations: Locations) -> tuple[Path, ...]:
    return (*locations.data, _cache(locations))


def git_blob_id(content: bytes) -> str:
    """The id under which git stores a file: sha1 of a short header and the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _convert_published(
    name: str, files: Mapping[str, str], locations: Locations
) -> list[dict[str, Any]]:
    from harness_paraisite.conversion import convert

    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        paths = {}
        for file, blob in files.items():
            path = _find_pickle(file, locations) or _download(name, files, file, scratch, locations)
            _verify(path, blob)
            paths[file.startswith("structures_")] = path
        return convert(name, targets=paths[False], structures=paths[True])


def _find_pickle(file: str, locations: Locations) -> Path | None:
    candidates = (folder / file for folder in _folders(locations))
    return next((path for path in candidates if path.is_file()), None)


def _download(
    name: str, files: Mapping[str, str], file: str, scratch: str, locations: Locations
) -> Path:
    url = f"{os.environ.get('HARNESS_PARAISITE_URL', PUBLISHED_URL).rstrip('/')}/{file}"
    if locations.offline:
        raise _missing(name, files, locations, f"{url} was not tried: offline ($HARNESS_OFFLINE)")
    import pooch  # type: ignore[import-untyped]

    path = Path(scratch) / file
    try:
        pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)(url, str(path), None)
    except OSError as problem:  # every error of requests is one
        raise _missing(name, files, locations, f"{url} failed: {_brief(problem)}") from None
    return path


def _brief(problem: Exception) -> str:
    """The innermost reason: what requests wraps around it fills lines and says nothing."""
    response = getattr(problem, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    innermost: BaseException = problem
    while innermost.__context__ is not None:
        innermost = innermost.__context__
    return f"{type(innermost).__name__}: {innermost}"


def _verify(path: Path, expected: str) -> None:
    found = git_blob_id(path.read_bytes())
    if found != expected:
        raise DataError(
            f"{path.name} is not the published file: its git blob id is {found}, expected "
            f"{expected}. It was not read ({path}). Remove it and fetch it again; if "
            "$HARNESS_PARAISITE_URL is set, check that mirror."
        )


def _missing(name: str, files: Mapping[str, str], locations: Locations, attempt: str) -> DataError:
    folders = ", ".join(str(folder) for folder in _folders(locations))
    return DataError(
        f"The dataset {name!r} was not found. Looked for {name}.jsonl.gz (or the published "
        f"{' and '.join(files)}) in {folders}; the download of {attempt}. "
        f"Put {name}.jsonl.gz into a folder and name that with --data-dir or $HARNESS_DATA, or run "
        f"`harness datasets fetch {name}` where there is a network."
    )
