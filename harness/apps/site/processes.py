"""Processes that render leaderboards beside this one."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from harness.errors import StoreError
from harness.nn.encodings import end_with_parent
from harness.training.workers import refuse_unguarded_script


@contextmanager
def make_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Starts processes that share nothing with this one, and end when it ends, even if killed.

    Raises:
        HarnessError: see `refuse_unguarded_script`; or a process died.
    """
    refuse_unguarded_script()
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BrokenProcessPool:
        raise StoreError(
            "A process that renders pages died: it was killed, or ran out of memory. Run the same "
            "again, or name fewer benchmarks at a time."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, and stops this one
    threading.Thread(target=end_with_parent, daemon=True).start()
