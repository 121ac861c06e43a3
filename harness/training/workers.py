"""Further processes on one benchmark: they share it stage by stage through the store's locks."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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

    Raises:
        HarnessError: see `refuse_unguarded_script`.
    """
    if count > 0:
        refuse_unguarded_script()
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


def _run(work: Work, flag: Event) -> None:
    stop = StopSignal(flag, os.getppid())
    try:
        with stop.listening():
            work(stop)
    except (HarnessError, KeyboardInterrupt):
        return
