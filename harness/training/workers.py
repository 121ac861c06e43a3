"""Further processes on one benchmark: they share it stage by stage through the store's locks."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from harness.plugin.events import EpochFinished, StageStarted

Work = Callable[["StopSignal"], Any]
"""Carries out a benchmark, with that observer. Must be picklable: a function of a module, or a
`functools.partial` of one."""


@contextmanager
def workers(count: int, work: Work) -> Iterator[None]:
    """Runs `work` in `count` further processes while the block runs.

    When the block is left early or this process dies, they stop at the end of an epoch, their
    checkpoints written, or before the next stage or batch of trials. An error of the benchmark is
    met in this process too, and told here.
    """
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes = [context.Process(target=_run, args=(work, stop)) for _ in range(count)]
    for process in processes:
        process.start()
    finished = False
    try:
        yield
        finished = True
    finally:
        if not finished:
            stop.set()
        for process in processes:
            process.join()


def _run(work: Work, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and says stop
    try:
        work(StopSignal(stop, os.getppid()))
    except (HarnessError, KeyboardInterrupt):
        return


class StopSignal:
    """An observer that ends a run when it is told to, or when the first process is gone."""

    def __init__(self, stop: Event, parent: int) -> None:
        self._stop = stop
        self._parent = parent

    @hookimpl
    def stage_started(self, event: StageStarted) -> None:
        """Interrupts before a stage; those in closed form have no epochs."""
        self.check()

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        """Interrupts the training, which then writes its checkpoint."""
        self.check()

    def check(self) -> None:
        """Raises KeyboardInterrupt where the run is to end."""
        if self._stop.is_set() or os.getppid() != self._parent:
            raise KeyboardInterrupt
