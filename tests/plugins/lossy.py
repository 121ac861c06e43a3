"""A plugin with an executor that loses its first task, twice, and carries out the others itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from harness.plugin import Executor, ExecutorRequest, Task, TaskLink, hookimpl

LOST = 2


class HereLink(TaskLink):
    worker = "this process"

    def __init__(self, folder: Path, hear: Callable[[bytes], None]) -> None:
        self.folder, self.hear = folder, hear

    def tell(self, message: bytes) -> None:
        self.hear(message)

    def is_stopped(self) -> bool:
        return False


class LossyExecutor(Executor):
    title = "this process, but for what it loses"

    def __init__(self) -> None:
        self.lost = 0
        self.folder = Path(tempfile.mkdtemp())

    def submit(
        self, task: Task, payload: bytes, shared: Sequence[Any], hear: Callable[[bytes], None]
    ) -> Future[bytes]:
        future: Future[bytes] = Future()
        if self.lost < LOST:
            self.lost += 1
            future.set_exception(RuntimeError("the machine is gone"))
        else:
            future.set_result(task(payload, shared, HereLink(self.folder, hear)))
        return future

    def slots(self) -> int:
        return 1

    def shutdown(self) -> None:
        pass


@hookimpl
def make_executor(request: ExecutorRequest) -> Executor | None:
    return LossyExecutor() if request.name == "lossy" else None
