"""Checkpoints of a stage in training: one safetensors file, written atomically, never pickled."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.files import replacing, sweep

if TYPE_CHECKING:
    from torch import Tensor


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
        every_seconds: shortest time between two writes of what is offered.
    """

    def __init__(self, path: Path | None, identity: str, every_seconds: float) -> None:
        self._path = path
        self._identity = identity
        self._every_seconds = every_seconds
        self._written = time.monotonic()

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
        """Takes the state at an epoch's end, and writes it where that is due."""
        if time.monotonic() - self._written >= self._every_seconds:
            self.write(tensors, progress)

    def write(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Writes the state at an epoch's end, due or not: the fit is about to stop."""
        if self._path is None:
            return
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        notes = {
            "identity": self._identity,
            "checksum": _checksum(stored),
            "progress": json.dumps(progress),
        }
        with replacing(self._path) as staging:
            staging.write_bytes(save(stored, metadata=notes))
        self._written = time.monotonic()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
