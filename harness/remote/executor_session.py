"""The executor of one command: made when the first task is given out, ended with the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ExecutorError, did_you_mean
from harness.plugin.events import ExecutorStarted
from harness.plugin.executor import LOCAL, Executor, ExecutorRequest
from harness.registry.attribution import blaming
from harness.remote.code_digests import code_digests
from harness.remote.parcels import Packer

if TYPE_CHECKING:
    from harness.registry.registry import Registry


class ExecutorSession:
    """What encodings, stages, trials and chunks of one command have in common: see `session_of`.

    Args:
        request: which executor.
        registry: whose plugins workers must have too, and whose observers hear of its start.
        by_content: types whose objects travel once.
        check_stop: asked while tasks are waited for; what it raises ends that.

    Attributes:
        plugins: files of plugins that travel, by name.
        under_way: how many tasks were given out and have not ended.
    """

    def __init__(
        self,
        request: ExecutorRequest,
        registry: Registry,
        by_content: tuple[type, ...] = (),
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._request, self._registry = request, registry
        self._by_content, self._check_stop = by_content, check_stop
        self._ends = ExitStack()
        self.plugins = [(path.name, path.read_bytes()) for path in registry.files.values()]
        self.under_way = 0

    @cached_property
    def executor(self) -> Executor:
        """The executor, which is made when it is first asked for.

        Raises:
            ExecutorError: no plugin brings it, or it cannot be made.
        """
        made = self._ends.enter_context(executor_of(self._request, self._registry))
        self._registry.tell("executor_started", ExecutorStarted(made.title))
        return made

    @cached_property
    def packer(self) -> Packer:
        """What packs the tasks."""
        return Packer(self.executor.share, self._by_content)

    @cached_property
    def code(self) -> dict[str, str]:
        """The code that workers must have."""
        return code_digests(self._registry)

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
        return self.slots - self.under_way

    def check(self) -> None:
        """Does nothing while tasks are to be carried out, and can be.

        Raises:
            KeyboardInterrupt: the command was stopped.
            ExecutorError: see `Executor.check`.
        """
        self._check_stop()
        self.executor.check()

    def close(self) -> None:
        """Ends the executor, if it was made."""
        self._ends.close()


@contextmanager
def session_of(
    request: ExecutorRequest | None,
    registry: Registry,
    by_content: tuple[type, ...] = (),
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[ExecutorSession | None]:
    """Yields what a command gives its tasks to; None for the processes of this machine."""
    if request is None or request.name == LOCAL:
        yield None
        return
    session = ExecutorSession(request, registry, by_content, check_stop)
    try:
        yield session
    finally:
        session.close()


@contextmanager
def executor_of(request: ExecutorRequest, registry: Registry) -> Iterator[Executor]:
    """Yields the executor that is asked for, and ends it.

    Raises:
        ExecutorError: no plugin brings it, or it cannot be made.
    """
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
