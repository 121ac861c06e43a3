"""Processes that render leaderboards beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from harness.errors import StoreError
from harness.processes import begin_helper, clean_context
from harness.training.workers import refuse_unguarded_script


@contextmanager
def make_pool(jobs: int, first: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """Starts processes that share nothing with this one, and end when it ends, even if killed.

    Args:
        jobs: their number.
        first: what they do first, before there is work; without it they start with the work.

    Raises:
        HarnessError: see `refuse_unguarded_script`; or a process died.
    """
    refuse_unguarded_script()
    pool = ProcessPoolExecutor(jobs, mp_context=clean_context(), initializer=begin_helper)
    try:
        if first is not None:
            for _ in range(jobs):
                pool.submit(first)
        yield pool
    except BrokenProcessPool:
        raise StoreError(
            "A process that renders pages died: it was killed, or ran out of memory. Run the same "
            "again, or name fewer benchmarks at a time."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
