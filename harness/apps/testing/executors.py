"""Cases of executors: tasks are carried out, heard of, cancelled, and lost with a word.

class TestMyExecutor(ExecutorCases):
@pytest.fixture
def executor(self):
executor = make_executor(ExecutorRequest("mine", workers=2))
yield executor
executor.shutdown()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait

from harness.apps.testing.promises import promise
from harness.plugin.executor import Executor, TaskLink

PATIENCE_SECONDS = 60.0
"""After which something that was promised is taken not to come."""

LOOK_SECONDS = 0.05
WAITING = 4
"""Tasks beyond the slots, which wait for their turn."""

MANY = 50
"""Tasks that are given out at once."""


class ExecutorCases:
    """What an executor promises; every case is given one that was just made."""

    def test_says_what_it_is(self, executor: Executor) -> None:
        """There is one line that says what runs where, and at least one slot to come."""
        promise(
            bool(executor.title.strip()) and "\n" not in executor.title and executor.slots() >= 0,
            "`title` is one line, `slots()` a number of tasks",
            f"{executor.title!r}, {executor.slots()}",
            "say what runs where",
        )

    def test_carries_out_tasks(self, executor: Executor) -> None:
        """A task gets its payload and what was shared, in order, and its bytes come back."""
        shared = [executor.share(b"one"), executor.share(b"two")]
        futures = [
            executor.submit(join_bytes, b"%d" % number, shared, _ignore) for number in range(MANY)
        ]
        found = [_result(future) for future in futures]
        wanted = [b"%d one two" % number for number in range(MANY)]
        promise(
            found == wanted,
            "every task is called once with what it was given",
            f"{sum(a != b for a, b in zip(found, wanted, strict=True))} of {MANY} differ",
            "call task(payload, shared, link) and return its bytes unchanged",
        )

    def test_messages_are_heard(self, executor: Executor) -> None:
        """What a task tells reaches the `hear` of its own call, in order."""
        heard: list[bytes] = []
        _result(executor.submit(tell_three, b"a", [], heard.append))
        _result(executor.submit(tell_three, b"b", [], _ignore))
        wanted = [b"a0", b"a1", b"a2"]
        _wait_until(lambda: len(heard) >= len(wanted))
        promise(
            heard == wanted,
            "three messages of one task, and none of another",
            repr(heard),
            "pass messages on to the `hear` of the task that tells them",
        )

    def test_an_error_is_told(self, executor: Executor) -> None:
        """A task that raises costs its own future only."""
        future = executor.submit(fail, b"", [], _ignore)
        wait([future], PATIENCE_SECONDS)
        promise(
            future.done() and future.exception() is not None,
            "the exception of a task is that of its future",
            "none",
            "set what the task raised, or one that says what happened to it",
        )
        _result(executor.submit(join_bytes, b"", [], _ignore))

    def test_a_running_task_hears_of_its_end(self, executor: Executor) -> None:
        """A task that is cancelled while it runs sees `is_stopped`, and makes room."""
        heard: list[bytes] = []
        future = executor.submit(run_until_stopped, b"", [], heard.append)
        _wait_until(lambda: b"started" in heard)
        future.cancel()
        _wait_until(lambda: b"stopped" in heard)
        promise(
            b"stopped" in heard,
            "`cancel` of a future tells its task, if it runs already",
            repr(heard),
            "let `TaskLink.is_stopped` be true once the future was cancelled",
        )

    def test_what_is_cancelled_makes_room(self, executor: Executor) -> None:
        """Tasks that run and tasks that wait are given up when they are cancelled."""
        heard: list[bytes] = []
        count = executor.slots() + WAITING
        futures = [executor.submit(run_until_stopped, b"", [], heard.append) for _ in range(count)]
        _wait_until(lambda: b"started" in heard)
        for future in reversed(futures):
            future.cancel()
        after = executor.submit(join_bytes, b"after", [], _ignore)
        wait([after], PATIENCE_SECONDS)
        promise(
            after.done() and b"never told" not in heard,
            f"a task that is given out after {count} others were cancelled has its turn",
            f"it has not, or one of them went on: {heard}",
            "drop cancelled tasks that wait, and tell those that run",
        )


def join_bytes(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    """Returns what it is given."""
    return b" ".join([payload, *shared])


def tell_three(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    """Tells three messages."""
    for number in range(3):
        link.tell(payload + b"%d" % number)
    return b""


def fail(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    """Raises an error.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError("as it was told to")


def run_until_stopped(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    """Runs until it hears that it is to end."""
    link.tell(b"started")
    end = time.monotonic() + PATIENCE_SECONDS
    while not link.is_stopped() and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    link.tell(b"stopped" if link.is_stopped() else b"never told")
    return b""


def _ignore(message: bytes) -> None:
    pass


def _result(future: Future[bytes]) -> bytes:
    return future.result(PATIENCE_SECONDS)


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds() and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
