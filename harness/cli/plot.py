"""`harness plot`: figures of a leaderboard, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import (
    ColumnsOption,
    OnlyOption,
    OutOption,
    PluginOption,
    RowsOption,
    SubsetOption,
    columns_of,
    values_of,
)


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="heatmap, parity, loss, heads, learning or gain.",
            show_default=False,
        ),
    ],
    benchmarks: Annotated[
        list[str],
        typer.Argument(
            metavar="BENCHMARK...",
            help="A benchmark.toml, its folder, or a name; several for learning.",
            show_default=False,
        ),
    ],
    out: OutOption = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric to show; the benchmark's first unless given.")
    ] = None,
    rows: RowsOption = "",
    columns: ColumnsOption = "test-on",
    only: OnlyOption = None,
    subset: SubsetOption = "all",
    to: Annotated[
        list[Path] | None,
        typer.Option(
            "--to",
            "-o",
            help="File to write, .png, .svg or .pdf; may be repeated. figures/FIGURE.png beside "
            "the results unless given.",
        ),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Draw a figure of results and write it to a file.

    heatmap: a table in colours. parity: predicted against true values. loss: losses of every run
    and their mean, for all stages. heads: a metric per architecture of the head. learning: a metric
    against the number of training rows. gain: gain over scratch, with intervals.
    """
    from harness import api
    from harness.drawing.style import write_figure
    from harness.files import make_folder
    from harness.report.pivot import Layout

    layout = Layout(
        columns_of(rows),
        columns_of(columns),
        (metric,) if metric else (),
        values_of(only),
        subset,
    )
    registry = api.registry_of(*benchmarks, plugins=plugin or ())
    figure = api.draw(kind, benchmarks, layout, registry, out)
    folder = (out or api.results_folder(benchmarks[0])) / "figures"
    if not to:
        make_folder(folder)
    for path in to or [folder / f"{kind}.png"]:
        print(f"Written: {write_figure(figure, path)}")
