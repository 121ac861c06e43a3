"""The coordinator's side of an executor: gives tasks out, tries a lost one again, hears of them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ExecutorError, HarnessError, did_you_mean
from harness.plugin.executor import LOCAL, Executor, ExecutorRequest
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.remote.code_digests import code_digests
from harness.remote.parcels import Packer
from harness.remote.tasks import Function, carry_out

TRIES = 2
"""Of a task, before it has failed."""

LOOK_SECONDS = 0.2
"""Between two looks at what else there is to do, such as to stop."""


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
    """

    about: Any
    payload: bytes
    shared: list[Any]
    hear: Callable[[Any], None]
    tries: int = field(default=0)


class Dispatcher:
    """Gives tasks to an executor.

    Args:
        executor: that carries them out.
        registry: whose plugins workers must have too.
        by_content: types whose objects travel once.
    """

    def __init__(
        self, executor: Executor, registry: Registry, by_content: tuple[type, ...] = ()
    ) -> None:
        self.executor = executor
        self.packer = Packer(executor.share, by_content)
        self._code = code_digests(registry)
        self._plugins = [(path.name, path.read_bytes()) for path in registry.files.values()]
        self._under_way: dict[Future[bytes], Sent] = {}

    @property
    def under_way(self) -> int:
        """How many tasks were given out and have not ended."""
        return len(self._under_way)

    @property
    def slots(self) -> int:
        """How many tasks may run at once; at least one, so that somebody waits for workers.

        Raises:
            ExecutorError: see `Executor.check`.
        """
        self.executor.check()
        return max(self.executor.slots(), 1)

    @property
    def free(self) -> int:
        """How many further tasks could run at once."""
        return self.slots - len(self._under_way)

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
        work, needed = self.packer.pack((function, arguments))
        needed |= more or {}
        order = {
            "code": self._code,
            "plugins": self._plugins,
            "shared": list(needed),
            "work": work,
        }
        self._send(Sent(about, pickle.dumps(order), list(needed.values()), hear))

    def _send(self, sent: Sent) -> None:
        sent.tries += 1

        def hear(message: bytes) -> None:
            sent.hear(pickle.loads(message))  # noqa: S301

        future = self.executor.submit(carry_out, sent.payload, sent.shared, hear)
        self._under_way[future] = sent

    def finished(self) -> Iterator[tuple[Any, Any]]:
        """Waits a moment; yields what has ended: what it was about, and its result or TaskFailed.

        Raises:
            ExecutorError: no task can be carried out, here or by the code of a worker.
        """
        done, _ = wait(self._under_way, LOOK_SECONDS, FIRST_COMPLETED)
        self.executor.check()
        for future in done:
            sent = self._under_way.pop(future)
            outcome = self._outcome(future, sent)
            if isinstance(outcome, TaskFailed) and not outcome.traceback and sent.tries < TRIES:
                self._send(sent)
            else:
                yield sent.about, outcome

    def _outcome(self, future: Future[bytes], sent: Sent) -> Any:
        try:
            kind, result = pickle.loads(future.result())  # noqa: S301
        except (Exception, CancelledError) as problem:
            self.executor.check()
            what = str(problem).strip() or type(problem).__name__
            return TaskFailed(f"The executor has lost the task, {sent.tries} times: {what}")
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
        self._under_way.clear()


@contextmanager
def executor_of(request: ExecutorRequest | None, registry: Registry) -> Iterator[Executor | None]:
    """Yields the executor that is asked for; None for the processes of this machine.

    Raises:
        ExecutorError: no plugin brings it, or it cannot be made.
    """
    if request is None or request.name == LOCAL:
        yield None
        return
    with blaming(registry):
        executor: Executor | None = registry.manager.hook.make_executor(request=request)
    if executor is None:
        broken = [one.name for one in registry.broken]
        raise ExecutorError(
            f"No plugin brings an executor {request.name!r}.{did_you_mean(request.name, ['dask'])}"
            + (f" These plugins could not be loaded: {', '.join(broken)}." if broken else "")
        )
    try:
        yield executor
    finally:
        executor.shutdown()


def read_request(path: Path) -> ExecutorRequest:
    """Reads the table `[executor]` of a file.

    Raises:
        ExecutorError: it is not there, or not such a table.
    """
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["executor"]
        folder = table.pop("folder", None)
        request = ExecutorRequest(**table, folder=Path(folder).expanduser() if folder else None)
    except KeyError:
        raise ExecutorError(f"{path} has no table [executor].") from None
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise ExecutorError(
            f"{path}: {problem}. Expected a table [executor] with name, and workers, scheduler, "
            "cluster, folder or a table [executor.options]."
        ) from None
    return request
