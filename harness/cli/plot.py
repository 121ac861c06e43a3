"""`harness plot`: figures of a leaderboard, as files."""

from __future__ import annotations

import re
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
from harness.errors import BenchmarkError


def plot(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="heatmap, parity, loss, heads, learning, gain or cost.",
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
        str | None,
        typer.Option(metavar="NAME", help="Metric to show; the benchmark's first unless given."),
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
            metavar="FILE",
            help="File to write, .png, .svg or .pdf; may be repeated. figures/FIGURE.png beside "
            "the results unless given.",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH",
            help="Width of the figure, as 3.4in or 86mm for a column of a journal.",
        ),
    ] = None,
    dpi: Annotated[
        int, typer.Option(min=50, max=1200, help="Points per inch of what is no vector.")
    ] = 200,
    title: Annotated[
        bool, typer.Option(help="Say in the figure what it shows; or leave that to a caption.")
    ] = True,
    plugin: PluginOption = None,
) -> None:
    """Draw a figure of results and write it to a file.

    heatmap: a table in colours. parity: predicted against true values, of the best cell of each
    test set unless cells are chosen. loss: losses of every run and their mean, for all stages.
    heads: a metric per architecture of the head. learning: a metric against the number of training
    rows. gain: gains over scratch with intervals, a forest plot. cost: a metric against seconds,
    as `harness cost` has measured them, with the Pareto front.

    Examples:
        harness plot parity strict
        harness plot gain strict -o gain.pdf
    """
    from harness import api
    from harness.drawing.style import Sheet, write_figure
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
    sheet = Sheet(None if width is None else inches_of(width), title)
    figure = api.draw(kind, benchmarks, layout, registry, out, sheet)
    folder = (out or api.results_folder(benchmarks[0])) / "figures"
    if not to:
        make_folder(folder)
    for path in to or [folder / f"{kind}.png"]:
        print(f"Written: {write_figure(figure, path, sheet, dpi)}")


INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4}
NARROWEST, WIDEST = 2.0, 40.0
"""Inches."""


def inches_of(length: str) -> float:
    """Returns a length in inches.

    Raises:
        BenchmarkError: it is none, or no figure is so wide.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(in|cm|mm)", length.strip())
    inches = float(found[1]) * INCHES[found[2]] if found else 0.0
    if not NARROWEST <= inches <= WIDEST:
        raise BenchmarkError(
            f"--width {length!r}: expected a length with its unit, as 3.4in, 8.6cm or 86mm, "
            f"from {NARROWEST:g} to {WIDEST:g} inches."
        )
    return inches
