"""Datasets in neutral form: one JSON object per line in `<name>.jsonl.gz` (or plain `.jsonl`).

A row holds `id`, the target, `lattice` (3 × 3, Å), `species` and `frac_coords`; see
`harness.plugin.DatasetSpec`.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.files import whole_file
from harness.reading import UNREADABLE, open_text, parse_json, read_lines

if TYPE_CHECKING:
    from harness.plugin.locations import Locations

_SUFFIXES = (".jsonl.gz", ".jsonl")

GZIP = 16 + zlib.MAX_WBITS
"""What zlib calls the format."""


def find_neutral(name: str, locations: Locations) -> Path | None:
    """Returns the first file of the dataset `name` in neutral form, or None.

    The user's folders come first, in their order, then `datasets` in the cache.
    """
    folders = (*locations.data, locations.cache / "datasets")
    candidates = (folder / (name + suffix) for folder in folders for suffix in _SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_neutral(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a neutral file, in order; blank lines are passed over.

    Raises:
        DataError: the file cannot be read or decompressed, or a line is not a JSON object.
    """
    number = 0
    try:
        with open_text(path, strict=True) as text:
            for number, line in enumerate(read_lines(text), start=1):
                if line.strip():
                    yield _parse_row(line, path, number)
    except UNREADABLE as problem:
        raise DataError(
            f"{path} cannot be read beyond line {number}: {problem}. Expected JSON lines, "
            "gzipped if the name ends in .gz; is the file complete?"
        ) from None


def write_neutral(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows so that equal rows give equal bytes; the file appears whole or not at all.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
    with whole_file(path) as staging, staging.open("wb") as file:
        file.writelines(_gzipped(lines) if path.suffix == ".gz" else lines)
        file.flush()
        os.fsync(file.fileno())


def _gzipped(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Compresses piece by piece; the header names no time."""
    packer = zlib.compressobj(zlib.Z_BEST_COMPRESSION, wbits=GZIP)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


def _parse_row(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as problem:
        raise DataError(f"{path}, line {number}: not JSON ({problem}).") from None
    if not isinstance(row, dict):
        raise DataError(
            f"{path}, line {number}: expected an object with id, lattice, species, … "
            f"but found {type(row).__name__}."
        )
    return row
