"""`harness freeze`: the results of a complete leaderboard in few files."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.options import OutOption


def freeze(
    benchmarks: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK...",
            help="Benchmarks that were run, or folders with results.",
            show_default=False,
        ),
    ],
    out: OutOption = None,
) -> None:
    """Pack the results of complete leaderboards into few files, losing nothing.

    Every command reads them as before, and a run that goes on adds to them. Weights stay where
    they are.

    Examples:
        harness freeze mine
        harness freeze leaderboards/*
    """
    from harness import api
    from harness.errors import BenchmarkError

    if out is not None and len(benchmarks) > 1:
        raise BenchmarkError("--results names one folder: freeze one benchmark at a time.")
    for benchmark in benchmarks:
        done = api.freeze(benchmark, out=out)
        print(
            f"{done.folder}: {done.before} files are {done.after} now, {done.bytes / 1e6:.1f} MB."
        )
