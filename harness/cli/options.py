"""Options that several commands share."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.plugin_guard import stdout_reserved
from harness.errors import BenchmarkError

if TYPE_CHECKING:
    from harness.plugin.executor import ExecutorRequest

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

FAILED = 3
"""Exit status of a run that has left failed cells."""


def complete_benchmark(incomplete: str) -> list[str]:
    """Returns the leaderboards here whose names begin so, for a shell that completes them."""
    files = Path("leaderboards").glob(f"{glob.escape(incomplete)}*/benchmark.toml")
    return sorted(path.parent.name for path in files)


BenchmarkArgument = Annotated[
    str,
    typer.Argument(
        metavar="BENCHMARK",
        autocompletion=complete_benchmark,
        help="A benchmark.toml, its folder, or a name (quickstart).",
        show_default=False,
    ),
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="A Python file to load as a plugin; may be repeated."
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="Folder with datasets, <name>.jsonl.gz; others in $HARNESS_DATA.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="Folder with published weights; others in $HARNESS_WEIGHTS.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        "--out",
        metavar="FOLDER",
        help="Where results lie; beside the benchmark file unless given.",
    ),
]
StrictDataOption = Annotated[
    bool, typer.Option("--strict-data", help="Refuse datasets with unusable rows.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Dry run: at most that many rows per dataset.")
]
JobsOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that share the work; one per CPU core.")
]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="NAME",
        help="What carries out the work: local (processes of this machine), or dask.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Of an executor that runs already, as tcp://host:8786."),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Workers that the executor is to start.")
]
ExecutorFileOption = Annotated[
    Path | None,
    typer.Option(
        "--executor-file",
        exists=True,
        dir_okay=False,
        help="A file with a table [executor]; see `harness docs clusters`.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, as training.epochs=10; may be repeated."
    ),
]


def _reserve_stdout(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        context.with_resource(stdout_reserved())
    return wanted


JsonOption = Annotated[
    bool, typer.Option("--json", callback=_reserve_stdout, help="Print JSON, for scripts.")
]
BundlesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bundle",
        "-b",
        metavar="[NAME=]FOLDER",
        help="A bundle: what `harness export` wrote; several make one table. The default one "
        "unless given, see `harness bundle show`.",
        show_default=False,
    ),
]
PropertyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--property",
        metavar="NAME",
        help="Refuse bundles of other properties than this one, as band-gap; may be repeated.",
    ),
]
LevelOption = Annotated[
    float | None,
    typer.Option(help="Probability that the interval holds the value; 0.9 unless given."),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="To predict on: cpu, cuda or auto.")
]
RowsOption = Annotated[
    str,
    typer.Option(
        metavar="COLUMNS", help="Columns of the cells that make the row head, as transfer,train-on."
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        metavar="COLUMNS", help="Columns of the cells that make the column heads, as test-on."
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Show only cells with column=value, as transfer=scratch; a name alone, as two-stage, "
        "means all of its settings; may be repeated.",
    ),
]
SubsetOption = Annotated[
    str, typer.Option(help="Which test rows count: all, or overlap-free.", metavar="ROWS")
]


def executor_request(
    name: str | None, scheduler: str | None, workers: int | None, file: Path | None
) -> ExecutorRequest | None:
    """Reads what the options ask for; the command line goes before the file.

    Raises:
        ExecutorError: the file cannot be used, or options are given and no executor.
    """
    from dataclasses import replace

    from harness.errors import ExecutorError
    from harness.plugin.executor import ExecutorRequest
    from harness.remote.executor_session import read_request

    given = {"name": name, "scheduler": scheduler, "workers": workers}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if file is not None:
        return replace(read_request(file), **changes)
    if changes and name is None:
        raise ExecutorError("--scheduler and --workers are of an executor: add --executor dask.")
    return ExecutorRequest(**changes) if changes else None


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def columns_of(text: str) -> tuple[str, ...]:
    """Reads names of columns, as in `transfer,train-on`."""
    return tuple(part.strip().replace("-", "_") for part in text.split(",") if part.strip())


def values_of(only: Sequence[str] | None) -> dict[str, list[str]]:
    """Reads `column=value` texts; several values of one column are alternatives.

    Raises:
        BenchmarkError: a text is something else.
    """
    values: dict[str, list[str]] = {}
    for text in only or ():
        column, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not column:
            raise BenchmarkError(f"--only {text!r}: expected column=value, as transfer=scratch.")
        values.setdefault(column.replace("-", "_"), []).append(value)
    return values
