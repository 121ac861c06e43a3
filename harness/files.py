"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import StoreError


def unwritable(folder: Path, problem: OSError) -> StoreError:
    """Returns the error that says where nothing can be written, and why."""
    return StoreError(
        f"Cannot write results to {folder}: {problem.strerror}. "
        "Choose another folder with --out or --to, or change its permissions."
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path that takes the place of `path` when the block succeeds.

    It has the same suffix, for libraries that tell a format by it.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
    except OSError as problem:
        raise unwritable(path.parent, problem) from problem
    os.close(handle)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(0o644)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
