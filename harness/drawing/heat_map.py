"""A matrix of shares as a picture: colour for the share, the numbers written into the squares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.drawing.style import write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COLOURS = "Blues"
"""One hue from white to dark: the same order with every kind of colour vision, and in print."""

SQUARE_INCHES = 0.9
LEAST_INCHES = 2.7
"""A side shorter than this leaves no room for the names of the axes."""

BAR_INCHES = 0.18
SLANTED_FROM_LETTERS = 9
"""Names longer than this do not fit side by side below the squares."""

WHITE_LETTERS_FROM = 0.65
"""Share from which the colour is dark enough for white letters."""

GRID = "0.85"
QUIET = "0.6"


def draw_heatmap(
    shares: NDArray[np.float64],
    counts: NDArray[np.int64],
    names: Sequence[str],
    *,
    title: str,
    rows: str,
    columns: str,
    note: str = "",
) -> Figure:
    """Draws a square matrix of shares.

    Args:
        shares: names × names, from 0 to 1.
        counts: names × names, written below the shares.
        names: labels of both axes.
        title: printed above.
        rows: what the vertical axis holds.
        columns: what the horizontal axis holds.
        note: printed below.
    """
    from matplotlib.figure import Figure

    side = max(len(names) * SQUARE_INCHES, LEAST_INCHES)
    # Not pyplot's: a figure of our own leaves the caller's backend and open figures alone. The
    # squares fill it; names, title and bar lie outside, where `save_figure` does not cut them off.
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    bar_axes = figure.add_axes((1 + 1.5 * BAR_INCHES / side, 0, BAR_INCHES / side, 1))
    image = axes.imshow(shares, cmap=COLOURS, vmin=0, vmax=1)
    _label_axes(axes, names)
    axes.set_title(title, fontsize=12, pad=12)
    axes.set_ylabel(rows, labelpad=8)
    axes.set_xlabel(f"{columns}\n\n{note}" if note else columns, labelpad=8)
    for (row, column), share in np.ndenumerate(shares):
        count = int(counts[row, column])
        colour = "white" if share >= WHITE_LETTERS_FROM else "black" if count else QUIET
        text = f"{format_share(share)}\n{count}" if count else "0"
        axes.text(column, row, text, ha="center", va="center", linespacing=1.4, color=colour)
    bar = figure.colorbar(image, cax=bar_axes, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0 %", "25 %", "50 %", "75 %", "100 %"])
    bar.outline.set_edgecolor(GRID)
    return figure


def format_share(share: float) -> str:
    """Returns a share in percent; one that is small but not nothing is not shown as nothing."""
    return "< 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def _label_axes(axes: Axes, names: Sequence[str]) -> None:
    places = range(len(names))
    axes.set_yticks(places, names)
    slanted = max(map(len, names)) > SLANTED_FROM_LETTERS
    axes.set_xticks(
        places,
        names,
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )
    axes.spines[:].set_color(GRID)
    between = np.arange(len(names) - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=1)
    axes.tick_params(which="both", length=0)


def save_figure(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Writes a figure as PNG and SVG, the same bytes for the same figure.

    Args:
        figure: what to write.
        stem: path without extension.

    Returns:
        The two paths.
    """
    png, svg = (write_figure(figure, stem.with_suffix(suffix)) for suffix in (".png", ".svg"))
    return png, svg
