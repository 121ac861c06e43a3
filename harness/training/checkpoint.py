"""Checkpoints of a stage in training: one safetensors file, written atomically, never pickled."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.files import sweep, whole_file

SNAPSHOT_SECONDS = 1.0
"""Epochs shorter than this are not each kept in memory for the case of an interruption."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and plain data from which a fit goes on."""

    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any]


class CheckpointFile:
    """The checkpoint of one fit.

    Args:
        path: where it lies; None keeps nothing.
        identity: digest of all that determines the fit's outcome.
        every_seconds: shortest time between two writes.
    """

    def __init__(self, path: Path | None, identity: str, every_seconds: float) -> None:
        self._path = path
        self._identity = identity
        self._every_seconds = every_seconds
        self._written = self._kept = time.monotonic()
        self._unwritten: Checkpoint | None = None

    def read(self) -> Checkpoint | None:
        """Returns what was saved; None, with a warning where there was a file, if it is no use."""
        if self._path is None:
            return None
        sweep(self._path.parent)
        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                notes = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if notes.get("identity") != self._identity:
                raise ValueError("it belongs to a fit with other settings, data or weights")
            if notes.get("checksum") != _checksum(tensors):
                raise ValueError("its checksum is wrong")
            return Checkpoint(tensors, json.loads(notes["progress"]))
        except (SafetensorError, OSError, ValueError, KeyError) as problem:
            warnings.warn(
                f"Ignoring the checkpoint {self._path}: {problem}. Training starts again.",
                stacklevel=2,
            )
            return None

    def offer(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Takes the state at an epoch's end; writes it, or keeps a copy, or neither, as is due."""
        if self._path is None:
            return
        now = time.monotonic()
        if now - self._written >= self._every_seconds:
            self._write(self._path, Checkpoint(tensors, progress))
        elif now - self._kept >= SNAPSHOT_SECONDS:
            copies = {name: tensor.clone() for name, tensor in tensors.items()}
            self._unwritten = Checkpoint(copies, json.loads(json.dumps(progress)))
            self._kept = now

    def flush(self) -> None:
        """Writes the kept copy, if there is one: for a fit that is being interrupted."""
        if self._path is not None and self._unwritten is not None:
            self._write(self._path, self._unwritten)

    def _write(self, path: Path, checkpoint: Checkpoint) -> None:
        tensors = {name: t.detach().cpu().contiguous() for name, t in checkpoint.tensors.items()}
        notes = {
            "identity": self._identity,
            "checksum": _checksum(tensors),
            "progress": json.dumps(checkpoint.progress),
        }
        with whole_file(path) as staging:
            save_file(tensors, staging, metadata=notes)
        self._unwritten = None
        self._written = self._kept = time.monotonic()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
