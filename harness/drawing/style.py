"""What figures share: colours, a grid of panels, files that are equal for equal figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Sheet:
    """What a figure is made for: a screen unless it says otherwise, or a column of a journal.

    Attributes:
        width: of the figure, in inches; as wide as what it shows unless given.
        title: whether the figure says itself what it shows; in a paper, a caption does.
    """

    width: float | None = None
    title: bool = True

    def abreast(self, panel: float, most: int) -> int:
        """Returns how many panels stand side by side.

        Args:
            panel: width that a panel needs, in inches.
            most: on a sheet of any width.
        """
        return most if self.width is None else max(1, min(most, int(self.width / panel + 0.25)))

    def entitle(self, figure: Figure, text: str) -> None:
        """Writes what the figure shows above it, if it is to say so."""
        if self.title:
            letters = TITLE_LETTERS_PER_INCH * float(figure.get_size_inches()[0])
            lines = (textwrap.fill(line, round(letters)) for line in text.splitlines())
            figure.suptitle("\n".join(lines), fontsize=9)


SCREEN = Sheet()
TITLE_LETTERS_PER_INCH = 15


def series_style(number: int) -> dict[str, Any]:
    """Colour and marker of a series; 56 differ."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    nothing: str = NOTHING,
    sheet: Sheet = SCREEN,
    **options: Any,
) -> tuple[Figure, list[list[Axes]]]:
    """Makes a figure with a grid of panels.

    Not pyplot's: a figure of our own leaves the caller's backend and open figures alone.

    Args:
        rows: of panels.
        columns: likewise.
        width: of a panel, in inches.
        height: likewise.
        nothing: what to say where there is no panel.
        sheet: whose width, if it has one, is shared out among the panels.
        options: of `Figure.subplots`, as `sharex`.

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
    size = (sheet.width or max(columns * width, 4.5), rows * height)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, [list(row) for row in grid]


def in_rows(number: int, columns: int = 4) -> tuple[int, int]:
    """Returns rows and columns of a grid for a number of panels, rows as equal as can be."""
    rows = math.ceil(number / columns)
    return rows, math.ceil(number / max(rows, 1))


def panels_in_rows(
    number: int,
    abreast: int,
    width: float,
    height: float,
    nothing: str = NOTHING,
    sheet: Sheet = SCREEN,
) -> tuple[Figure, list[Axes]]:
    """Makes a figure with a number of panels, row by row; places that are left over stay empty.

    Args:
        number: of panels.
        abreast: at most so many.
        width: of a panel, in inches.
        height: likewise.
        nothing: what to say where there is no panel.
        sheet: whose width, if it has one, is shared out among the panels.

    Raises:
        BenchmarkError: see `panels`.
    """
    figure, grid = panels(*in_rows(number, abreast), width, height, nothing, sheet)
    flat = [axes for row in grid for axes in row]
    for axes in flat[number:]:
        axes.set_visible(False)
    return figure, flat[:number]


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


def write_figure(
    figure: Figure, path: Path, sheet: Sheet = SCREEN, resolution: int = RESOLUTION
) -> Path:
    """Writes a figure, the same bytes for the same figure; its suffix is one of `FORMATS`.

    Args:
        figure: what to write.
        path: where.
        sheet: a width that it names is kept; else the figure is cut off around what it shows.
        resolution: of what is drawn in points, per inch.

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
            staging,
            dpi=resolution,
            bbox_inches=None if sheet.width else "tight",
            metadata=dates[path.suffix] or None,
        )
    return path
