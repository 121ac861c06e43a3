"""Keeps plugins from ending the command, and from printing into what it answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

STDOUT, STDERR = 1, 2
"""File descriptors."""

_reserved: list[TextIO] = []


@contextmanager
def hard_exits_refused() -> Iterator[None]:
    """Makes `os._exit` an error like `sys.exit`, which names the plugin, while the block runs.

    Else the command would end with the status that the plugin chose, and without a word. Processes
    that are forked here still end by it.
    """
    process, leave = os.getpid(), os._exit

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:
            leave(status)
        raise SystemExit(f"it called os._exit({status})")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = leave


@contextmanager
def stdout_reserved() -> Iterator[None]:
    """Keeps standard output for `answer_stream` while the block runs.

    Whatever else is printed, by plugins, their libraries and the processes started meanwhile, goes
    to standard error.
    """
    shown = sys.stdout
    shown.flush()
    kept = os.dup(STDOUT) if _is_stdout(shown) else None
    if kept is None:  # replaced within this process, as by a test
        _reserved.append(shown)
    else:
        os.dup2(STDERR, STDOUT)
        _reserved.append(os.fdopen(kept, "w", encoding=shown.encoding, errors="replace"))
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = shown
        answers = _reserved.pop()
        if kept is not None:
            os.dup2(kept, STDOUT)
            answers.close()


def answer_stream() -> TextIO:
    """Where the command's answer is printed."""
    return _reserved[-1] if _reserved else sys.stdout


def _is_stdout(stream: TextIO) -> bool:
    try:
        return stream.fileno() == STDOUT
    except (OSError, ValueError):
        return False
