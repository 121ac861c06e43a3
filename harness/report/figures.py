"""Figures of a leaderboard, from its pivot: heat map, gains, heads, learning curves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.drawing.style import (
    LOSS,
    NOTHING,
    QUIET,
    SCREEN,
    Sheet,
    panels,
    panels_in_rows,
    plain_log_axis,
    series_style,
)
from harness.errors import BenchmarkError
from harness.planning.labels import configuration_of, make_labels
from harness.planning.selectors import name_of
from harness.report.pivot import Key, Layout, Pivot, PivotEntry, is_baseline, pivot
from harness.report.tables import (
    TRAINED_ON,
    Wording,
    column_levels,
    direction,
    number_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from harness.plugin.metric import MetricSpec
    from harness.report.leaderboard import Leaderboard

Metrics = Mapping[str, "MetricSpec"]

CELL_INCHES = (0.95, 0.22)
INCHES_PER_LETTER = 0.065
"""Of the size in which names stand beside an axis."""
BOLD_INCHES_PER_LETTER = 0.068

LOG_FROM = 8
"""A heat map whose largest number is so many times its smallest has a logarithmic scale."""

LEARNING_INCHES = (3.4, 2.4)
"""A panel of learning curves."""

FOREST_INCHES = (6.4, 0.19)
"""Width of a forest plot, and height of a line."""

DODGE = 0.7
"""Share of the room of a category over which its series are spread."""


def metric_label(spec: MetricSpec) -> str:
    """Returns the label of an axis that shows a metric."""
    return f"{spec.title} ({spec.unit})" if spec.unit else spec.title


def _scored(table: Pivot) -> list[PivotEntry]:
    return [entry for entry in table.entries.values() if entry.state == "scored"]


def _one_metric(table: Pivot) -> MetricSpec:
    if len(table.metrics) > 1:
        raise BenchmarkError("A figure shows one metric: give --metric once.")
    return next(iter(table.metrics.values()))


def names_apart(entries: Sequence[PivotEntry], without: Sequence[str]) -> list[str]:
    """Returns what tells the configuration of each entry from the others.

    Args:
        entries: the entries.
        without: columns of cells that the figure shows in another way.
    """
    cells = [{**entry.cell, **dict.fromkeys(without, "")} for entry in entries]
    labels = make_labels(cells, {})
    return [labels[configuration_of(cell)] for cell in cells]


def wrapped(name: str, letters: int) -> str:
    """Breaks the name of a configuration into lines: before its settings, where it can be."""
    if len(name) <= letters:
        return name
    return textwrap.fill(name.replace("(", " ("), letters, break_long_words=False)


# --- heat map ---------------------------------------------------------------------------------


def draw_cells(
    leaderboard: Leaderboard, metrics: Metrics, layout: Layout, sheet: Sheet = SCREEN
) -> Figure:
    """Draws a table as a heat map: colour for the mean, the numbers written into the cells."""
    from matplotlib.figure import Figure

    table = pivot(leaderboard, metrics, layout)
    spec = _one_metric(table)
    means = np.array(
        [[entry.mean if entry else math.nan for entry in row] for _, row in table.lines()]
    )
    norm, colours = _scale(means, spec)
    lines = _heat_lines(table)
    letters = max(len(name) for name, row in lines if row is not None)
    width = (
        sheet.width or len(table.column_keys) * CELL_INCHES[0] + 1.2 + INCHES_PER_LETTER * letters
    )
    height = len(lines) * CELL_INCHES[1] + 1.0 + 0.2 * len(table.layout.columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    shown = np.full((len(lines), means.shape[1]), math.nan)
    shown[[place for place, (_, row) in enumerate(lines) if row is not None]] = means
    image = axes.imshow(shown, cmap=colours, norm=norm, aspect="auto")
    places = [place for place, (_, row) in enumerate(lines) if row is not None]
    for place, (_, entries) in zip(places, table.lines(), strict=True):
        for column, entry in enumerate(entries):
            _write_cell(axes, table, entry, (place, column), image)
    _name_cells(axes, table, lines)
    levels = f"; columns: {column_levels(table)}" if column_levels(table) else ""
    marked = any(entry.is_mostly_trained_on for entry in table.entries.values())
    marks = f"; {TRAINED_ON}: most test rows were trained on" if marked else ""
    sheet.entitle(figure, f"{table.title}\n{direction(spec)}{levels}{marks}")
    bar = figure.colorbar(image, ax=axes, location="bottom", pad=0.02, fraction=0.03, aspect=40)
    bar.set_label(metric_label(spec), fontsize=8)
    bar.ax.tick_params(labelsize=8)
    if norm is not None:
        plain_log_axis(bar.ax, "x")
    return figure


def _heat_lines(table: Pivot) -> list[tuple[str, int | None]]:
    """The lines of a heat map from top to bottom: a name, and its row of the table.

    What several rows have in common besides their last name has a line of its own above them.
    """
    lines: list[tuple[str, int | None]] = []
    above: Key = ()
    for row, (*common, name) in enumerate(table.row_keys):
        if common and tuple(common) != above:
            above = tuple(common)
            lines.append((", ".join(filter(None, common)), None))
        lines.append((name, row))
    return lines


def _scale(means: np.ndarray, spec: MetricSpec) -> tuple[Normalize | None, str]:
    """Dark is better. Cividis reads the same with every kind of colour vision, and in print."""
    from matplotlib.colors import LogNorm

    known = means[np.isfinite(means)]
    if not len(known):
        raise BenchmarkError(f"Nothing to draw: {NOTHING}.")
    low, high = float(known.min()), float(known.max())
    norm = LogNorm(low, high) if low > 0 and high / low > LOG_FROM else None
    return norm, "cividis_r" if spec.higher_is_better else "cividis"


def _write_cell(
    axes: Axes, table: Pivot, entry: PivotEntry | None, place: tuple[int, int], image: AxesImage
) -> None:
    row, column = place
    text, colour = number_text(entry, Wording(), table.runs), QUIET
    if entry is not None and entry.state == "scored":
        text += f" {TRAINED_ON}" if entry.is_mostly_trained_on else ""
        red, green, blue, _ = image.to_rgba(np.array(entry.mean))
        colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "black"
    axes.text(
        column,
        row,
        text,
        ha="center",
        va="center",
        fontsize=7,
        color=colour,
        weight="bold" if entry is not None and entry.best else "normal",
    )


def _name_cells(axes: Axes, table: Pivot, lines: Sequence[tuple[str, int | None]]) -> None:
    from matplotlib.transforms import blended_transform_factory

    axes.set_xticks(range(len(table.column_keys)), [key[-1] for key in table.column_keys])
    axes.xaxis.tick_top()
    _name_groups(axes, table)
    axes.set_yticks(range(len(lines)), ["" if row is None else name for name, row in lines])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    across = blended_transform_factory(figure.transFigure, axes.transData)
    room = float(figure.get_size_inches()[0]) / BOLD_INCHES_PER_LETTER
    for place, (name, row) in enumerate(lines):
        if row is None:
            head = axes.text(0.01, place + 0.1, name, transform=across, va="center", weight="bold")
            head.set(in_layout=False, fontsize=min(7.5, 7.5 * room / len(name)))


def _name_groups(axes: Axes, table: Pivot) -> None:
    """Writes the outer column heads once, over the columns that share them."""
    levels = len(table.layout.columns)
    for level in range(levels - 1):
        groups: dict[Key, list[int]] = {}
        for place, key in enumerate(table.column_keys):
            groups.setdefault(key[: level + 1], []).append(place)
        height = 20 + 14 * (levels - 2 - level)
        for key, places in groups.items():
            axes.annotate(
                key[-1],
                ((places[0] + places[-1]) / 2, 1),
                (0, height),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
            if places[0]:
                axes.axvline(places[0] - 0.5, color="white", linewidth=3)


# --- gains ------------------------------------------------------------------------------------


def draw_gains(
    leaderboard: Leaderboard, metrics: Metrics, layout: Layout, sheet: Sheet = SCREEN
) -> Figure:
    """Draws the gains over scratch with their intervals, all on one axis: a forest plot."""
    table = pivot(leaderboard, metrics, layout)
    spec = _one_metric(table)
    entries = [entry for entry in _scored(table) if entry.gain is not None]
    groups = _by_datasets(entries)
    letters = round(0.45 * (sheet.width or FOREST_INCHES[0]) / INCHES_PER_LETTER)
    lines = [
        (place, entry, wrapped(entry.label, letters) if entry else " → ".join(place))
        for place, group in groups.items()
        for entry in (None, *group)
    ]
    rooms = [1 + 0.65 * text.count("\n") for _, _, text in lines]
    ends = np.cumsum(rooms)
    height = 1.0 + FOREST_INCHES[1] * float(sum(rooms))
    nothing = "no chosen cell has one of `scratch`, with the same runs, to be compared with"
    figure, grid = panels(min(len(lines), 1), 1, FOREST_INCHES[0], height, nothing, sheet)
    axes, middles = grid[0][0], ends - np.array(rooms) / 2
    for (_, entry, _), middle in zip(lines, middles, strict=True):
        if entry:
            _draw_gain(axes, entry, float(middle))
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.set_yticks(middles, [text for _, _, text in lines])
    axes.set_ylim(ends[-1], 0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label, (_, entry, text) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set(weight="normal" if entry else "bold", fontsize=7 if "\n" in text else 8)
    figure.supxlabel(f"gain over scratch in {metric_label(spec)}; positive is better", fontsize=8)
    number, family = table.family[1][spec.name], table.family[0]
    sheet.entitle(
        figure,
        f"{table.title}\n95 % interval of the paired difference; ▽ negative transfer; filled: "
        f"stands among the leaderboard's {number} {family} (Holm)",
    )
    return figure


def _draw_gain(axes: Axes, entry: PivotEntry, place: float) -> None:
    gain = entry.gain
    if gain is None:
        return
    colour = LOSS if gain.negative else "#0072B2" if gain.low > 0 else "0.35"
    axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=1.5)
    axes.plot(
        gain.mean,
        place,
        marker="v" if gain.negative else "o",
        markersize=5,
        color=colour,
        markerfacecolor=colour if entry.stands else "white",
    )


def _by_datasets(entries: Sequence[PivotEntry]) -> dict[tuple[str, str], list[PivotEntry]]:
    groups: dict[tuple[str, str], list[PivotEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.cell["train_on"], entry.cell["test_on"]), []).append(entry)
    return groups


# --- heads ------------------------------------------------------------------------------------


def draw_heads(
    leaderboard: Leaderboard, metrics: Metrics, layout: Layout, sheet: Sheet = SCREEN
) -> Figure:
    """Draws a metric per architecture of the head: mean, interval and every run.

    A panel per pair of datasets; series are the strategies.
    """
    table = pivot(leaderboard, metrics, layout)
    spec = _one_metric(table)
    entries = [entry for entry in _scored(table) if not is_baseline(entry)]
    groups = _by_datasets(entries)
    categories = list(dict.fromkeys(entry.cell["head"] for entry in entries))
    apart = names_apart(entries, ("head",))
    names = dict(zip((entry.name for entry in entries), apart, strict=True))
    series = list(dict.fromkeys(apart))
    width = 1.0 + len(categories) * max(0.9, 0.13 * len(series))
    abreast = sheet.abreast(width, 2)
    nothing = "no chosen cell is of a strategy with a result"
    figure, places = panels_in_rows(len(groups), abreast, width, 2.8, nothing, sheet)
    for axes, ((train_on, test_on), group) in zip(places, groups.items(), strict=True):
        for entry in group:
            number = series.index(names[entry.name])
            place = categories.index(entry.cell["head"]) + _dodge(number, len(series))
            _draw_runs(axes, leaderboard, entry, place, number, layout.subset)
        axes.set_xticks(range(len(categories)), [wrapped(name, 22) for name in categories])
        axes.set_xlim(-0.6, len(categories) - 0.4)
        axes.set_title(f"{train_on} → {test_on}", fontsize=9)
        heights = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
        if _is_wide(np.concatenate(heights).tolist()):
            plain_log_axis(axes, "y")
    _legend(figure, series)
    figure.supylabel(metric_label(spec), fontsize=9)
    sheet.entitle(
        figure, f"{table.title}\nmean and 95 % interval over runs, every run; {direction(spec)}"
    )
    return figure


def _is_wide(heights: Sequence[float]) -> bool:
    """Whether what stands so high is better read on a logarithmic axis."""
    return min(heights) > 0 and max(heights) / min(heights) > LOG_FROM


def _dodge(number: int, of: int) -> float:
    return 0.0 if of == 1 else DODGE * (number / (of - 1) - 0.5)


def _draw_runs(
    axes: Axes, leaderboard: Leaderboard, entry: PivotEntry, place: float, number: int, subset: str
) -> None:
    runs = leaderboard.runs_of(entry.name, subset)[entry.metric]
    style = series_style(number)
    axes.plot([place] * len(runs), runs, ".", color=style["color"], markersize=3, alpha=0.45)
    if not math.isnan(entry.low):
        axes.plot([place, place], [entry.low, entry.high], color=style["color"], linewidth=1.5)
    axes.plot(place, entry.mean, markersize=6, linestyle="", **style)


def _legend(figure: Figure, series: Sequence[str]) -> None:
    """Says below the panels which series is which; nothing where there is only one."""
    from matplotlib.lines import Line2D

    if len(series) < 2:
        return
    handles = [
        Line2D([], [], linestyle="", label=name, **series_style(number))
        for number, name in enumerate(series)
    ]
    figure.legend(handles=handles, loc="outside lower left", fontsize=8, frameon=False)


# --- learning curves --------------------------------------------------------------------------


Points = list[tuple[float, PivotEntry]]


def draw_learning(
    leaderboards: Sequence[Leaderboard],
    metrics: Metrics,
    layout: Layout,
    sheet: Sheet = SCREEN,
) -> Figure:
    """Draws a metric against the number of training rows, a panel per training and test set.

    A line joins the cells of one configuration that were trained on parts of one dataset (those of
    several leaderboards, or of one protocol with several settings, as `keep` of `strict`) and
    tested on the same one. Where there are none, a dotted line joins
    those of several training sets, whose sizes are not all that tells them apart.

    Raises:
        BenchmarkError: no configuration has cells of two sizes.
    """
    spec = metrics[(layout.metrics or leaderboards[0].metrics[:1])[0]]
    found = _sized(leaderboards, metrics, layout)
    lines = _lines(found, across=False) or _lines(found, across=True)
    if not lines:
        raise BenchmarkError(
            "No learning curve: no configuration was trained on sets of two sizes. Give "
            "leaderboards that were, as of a benchmark with protocols = ['strict', { name = "
            "'strict', keep = 0.5 }], or the dry runs of one with several --limit."
        )
    facets = list(dict.fromkeys(facet for facet, _ in lines))
    series = list(dict.fromkeys(name for _, name in lines))
    abreast = sheet.abreast(LEARNING_INCHES[0], 2)
    figure, places = panels_in_rows(len(facets), abreast, *LEARNING_INCHES, sheet=sheet)
    heights: dict[str, list[float]] = {}
    for (facet, _), points in lines.items():
        heights.setdefault(facet, []).extend(entry.mean for _, entry in points)
    one_is_wide = any(map(_is_wide, heights.values()))
    for (facet, name), points in lines.items():
        _draw_line(places[facets.index(facet)], points, series.index(name))
    for axes, facet in zip(places, facets, strict=True):
        axes.set_title(facet, fontsize=9)
        plain_log_axis(axes, "x")
        if one_is_wide:  # then all are, to be read in the same way
            plain_log_axis(axes, "y")
        _name_sizes(axes, [line for (own, _), line in lines.items() if own == facet])
    _legend(figure, series)
    figure.supylabel(metric_label(spec), fontsize=9)
    sheet.entitle(
        figure,
        f"{leaderboards[0].title or leaderboards[0].name}\n"
        f"{direction(spec)}; mean and 95 % interval over runs{_cut_rows(lines)}",
    )
    return figure


def _sized(
    leaderboards: Sequence[Leaderboard], metrics: Metrics, layout: Layout
) -> list[tuple[float, PivotEntry]]:
    """All scored entries with their training rows, mean over runs."""
    whole = replace(layout, rows=(), columns=("test_on",))
    return [
        (float(leaderboard.runs_of(entry.name, layout.subset)["train_rows"].mean()), entry)
        for leaderboard in leaderboards
        for entry in _scored(pivot(leaderboard, metrics, whole))
    ]


def _lines(found: Points, across: bool) -> dict[tuple[str, str], Points]:
    """Points of two sizes and more, by panel and configuration.

    Args:
        found: all points.
        across: whether a line joins training sets; each has panels of its own otherwise.
    """
    protocols = {name_of(entry.cell["protocol"]) for _, entry in found}
    hidden = ["protocol"] if len(protocols) == 1 else []  # its settings say how much is kept
    names = names_apart([entry for _, entry in found], hidden)
    lines: dict[tuple[str, str], Points] = {}
    for (size, entry), name in zip(found, names, strict=True):
        train_on, test_on = entry.cell["train_on"], entry.cell["test_on"]
        panel = f"tested on {test_on}" if across else f"{train_on} → {test_on}"
        lines.setdefault((panel, name), []).append((size, entry))
    return {
        key: sorted(points, key=lambda point: point[0])
        for key, points in lines.items()
        if len({size for size, _ in points}) > 1
    }


def _draw_line(axes: Axes, points: Points, number: int) -> None:
    style = series_style(number)
    sizes, entries = zip(*points, strict=True)
    across = len({entry.cell["train_on"] for entry in entries}) > 1
    axes.plot(
        sizes,
        [entry.mean for entry in entries],
        markersize=5,
        linewidth=1,
        linestyle=":" if across else "-",
        **style,
    )
    for size, entry in points:
        if not math.isnan(entry.low):
            axes.plot([size, size], [entry.low, entry.high], color=style["color"], linewidth=1)


def _name_sizes(axes: Axes, lines: Sequence[Points]) -> None:
    """Puts a tick at every size, with its training set where a line joins several."""
    sizes: dict[str, str] = {}
    for size, entry in (point for line in lines for point in line):
        sizes.setdefault(f"{size:.0f}", entry.cell["train_on"])
    several = any(len({entry.cell["train_on"] for _, entry in line}) > 1 for line in lines)
    axes.set_xticks(
        [float(size) for size in sizes],
        [f"{size}\n{train_on}" if several else size for size, train_on in sizes.items()],
    )
    axes.minorticks_off()
    axes.set_xlabel("training rows", fontsize=8)


def _cut_rows(lines: Mapping[tuple[str, str], Points]) -> str:
    """Says where test rows were cut along with the training rows, as dry runs do."""
    sizes = ({round(entry.n) for _, entry in points} for points in lines.values())
    return "\ntest rows per run differ along a line" if any(len(n) > 1 for n in sizes) else ""
