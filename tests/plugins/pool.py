"""A plugin with an executor of a few lines: a pool of processes of the standard library."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

from harness.plugin import Executor, ExecutorRequest, Task, hookimpl
from tests.plugins.pool_link import PoolLink

PRELOADED = ["harness.tuning.trial_task", "harness.remote.tasks", "harness.apps.predict.scanner"]


class PoolExecutor(Executor):
    title = "a pool of processes"

    def __init__(self, request: ExecutorRequest) -> None:
        self.count = request.workers or 2
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.manager = context.Manager()
        self.messages, self.cancelled = self.manager.Queue(), self.manager.dict()
        self.pool = ProcessPoolExecutor(self.count, mp_context=context)
        self.folder = Path(tempfile.mkdtemp())
        self.hearers: list[Callable[[bytes], None]] = []
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        while (told := self.messages.get()) is not None:
            self.hearers[told[0]](told[1])

    def submit(
        self, task: Task, payload: bytes, shared: Sequence[Any], hear: Callable[[bytes], None]
    ) -> Future[bytes]:
        number = len(self.hearers)
        self.hearers.append(hear)
        link = PoolLink(number, self.messages, self.cancelled, self.folder)
        future = self.pool.submit(task, payload, shared, link)
        ended = future.cancel

        def cancel() -> bool:
            self.cancelled[number] = True
            return ended()

        future.cancel = cancel  # type: ignore[method-assign]
        return future

    def slots(self) -> int:
        return self.count

    def shutdown(self) -> None:
        for number in range(len(self.hearers)):
            self.cancelled[number] = True
        self.pool.shutdown(cancel_futures=True)
        self.messages.put(None)
        self.listener.join()
        self.manager.shutdown()


@hookimpl
def make_executor(request: ExecutorRequest) -> Executor | None:
    return PoolExecutor(request) if request.name == "pool" else None
