"""Further processes on one benchmark: they share it stage by stage through the store's locks."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

Work = Callable[[StopSignal], Any]
"""Carries out a benchmark until that signal. Must be picklable: a function of a module, or a
`functools.partial` of one."""

LOOK_SECONDS = 0.2
"""Between two looks at the signal while this process waits for the others."""


@contextmanager
def workers(count: int, work: Work, stop: StopSignal) -> Iterator[None]:
    """Runs `work` in `count` further processes while the block runs.

    When the block is left early, `stop` is set or this process dies, they stop as they do at a
    signal of the system. An error of the benchmark is met in this process too, and told here.
    """
    context = multiprocessing.get_context("spawn")
    flag = context.Event()
    processes = [context.Process(target=_run, args=(work, flag)) for _ in range(count)]
    for process in processes:
        process.start()
    finished = False
    try:
        yield
        finished = True
    finally:
        if not finished:
            flag.set()
        for process in processes:
            while process.is_alive():
                process.join(LOOK_SECONDS)
                if stop.is_set():
                    flag.set()


def _run(work: Work, flag: Event) -> None:
    stop = StopSignal(flag, os.getppid())
    try:
        with stop.listening():
            work(stop)
    except (HarnessError, KeyboardInterrupt):
        return
