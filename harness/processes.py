"""Processes that help this one: they share nothing with it, leave Ctrl-C to it, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection
from multiprocessing.context import BaseContext


def clean_context() -> BaseContext:
    """Returns the way of starting processes that share nothing with this one.

    Plain fork is out: it copies the locks of torch's threads, but not the threads.
    """
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def begin_helper() -> None:
    """Makes this process a helper: the one that started it hears Ctrl-C, and ends it, even killed.

    To be called first in each process of a pool.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
