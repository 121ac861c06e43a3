"""What a try does in a process of its own: carries out a command, within limits, and may die.

The processes are forked from one that has everything loaded, so that a try costs what its command
does and no more. It is the real command that they carry out: `harness.cli.main`.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PRELOADED = [
    "harness.api",
    "harness.apps.imports.importing",
    "harness.apps.predict.predicting",
    "harness.apps.predict.scan_ranking",
    "harness.apps.site.build",
    "harness.apps.submissions.exchange",
    "harness.cli",
    "harness.training.mending",
    "harness.training.plan_executor",
    "harness.tuning.tuner",
    "matplotlib.figure",
    "optuna",
    "pandas",
    "pyarrow.parquet",
    "pymatgen.core",
    "pymatgen.io.cif",
    "scipy.stats",
]
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
"""Audit events of what changes a file system, besides opening a file to write."""

GIB = 2**30


@dataclass(frozen=True)
class Order:
    """A command to carry out.

    Attributes:
        arguments: of `harness`.
        folder: changes below it are counted.
        output: the file that standard output and errors go to; beside it, as `.changes`, the number
            of changes.
        environment: variables to set.
        dies_at: kills the process group, as kill -9 does, before that change; 0 for never.
        cpu_seconds, data_bytes: what the process may use.
    """

    arguments: tuple[str, ...]
    folder: Path
    output: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    dies_at: int = 0
    cpu_seconds: int = 60
    data_bytes: int = 3 * GIB


def carry_out(order: Order) -> None:
    """Carries out a command in this process, which ends with its exit status."""
    os.setpgid(0, 0)
    output = os.open(order.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(output, stream)
    os.environ.update(order.environment)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_seconds, order.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (order.data_bytes, order.data_bytes))
    changes = _count_changes(order)
    sys.argv = ["harness", *order.arguments]
    from harness import cli

    try:
        cli.main()
    finally:
        order.output.with_suffix(".changes").write_text(str(len(changes)))


def _count_changes(order: Order) -> list[str]:
    """Has the interpreter tell of every change of the file system; returns what will hold them."""
    seen: list[str] = []
    below = str(order.folder)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if not writes:
                return
        elif event not in CHANGES:
            return
        if str(arguments[0]).startswith(below) and str(arguments[0]) != str(order.output):
            seen.append(event)
            if len(seen) == order.dies_at:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hear)
    return seen
