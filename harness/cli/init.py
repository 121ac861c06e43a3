"""`harness init`: a benchmark file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import PluginOption
from harness.cli.output import print_next, say


def init(
    name: Annotated[str, typer.Argument(help="Of the leaderboard.", show_default=False)],
    dataset: Annotated[
        list[str],
        typer.Option(
            "--dataset",
            "-d",
            metavar="NAME",
            help="To train and test on; may be repeated. `harness datasets list` names them.",
        ),
    ],
    folder: Annotated[
        Path, typer.Option("--dir", metavar="FOLDER", help="Where to make the folder NAME.")
    ] = Path("leaderboards"),
    plugin: PluginOption = None,
) -> None:
    """Write a commented benchmark file that runs as it is.

    Examples:
        harness init mine --dataset Experiment
        harness init mine -d Dataset1 -d Dataset2
    """
    from harness.apps.scaffold.benchmark_file import write_benchmark
    from harness.registry.registry import Registry

    path = write_benchmark(name, dataset, Registry(plugin or ()), folder)
    known = name if folder == Path("leaderboards") else str(path.parent)
    say(f"Written: {path}")
    print_next(
        [
            (f"harness run {known} --plan", "what it would do, and how long that takes"),
            (f"harness run {known}", "do it"),
        ]
    )
