"""What a task of the executor in `pool.py` has of it, in a module that its processes can import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.plugin import TaskLink


class PoolLink(TaskLink):
    """Messages in a queue; a number in a list says that the task was cancelled."""

    worker = "a process"

    def __init__(self, number: int, messages: Any, cancelled: Any, folder: Path) -> None:
        self.number, self.messages, self.cancelled = number, messages, cancelled
        self.folder = folder

    def tell(self, message: bytes) -> None:
        self.messages.put((self.number, message))

    def is_stopped(self) -> bool:
        return self.number in self.cancelled
