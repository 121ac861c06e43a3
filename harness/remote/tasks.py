"""A task on a worker: by the right code, one at a time in a process, and with a plain outcome.

A payload is pickled: whoever may give tasks to a worker may run any code there, as is so with every
engine that runs Python elsewhere. Keep its network to yourself.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from harness.errors import ExecutorError, HarnessError, StoreError
from harness.plugin.executor import TaskLink
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.remote.code_digests import check_code, code_digests
from harness.remote.parcels import put_file, unpack


@dataclass(frozen=True)
class Worker:
    """What a function that is called on a worker has at hand.

    Attributes:
        registry: with the plugins of the coordinator.
        link: to the coordinator.
        folder: where it may keep things that code of this version has made.
        shared: by digest, bytes that were shared with the task.
    """

    registry: Registry
    link: TaskLink
    folder: Path
    shared: dict[str, bytes]

    def tell(self, message: object) -> None:
        """Sends a message to the coordinator."""
        self.link.tell(pickle.dumps(message))


class _CountedLink(TaskLink):
    """A link that counts the messages, so that the coordinator knows how many it is to hear."""

    def __init__(self, link: TaskLink) -> None:
        self._link, self.worker, self.folder = link, link.worker, link.folder
        self.told = 0

    def tell(self, message: bytes) -> None:
        self.told += 1
        self._link.tell(message)

    def is_stopped(self) -> bool:
        return self._link.is_stopped()


Function = Callable[..., Any]
"""Called on a worker as `function(worker, *arguments)`; a function of a module."""

_one_at_a_time = Lock()
_registries: dict[tuple[str, ...], Registry] = {}


def carry_out(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    """Carries out one task, unless it was cancelled; what it returns tells whatever happens in it.

    Threads, seeds and settings of torch belong to the process, so tasks take turns in one.

    Returns:
        pickled: the kind of outcome, what there is to say of it, and how many messages were told.
    """
    link = _CountedLink(link)
    with _one_at_a_time:
        outcome: tuple[str, Any]
        try:
            if link.is_stopped():  # it was cancelled while it waited for its turn
                raise KeyboardInterrupt
            outcome = ("done", _call(pickle.loads(payload), shared, link))  # noqa: S301
        except KeyboardInterrupt:
            outcome = ("stopped", None)
        except ExecutorError as problem:
            outcome = ("refused", str(problem))
        except (Exception, SystemExit) as problem:
            told_by_us = isinstance(problem, HarnessError)
            known = told_by_us and not isinstance(problem, StoreError)  # a disk is the machine's
            reason = str(problem) if told_by_us else f"{type(problem).__name__}: {problem}"
            told = "".join(traceback.format_exception(problem))
            outcome = ("failed", (f"{reason} (on the worker {link.worker})", told, known))
        return pickle.dumps((*outcome, link.told), pickle.HIGHEST_PROTOCOL)


def _call(order: dict[str, Any], shared: Sequence[bytes], link: TaskLink) -> Any:
    registry = _registry(order["plugins"], link.folder)
    here = code_digests(registry)
    check_code(order["code"], here, link.worker)
    mark = sha256(repr(sorted(here.items())).encode()).hexdigest()[:16]
    folder = link.folder / mark
    folder.mkdir(parents=True, exist_ok=True)
    by_digest = dict(zip(order["shared"], shared, strict=True))
    with blaming(registry):
        function, arguments = unpack(order["work"], by_digest, folder)
        return function(Worker(registry, link, folder, by_digest), *arguments)


def _registry(plugins: Sequence[tuple[str, bytes]], folder: Path) -> Registry:
    """Loads the plugins once in a process: the installed ones, and files that were sent."""
    digests = tuple(sha256(source).hexdigest()[:16] for _, source in plugins)
    if digests not in _registries:
        files = []
        for digest, (name, source) in zip(digests, plugins, strict=True):
            path = folder / "plugins" / digest / name
            put_file(path, source)
            files.append(path)
        _registries[digests] = Registry(files)
    return _registries[digests]
