"""Files written whole or not at all."""

from __future__ import annotations

import os
import shutil
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


def make_folder(folder: Path) -> Path:
    """Makes a folder, and those above it, where there is none.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise unwritable(folder, problem) from problem
    return folder


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes `target`, which must not exist, on success.

    Raises:
        StoreError: it exists, or the folder above it cannot be written.
    """
    if target.exists():
        raise StoreError(f"{target} exists already. Name another folder, or remove it.")
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as problem:
        raise unwritable(target.parent, problem) from problem
    try:
        yield staging
        staging.chmod(0o755)
        os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
