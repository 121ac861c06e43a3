"""The coordinator's side of an executor: gives tasks out, tries a lost one again, hears of them."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from threading import Semaphore
from typing import Any

from harness.errors import ExecutorError, HarnessError
from harness.remote.executor_session import ExecutorSession
from harness.remote.tasks import Function, carry_out

TRIES = 2
"""Of a task, before it has failed."""

WAITING_TASKS = 2
"""Short tasks per slot that are given out ahead."""

LOOK_SECONDS = 0.2
"""Between two looks at what else there is to do, such as to stop."""

LAST_WORDS_SECONDS = 2.0
"""That messages of a task which has ended are waited for, at most; one may be lost on the way."""


class TaskFailed(HarnessError):
    """A task has failed, with a reason that a plugin or the settings gave, or for good.

    Attributes:
        traceback: where in the code that came from.
    """

    def __init__(self, reason: str, told: str = "") -> None:
        super().__init__(reason)
        self.traceback = told


@dataclass(eq=False)
class Sent:
    """A task that was given out.

    Attributes:
        about: what the caller knows it by.
        payload, shared: what the executor is given.
        hear: takes messages of the task.
        tries: so far.
        heard: a count of the messages of this try that were heard and not yet asked for.
    """

    about: Any
    payload: bytes
    shared: list[Any]
    hear: Callable[[Any], None]
    tries: int = field(default=0)
    heard: Semaphore = field(default_factory=lambda: Semaphore(0))

    def await_last_words(self, told: int) -> None:
        """Waits until so many messages were heard: results and messages may go by two ways."""
        end = time.monotonic() + LAST_WORDS_SECONDS
        for _ in range(told):
            if not self.heard.acquire(timeout=max(end - time.monotonic(), 0)):
                return


class Dispatcher:
    """Gives tasks of one kind to the executor of a command, and takes back what comes of them.

    Args:
        session: with the executor, which several may share at a time.
    """

    def __init__(self, session: ExecutorSession) -> None:
        self.session = session
        self._under_way: dict[Future[bytes], Sent] = {}

    @property
    def under_way(self) -> int:
        """How many tasks were given out and have not ended."""
        return len(self._under_way)

    @property
    def room(self) -> int:
        """How many short tasks may be given out now, so that workers need not wait for more."""
        return max(WAITING_TASKS * self.session.slots - len(self._under_way), 0)

    def start(
        self,
        about: Any,
        function: Function,
        *arguments: Any,
        hear: Callable[[Any], None] = lambda message: None,
        more: dict[str, Any] | None = None,
    ) -> None:
        """Gives out `function(worker, *arguments)`.

        Args:
            about: what `finished` tells it by.
            function: of a module.
            arguments: to be pickled.
            hear: takes messages, in another thread.
            more: by digest, what `Packer.share_bytes` has returned, for the task to find.
        """
        work, needed = self.session.packer.pack((function, arguments))
        needed |= more or {}
        order = {
            "code": self.session.code,
            "plugins": self.session.plugins,
            "shared": list(needed),
            "work": work,
        }
        self._send(Sent(about, pickle.dumps(order), list(needed.values()), hear))

    def _send(self, sent: Sent) -> None:
        sent.tries += 1
        sent.heard = heard = Semaphore(0)

        def hear(message: bytes) -> None:
            sent.hear(pickle.loads(message))  # noqa: S301
            heard.release()

        future = self.session.executor.submit(carry_out, sent.payload, sent.shared, hear)
        self._under_way[future] = sent
        self.session.under_way += 1

    def finished(self, seconds: float = LOOK_SECONDS) -> Iterator[tuple[Any, Any]]:
        """Waits a moment; yields what has ended: what it was about, and its result or TaskFailed.

        What a task has told was heard before, unless a message was lost.

        Args:
            seconds: to wait, at most.

        Raises:
            KeyboardInterrupt, ExecutorError: see `ExecutorSession.check`.
            ExecutorError: no task can be carried out by the code of a worker.
        """
        done, _ = wait(self._under_way, seconds, FIRST_COMPLETED)
        self.session.check()
        for future in done:
            sent = self._under_way.pop(future)
            self.session.under_way -= 1
            outcome = self._outcome(future, sent)
            if isinstance(outcome, TaskFailed) and not outcome.traceback and sent.tries < TRIES:
                self._send(sent)
            else:
                yield sent.about, outcome

    def map(
        self,
        function: Function,
        *arguments: Any,
        each: Iterable[Any],
        more: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yields `function(worker, *arguments, thing)` for each thing, in order.

        Few things are held at a time, however many there are.

        Args:
            function: of a module.
            arguments: the same for all.
            each: the things; gone through as room comes.
            more: see `start`.

        Raises:
            TaskFailed: one has failed; what is under way is cancelled, as where no more is asked.
            KeyboardInterrupt, ExecutorError: see `finished`.
        """
        left = iter(each)
        ended: dict[int, Any] = {}
        given = taken = 0
        try:
            while True:
                for thing in islice(left, max(self.room - len(ended), 0)):
                    self.start(given, function, *arguments, thing, more=more)
                    given += 1
                if given == taken:
                    return
                for number, outcome in self.finished():
                    if isinstance(outcome, TaskFailed):
                        raise outcome
                    ended[number] = outcome
                while taken in ended:
                    yield ended.pop(taken)
                    taken += 1
        finally:
            self.cancel()

    def _outcome(self, future: Future[bytes], sent: Sent) -> Any:
        try:
            kind, result, told = pickle.loads(future.result())  # noqa: S301
        except (Exception, CancelledError) as problem:
            self.session.check()
            what = str(problem).strip() or type(problem).__name__
            return TaskFailed(f"The executor has lost the task, {sent.tries} times: {what}")
        sent.await_last_words(told)
        if kind == "done":
            return result
        if kind == "failed":
            reason, told, known = result
            # what no plugin and no setting gave as a reason may be the machine's: tried once more
            return TaskFailed(reason, told if known or sent.tries >= TRIES else "")
        if kind == "stopped":
            return TaskFailed(f"A worker was ended in the middle of the task, {sent.tries} times.")
        raise ExecutorError(result)

    def cancel(self) -> None:
        """Cancels all that is under way."""
        for future in self._under_way:
            future.cancel()
        self.session.under_way -= len(self._under_way)
        self._under_way.clear()
