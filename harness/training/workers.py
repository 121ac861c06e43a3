"""Further processes on one benchmark: they share it stage by stage through the store's locks.

What they tell is heard in the process that started them, as if it came from an executor's workers.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.plugin.events import EpochFinished, StageStarted
from harness.training.run_context import RunContext
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event


@dataclass(frozen=True)
class Line:
    """Between a further process and the one that started it.

    Attributes:
        stop: whether to end before all is done.
        name: of the further process.
        told: takes what it tells, for observers that only the first process has.
    """

    stop: StopSignal
    name: str
    told: Connection

    def context(self, begun: RunContext) -> RunContext:
        """Returns the same to work with, whose events go to the first process."""
        return _FurtherContext(begun.plan, begun.store, begun.registry, self.stop, self)


@dataclass(frozen=True, eq=False)
class _FurtherContext(RunContext):
    line: Line

    def tell(self, hook: str, event: object) -> None:
        if isinstance(event, StageStarted | EpochFinished):
            event = replace(event, worker=self.line.name)
        with suppress(OSError):  # the first process is gone, and the line says stop
            self.line.told.send((hook, event))


Work = Callable[[Line], Any]
"""Carries out a benchmark until the line says stop. Must be picklable: a function of a module, or a
`functools.partial` of one."""

Tell = Callable[[str, object], None]
"""Tells observers an event of a hook."""

LOOK_SECONDS = 0.2
"""Between two looks at the signal while this process waits for the others."""


@contextmanager
def workers(count: int, work: Work, stop: StopSignal, tell: Tell) -> Iterator[None]:
    """Runs `work` in `count` further processes while the block runs.

    Args:
        count: of further processes.
        work: of each.
        stop: ends them, too.
        tell: is told what they tell, in threads.

    When the block is left early, `stop` is set or this process dies, they stop as they do at a
    signal of the system. An error of the benchmark is met in this process too, and told here.

    Raises:
        HarnessError: see `refuse_unguarded_script`.
    """
    if count > 0:
        refuse_unguarded_script()
    context = multiprocessing.get_context("spawn")
    flag = context.Event()
    processes, hearing = [], []
    for number in range(count):
        told, end = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, flag, f"process {number + 2}", end))
        process.start()
        end.close()
        processes.append(process)
        hearing.append(Thread(target=_pass_on, args=(told, tell), daemon=True))
        hearing[-1].start()
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
        for thread in hearing:
            thread.join()


def _pass_on(told: Connection, tell: Tell) -> None:
    """Tells what comes, until the process at the other end is gone."""
    with told, suppress(EOFError, OSError):
        while True:
            tell(*told.recv())


def refuse_unguarded_script() -> None:
    """Refuses to start processes from a script that does its work when it is imported.

    Every further process imports the script that was started. Without a guard it would begin the
    same work, and further processes of its own; multiprocessing lets it end with a traceback.

    Raises:
        HarnessError: this process was started by such a script, or the script says nothing of
            its name. (One that does is taken to have a guard, until a further process gets here.)
    """
    started = sys.modules.get("__main__")
    path = getattr(started, "__file__", None)
    being_imported = getattr(multiprocessing.current_process(), "_inheriting", False)
    if being_imported or (
        path and getattr(started, "__spec__", None) is None and _lacks_guard(path)
    ):
        raise HarnessError(
            f"{path or 'The script'} does its work when it is imported, and further processes "
            'import it. Put the work below `if __name__ == "__main__":`, or ask for one process '
            "(jobs=1)."
        )


def _lacks_guard(script: str) -> bool:
    try:
        return "__name__" not in Path(script).read_text(encoding="utf-8", errors="replace")
    except OSError:  # no file: typed in, or from an archive
        return False


def _run(work: Work, flag: Event, name: str, told: Connection) -> None:
    stop = StopSignal(flag, os.getppid())
    try:
        with stop.listening():
            work(Line(stop, name, told))
    except (HarnessError, KeyboardInterrupt):
        return
