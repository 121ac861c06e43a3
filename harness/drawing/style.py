"""What figures share: colours, a grid of panels, files that are equal for equal figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchmarkError
from harness.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Told apart with every kind of colour vision (Okabe & Ito, Color Universal Design, 2008); their
yellow, too light for lines on white, is left out."""

LOSS = "#D55E00"
"""The one colour of what went wrong."""

MARKERS = "os^DvP*X"
"""Colour is never alone: series differ in their markers too."""

QUIET = "0.6"
RESOLUTION = 200
FORMATS = (".png", ".svg", ".pdf")
FEW_DECADES = 0.6
"""A logarithmic axis that is shorter may hold none of 1, 2 and 5."""

NOTHING = "no cell with a result was chosen"
PANELS = 60
"""More would not be read."""


def series_style(number: int) -> dict[str, Any]:
    """Colour and marker of a series; 56 differ."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def panels(
    rows: int, columns: int, width: float, height: float, nothing: str = NOTHING
) -> tuple[Figure, list[list[Axes]]]:
    """Makes a figure with a grid of panels.

    Not pyplot's: a figure of our own leaves the caller's backend and open figures alone.

    Args:
        rows: of panels.
        columns: likewise.
        width: of a panel, in inches.
        height: likewise.
        nothing: what to say where there is no panel.

    Raises:
        BenchmarkError: there is none, or there are too many to be read.
    """
    from matplotlib.figure import Figure

    if rows * columns == 0:
        raise BenchmarkError(f"Nothing to draw: {nothing}.")
    if rows * columns > PANELS:
        raise BenchmarkError(
            f"{rows} × {columns} panels would not be read (at most {PANELS}). "
            "Choose fewer cells with --only, as --only transfer=scratch."
        )
    figure = Figure(figsize=(max(columns * width, 4.5), rows * height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, [list(row) for row in grid]


def in_rows(number: int, columns: int = 4) -> tuple[int, int]:
    """Returns rows and columns of a grid for a number of panels, rows as equal as can be."""
    rows = math.ceil(number / columns)
    return rows, math.ceil(number / max(rows, 1))


def plain_log_axis(axes: Axes, which: str) -> None:
    """Makes an axis logarithmic, with its numbers written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    decades = math.log10(high / low) if low > 0 else 9
    subs: Sequence[float] = (1,) if decades > 2.5 else (1, 2, 5)
    few = decades < FEW_DECADES
    axis.set_major_locator(MaxNLocator(4) if few else LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def show_as_written(figure: Figure) -> Figure:
    """Lets a figure show all its texts as they are; returns it.

    Names of others may hold dollar signs: matplotlib would set what is between two as mathematics,
    and stop where that is none.
    """
    from matplotlib.text import Text

    texts: list[Any] = figure.findobj(Text)
    for text in texts:
        text.set_parse_math(False)
    return figure


def write_figure(figure: Figure, path: Path) -> Path:
    """Writes a figure, the same bytes for the same figure; its suffix is one of `FORMATS`.

    Raises:
        BenchmarkError: another suffix.
        StoreError: the folder cannot be written.
    """
    import matplotlib

    if path.suffix not in FORMATS:
        raise BenchmarkError(f"{path}: figures are written as {', '.join(FORMATS)}.")
    show_as_written(figure)
    # without these, dates and random names of clip paths differ from call to call
    dates = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with replacing(path) as staging, matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(
            staging, dpi=RESOLUTION, bbox_inches="tight", metadata=dates[path.suffix] or None
        )
    return path
