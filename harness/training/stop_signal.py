"""How a run is ended before its time: asked for from anywhere, heeded where nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Ctrl-C, the end that a batch system announces, a terminal that is closed."""


class StopSignal:
    """Whether a run is to end: asked before every stage, cell and batch of trials, after an epoch.

    Args:
        flag: asks for it too, from another process.
        parent: id of the process that this one helps; when that is gone, the run is to end.
        notice: called in a signal handler when the first signal of the system is heard.
    """

    def __init__(
        self,
        flag: Event | None = None,
        parent: int | None = None,
        notice: Callable[[], None] = lambda: None,
    ) -> None:
        self._flag, self._parent, self._notice = flag, parent, notice
        self._asked = False

    def set(self) -> None:
        """Asks for the end of the run; an observer may, or another thread."""
        self._asked = True

    def is_set(self) -> bool:
        """Whether the run is to end."""
        flagged = self._flag is not None and self._flag.is_set()
        orphaned = self._parent is not None and os.getppid() != self._parent
        return self._asked or flagged or orphaned

    def check(self) -> None:
        """Ends the run where it is to end.

        Raises:
            KeyboardInterrupt: it is.
        """
        if self.is_set():
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hears the system's signals while the block runs; a second one ends the run at once.

        What somebody else handles or ignores (as `nohup` does) stays as it is, and so does all
        outside the main thread, which alone is told of signals.
        """
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
            untouched = (signal.SIG_DFL, signal.default_int_handler)
            before = {n: h for n in known if (h := signal.getsignal(n)) in untouched}
        try:
            for number in before:
                signal.signal(number, self._hear)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._notice()
