"""Tasks as Dask futures: progress by topics of the scheduler's log, a stop by cancelled keys."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, get_worker

from harness.plugin import Executor, ExecutorError, ExecutorRequest, Task, TaskLink

CONNECT_SECONDS = 10
LOST_WORKERS = 1
"""Workers of a local cluster that a task may lose before Dask gives it up."""

KEPT_MESSAGES = 16
"""What each connection keeps of what it has sent, for whoever looks for faults in Dask. By default
it is a thousand; those below 1 MB are kept whole, with the structures of a chunk, say."""

QUIET = ("distributed.client", "distributed.nanny", "distributed.scheduler", "distributed.core")
NOTHING = logging.CRITICAL + 1
"""Whatever matters is told as an error of the task; the rest, as what a scheduler still had to tell
a client that Ctrl-C has ended, is none of the user's."""


class DaskExecutor(Executor):
    """A client of a scheduler.

    Args:
        request: with the address of one; or with a number of workers, for a cluster that is started
            here, on the loopback address unless a kind of cluster is named.
    """

    def __init__(self, request: ExecutorRequest) -> None:
        for name in QUIET:
            logging.getLogger(name).setLevel(NOTHING)
        self._folder = request.folder
        self._wanted = 0 if request.scheduler else request.workers or 0
        with ExitStack() as ends:
            ends.enter_context(
                dask.config.set({"distributed.admin.low-level-log-length": KEPT_MESSAGES})
            )
            cluster = None if request.scheduler else ends.enter_context(_start_cluster(request))
            try:
                self._client = Client(cluster or request.scheduler, timeout=CONNECT_SECONDS)
            except (OSError, ValueError) as problem:
                raise ExecutorError(
                    f"No Dask scheduler answers at {request.scheduler}: {problem}. Start one there "
                    "with `dask scheduler`, or give --workers in place of --scheduler."
                ) from problem
            ends.callback(self._client.close, timeout=5)
            self._ends = ends.pop_all()
        self._topic = f"harness-{uuid.uuid4().hex}"
        self._hearers: dict[str, Callable[[bytes], None]] = {}
        self._client.subscribe_topic(self._topic, self._hear)
        where = self._client.scheduler_info()["address"]
        self.title = f"Dask at {where}, dashboard {self._client.dashboard_link}"

    def submit(
        self,
        task: Task,
        payload: bytes,
        shared: Sequence[Any],
        hear: Callable[[bytes], None],
    ) -> Future[bytes]:
        """Gives the task to the scheduler."""
        key = f"harness-{uuid.uuid4().hex}"
        self._hearers[key] = hear
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # weights and rows are
            theirs = self._client.submit(
                _carry_out, task, payload, list(shared), key, self._topic, self._folder, key=key
            )
        ours = _Linked(theirs)

        def settle(done: Any) -> None:
            if done.status != "cancelled":  # one that is cancelled may still have a last word
                self._hearers.pop(key, None)
            ours.settle()

        theirs.add_done_callback(settle)
        return ours

    def share(self, content: bytes) -> Any:
        """Makes a task of the bytes: what a lost worker held is then sent to another one."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self._client.submit(_same, content, key=f"harness-shared-{uuid.uuid4().hex}")

    def slots(self) -> int:
        """Threads of the workers that are there, or that were asked for."""
        there = self._client.scheduler_info(n_workers=-1).get("workers", {})
        return max(self._wanted, sum(int(worker["nthreads"]) for worker in there.values()))

    def check(self) -> None:
        """Sees whether the scheduler is there.

        Raises:
            ExecutorError: it is not.
        """
        if self._client.status != "running":
            raise ExecutorError(
                "The connection to the Dask scheduler is lost. What was finished is kept: run the "
                "same again when the scheduler is back, or with --executor local."
            )

    def shutdown(self) -> None:
        """Leaves the scheduler; ends it where it was started here."""
        self._ends.close()

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        message = event[1]
        if hear := self._hearers.get(message["key"]):
            hear(message["message"])


class _Linked(Future[bytes]):
    """A future of the standard library that follows one of Dask."""

    def __init__(self, theirs: Any) -> None:
        super().__init__()
        self._theirs = theirs

    def cancel(self) -> bool:
        """Cancels the task, one that runs too: it hears of it, and ends."""
        self._theirs.cancel()
        return super().cancel()

    def settle(self) -> None:
        """Takes over what has come of the task."""
        if self.done():
            return
        if self._theirs.status == "finished":
            try:
                self.set_result(self._theirs.result())
            except BaseException as problem:  # the connection may go just then
                self.set_exception(problem)
        else:
            self.set_exception(_problem(self._theirs))


def _problem(theirs: Any) -> BaseException:
    if theirs.status != "error":
        return ExecutorError(f"Dask has {theirs.status} the task.")
    problem = theirs.exception()
    return problem if isinstance(problem, BaseException) else ExecutorError(str(problem))


def _same(content: bytes) -> bytes:
    return content


class _DaskLink(TaskLink):
    """What a task has of Dask, on its worker."""

    def __init__(self, key: str, topic: str, folder: Path | None) -> None:
        self._worker = get_worker()
        self._key, self._topic = key, topic
        self.worker = f"dask-{self._worker.name}"
        self.folder = folder or _own_folder()

    def tell(self, message: bytes) -> None:
        """Logs an event, which the scheduler passes on."""
        self._worker.log_event(self._topic, {"key": self._key, "message": message})

    def is_stopped(self) -> bool:
        """Whether the scheduler has taken the task back, as when its client is gone."""
        state = self._worker.state.tasks.get(self._key)
        return state is None or state.state in {"cancelled", "released", "forgotten"}


def _carry_out(
    task: Task,
    payload: bytes,
    shared: Sequence[bytes],
    key: str,
    topic: str,
    folder: Path | None,
) -> bytes:
    """Calls a task; runs on a worker."""
    return task(payload, shared, _DaskLink(key, topic, folder))


def _own_folder() -> Path:
    """A folder of this user on this machine, which nobody else can write to."""
    folder = Path(tempfile.gettempdir()) / f"harness-workers-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise ExecutorError(f"Others can write to {folder}: remove it, or give the executor one.")
    return folder


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Keeps what Ctrl-C does, which importing dask_jobqueue 0.9 turns into an exit at once."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _start_cluster(request: ExecutorRequest) -> Any:
    """Starts workers on this machine, or asks a batch system for them.

    Raises:
        ExecutorError: there is no such kind of cluster, or it does not take the options.
    """
    if request.cluster is None:
        with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}):
            own = {"preload": "harness_dask.local_worker", "silence_logs": logging.CRITICAL}
            options = {**own, **request.options}
            return LocalCluster(
                n_workers=request.workers or os.cpu_count() or 1,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                **options,
            )
    module, _, name = request.cluster.rpartition(".")
    try:
        with _interrupts_kept():
            kind = getattr(importlib.import_module(module or "dask_jobqueue"), name)
        cluster = kind(**request.options)
    except (ImportError, AttributeError, TypeError, ValueError) as problem:
        raise ExecutorError(
            f"cluster = {request.cluster!r} cannot be started: {problem}. Expected a class of "
            "dask_jobqueue, as SLURMCluster, or of another package, as "
            "dask_kubernetes.operator.KubeCluster, and in [executor.options] what it takes."
        ) from problem
    cluster.scale(request.workers or 1)
    return cluster
