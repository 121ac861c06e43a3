"""Where tasks run: what a plugin that brings another engine than local processes hands over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOCAL = "local"
"""The executor that needs no plugin: processes of this machine that share a results folder."""


@dataclass(frozen=True)
class ExecutorRequest:
    """Which executor is asked for, and how.

    Attributes:
        name: as `--executor` has it.
        scheduler: address of one that runs already, as `tcp://host:8786`.
        workers: how many are to be started, where there is none.
        options: the table `[executor.options]` of `--executor-file`, whose keys are the engine's.
        cluster: kind of cluster that the options are for, as `SLURMCluster`.
        folder: where workers may keep checkpoints and caches; one that all of them see lets a
            stage go on elsewhere. A folder of every machine's own where it is absent.
    """

    name: str
    scheduler: str | None = None
    workers: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    cluster: str | None = None
    folder: Path | None = None


class TaskLink(ABC):
    """What a task has of its executor while it runs; made by the plugin, on the worker.

    Attributes:
        worker: name of the worker, for people.
        folder: where the worker may keep checkpoints and caches; others may write there too.
    """

    worker: str
    folder: Path

    @abstractmethod
    def tell(self, message: bytes) -> None:
        """Sends a message to `hear` of the call of `submit`; one that is lost costs nothing."""

    @abstractmethod
    def is_stopped(self) -> bool:
        """Whether the task was cancelled, or nobody waits for it any more; asked often."""


Task = Callable[[bytes, Sequence[bytes], TaskLink], bytes]
"""What a worker calls: a function of a module of the harness, with a payload, what was shared."""


class Executor(ABC):
    """Carries out tasks elsewhere, in the manner of `concurrent.futures.Executor`.

    Attributes:
        title: what runs where, for people, as `Dask at tcp://10.0.0.1:8786`; with the address of a
            page that shows it, if there is one.
    """

    title: str

    @abstractmethod
    def submit(
        self,
        task: Task,
        payload: bytes,
        shared: Sequence[Any],
        hear: Callable[[bytes], None],
    ) -> Future[bytes]:
        """Has a worker call `task(payload, shared, link)`.

        Args:
            task: can be imported on a worker that has the harness.
            payload: of this task alone.
            shared: what `share` has returned; the task gets the bytes.
            hear: is to be called, in any thread, with each message that the task tells.

        Returns:
            What comes of it; an exception where the worker was lost for good. `cancel` of it tells
            a task that runs already, through `TaskLink.is_stopped`.
        """

    def share(self, content: bytes) -> Any:
        """Takes bytes that many tasks need, so that a worker is sent them once, if it can be."""
        return content

    @abstractmethod
    def slots(self) -> int:
        """Returns how many tasks may run at a time; asked again and again, and may change."""

    def check(self) -> None:  # noqa: B027  # most engines have nothing to say
        """Does nothing while tasks can be carried out.

        Raises:
            HarnessError: they cannot any more: the scheduler is gone, ….
        """

    @abstractmethod
    def shutdown(self) -> None:
        """Cancels what is under way, and ends what was started. Called once, at the end."""
