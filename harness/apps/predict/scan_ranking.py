"""What a scan is for: the structures whose values are low, and a picture of all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.apps.predict.prediction_table import BundleColumns
from harness.apps.predict.scanner import read_batches
from harness.drawing.style import in_rows, plain_log_axis

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats

POINTS = 5000
"""So many structures are drawn as points; more, as a density."""

BINS = 240
SAMPLED = 20_000
"""Of at most so many values, taken evenly, are the percentiles that an axis is laid out by."""

BULK = (0.01, 0.99)
"""Between these lie nearly all values. One that is farther from them than they are from each other
is drawn at the edge: one prediction that went to infinity hides no other."""

PANELS_ABREAST = 3
HEAD_ROOM = 0.15
"""Of the height of linear axes, for the legend; on logarithmic ones a corner is free."""

INK = "#1f4e79"
WARNED = "#d98b2b"
COLOURS = "Blues"


def shown_columns(layout: Sequence[BundleColumns]) -> list[str]:
    """Names of the columns of a table that candidates are shown with."""
    names = ["id", "formula"]
    for one in layout:
        is_log = one.spec.is_log
        ratio, score = (["std_over_mean"], ["max_std_over_mean"]) if is_log else ([], [])
        own = [f"{one.spec.column}_mean", f"{one.spec.column}_std", *ratio, "low", "high"]
        own += [*score, "in_training", "warnings", *(() if one.alone else ("reason",))]
        names += [one.column(name) for name in own]
    return names


def find_candidates(
    table: Path,
    layout: Sequence[BundleColumns],
    most: Mapping[str, float],
    limit: int,
    sort_by: BundleColumns | None = None,
) -> tuple[list[dict[str, Any]], int]:
    """Picks the structures whose values are predicted to be low.

    Args:
        table: of a scan.
        layout: of the table.
        most: by the key of a bundle, the highest mean, in its property's unit.
        limit: how many to return.
        sort_by: the bundle whose lowest means come first; else in the order of the source.

    Returns:
        Rows with the columns `shown_columns`, and how many there are in all.
    """
    number = count()
    columns, total = shown_columns(layout), 0
    bounds = {one.of_property("mean"): most[one.key] for one in layout if one.key in most}
    first = None if sort_by is None else sort_by.of_property("mean")
    if first is not None:
        bounds.setdefault(first, np.inf)

    def matching() -> Iterator[tuple[float, int, dict[str, Any]]]:
        nonlocal total
        for batch in read_batches(table, columns):
            low = np.ones(len(batch), dtype=bool)
            for column, bound in bounds.items():
                low &= _numbers(batch, column) <= bound
            for place in np.flatnonzero(low).tolist():
                total += 1
                if total <= limit or first is not None:
                    row = batch.slice(place, 1).to_pylist()[0]
                    yield 0.0 if first is None else row[first], next(number), row

    if first is not None:
        found = heapq.nsmallest(limit, matching())
    else:
        rows = matching()
        found = list(islice(rows, limit))
        for _ in rows:
            pass
    return [row for _, _, row in found], total


def _numbers(batch: pa.RecordBatch, column: str) -> Floats:
    """A column of a table, NaN where it is empty."""
    return np.asarray(batch[column].to_numpy(zero_copy_only=False), dtype=np.float64)


# --- the picture ------------------------------------------------------------------------------


def draw_scan(
    table: Path,
    title: str,
    layout: Sequence[BundleColumns],
    most: Mapping[str, float] | None = None,
) -> Figure:
    """Draws how far the runs disagree against what they predict, bundle by bundle.

    On a logarithmic scale that is std/mean against mean, both axes logarithmic; on a linear one,
    std against mean, both linear. In bounded memory.

    Args:
        table: of a scan.
        title: printed above.
        layout: of the table.
        most: by the key of a bundle, a value that is drawn as a line.
    """
    from matplotlib.figure import Figure

    rows, columns = in_rows(len(layout), PANELS_ABREAST)
    figure = Figure(figsize=(7.2 * columns, 5.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, one in zip(grid, layout, strict=False):
        _draw_panel(figure, axes, table, one, (most or {}).get(one.key))
    for axes in grid[len(layout) :]:
        axes.set_axis_off()
    if len(layout) == 1:
        grid[0].set_title(title)
    else:
        figure.suptitle(title)
        for axes, one in zip(grid, layout, strict=False):
            axes.set_title(one.name, fontsize="medium")
    return figure


def _draw_panel(
    figure: Figure, axes: Axes, table: Path, one: BundleColumns, bound: float | None
) -> None:
    spec, scale = one.spec, "log" if one.spec.is_log else "linear"
    axes.set(xscale=scale, yscale=scale)
    axes.set_xlabel(f"predicted {spec.quantity}: mean over the ensemble")
    unit = f", {spec.unit}" if spec.unit else ""
    axes.set_ylabel(f"std{' / mean' if spec.is_log else unit} over the ensemble")
    found = _gather(table, _Across(one, "mean"), _Across(one, "spread"))
    few = int(found.density.sum()) <= POINTS
    if few:
        _draw_points(axes, found)
    else:
        _draw_density(figure, axes, found, log=spec.is_log)
    if bound is not None and (bound > 0 or not spec.is_log):
        _draw_bound(axes, one, bound)
    if few:
        if not spec.is_log:
            bottom, top = axes.get_ylim()
            axes.set_ylim(bottom, top + HEAD_ROOM * (top - bottom))
        axes.legend(frameon=False, loc=_corner(axes, one, bound))
    if spec.is_log:
        for axis in "xy":
            plain_log_axis(axes, axis)
    axes.grid(which="major", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_points(axes: Axes, found: _Gathered) -> None:
    for own, colour, label in (
        (found.applicable, INK, "applicable"),
        (~found.applicable, WARNED, "warned"),
    ):
        x, y = found.points[:, own]
        points = axes.scatter(x, y, s=9, color=colour, alpha=0.6)
        points.set(linewidth=0, label=f"{label} ({own.sum()})")


def _draw_bound(axes: Axes, one: BundleColumns, bound: float) -> None:
    """Draws the highest value that is asked for, with some room on both sides of it."""
    left, right = axes.get_xlim()
    if one.spec.is_log:
        axes.set_xlim(min(left, 0.7 * bound), max(right, 2 * bound))
    else:
        room = 0.05 * (max(right, bound) - min(left, bound))
        axes.set_xlim(min(left, bound - room), max(right, bound + 3 * room))
    axes.axvline(bound, color="0.35", linewidth=1, linestyle="--")
    axes.annotate(
        f" {bound:g} {one.spec.unit}".rstrip(),
        (bound, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, -4),
        textcoords="offset points",
        va="top",
        color="0.35",
    )


def _corner(
    axes: Axes, one: BundleColumns, bound: float | None
) -> Literal["lower right", "upper right", "upper left"]:
    """Where few points lie, and not the words at the bound."""
    if one.spec.is_log:
        return "lower right"
    left, right = axes.get_xlim()
    return "upper right" if bound is None or 2 * bound < left + right else "upper left"


@dataclass(frozen=True)
class _Across:
    """What is drawn along an axis: the mean of a bundle, or how far its runs disagree.

    Values lie on the scale of the axis: logarithms to base 10 where that is logarithmic.
    """

    bundle: BundleColumns
    what: Literal["mean", "spread"]

    @property
    def column(self) -> str:
        if self.what == "spread" and self.bundle.spec.is_log:
            return self.bundle.column("std_over_mean")
        return self.bundle.of_property("mean" if self.what == "mean" else "std")

    def on_scale(self, batch: pa.RecordBatch) -> Floats:
        """The values of some rows; not finite where there is nothing to draw."""
        values = _numbers(batch, self.column)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(values) if self.bundle.spec.is_log else values

    def plain(self, values: Floats) -> Floats:
        """The inverse of the scale."""
        return 10.0**values if self.bundle.spec.is_log else values


@dataclass(frozen=True, eq=False)
class _Gathered:
    """What a panel shows.

    Attributes:
        points: 2 × points, of the first structures: mean and spread.
        applicable: of these, whether nothing speaks against them.
        density: BINS × BINS, of all structures, mean first.
        edges: of the bins, mean first.
    """

    points: Floats
    applicable: NDArray[np.bool_]
    density: Floats
    edges: tuple[Floats, Floats]


def _gather(table: Path, mean: _Across, spread: _Across) -> _Gathered:
    reach = [_reach(table, axis, mean, spread) for axis in (mean, spread)]
    bins = [np.linspace(low, high, BINS + 1) for low, high in reach]
    density = np.zeros((BINS, BINS))
    points: list[Floats] = []
    flags: list[bool] = []
    judged = mean.bundle.column("applicable")
    for batch in read_batches(table, [mean.column, spread.column, judged]):
        x, y, drawn = _drawn(batch, mean, spread)
        x, y = (v.clip(*ends) for v, ends in zip((x, y), reach, strict=True))
        density += np.histogram2d(x, y, bins=bins)[0]
        if len(flags) <= POINTS:
            points.append(np.stack([mean.plain(x), spread.plain(y)]))
            flags += np.array(batch[judged].to_pylist(), dtype=object)[drawn].tolist()
    return _Gathered(
        np.concatenate([np.empty((2, 0)), *points], axis=1),
        np.array(flags, dtype=bool),
        density,
        (mean.plain(bins[0]), spread.plain(bins[1])),
    )


def _drawn(
    batch: pa.RecordBatch, mean: _Across, spread: _Across
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The values of the rows that can be drawn, on the scales of the axes, and which those are."""
    x, y = mean.on_scale(batch), spread.on_scale(batch)
    drawn = np.isfinite(x) & np.isfinite(y)
    return x[drawn], y[drawn], drawn


def _reach(table: Path, axis: _Across, mean: _Across, spread: _Across) -> tuple[float, float]:
    """From where to where an axis goes: over all values, but for those that are far off."""
    kept, step, seen = np.empty(0), 1, 0
    low, high = np.inf, -np.inf
    for batch in read_batches(table, [mean.column, spread.column]):
        x, y, _ = _drawn(batch, mean, spread)
        values = x if axis is mean else y
        low, high = min(low, values.min(initial=low)), max(high, values.max(initial=high))
        kept = np.append(kept, values[-seen % step :: step])
        seen += len(values)
        while len(kept) > SAMPLED:
            kept, step = kept[::2], 2 * step
    if not seen:
        return 0.0, 1.0
    lower, upper = np.quantile(kept, BULK)
    far = (upper - lower) or np.inf
    low, high = max(low, lower - far), min(high, upper + far)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _draw_density(figure: Figure, axes: Axes, found: _Gathered, log: bool) -> None:
    from matplotlib.colors import LogNorm

    across, up = found.edges
    shown = np.ma.masked_equal(found.density.T, 0)
    mesh = axes.pcolormesh(across, up, shown, cmap=COLOURS, norm=LogNorm(1), rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, label="structures")
    bar.outline.set_visible(False)
    for edges, set_limits in ((across, axes.set_xlim), (up, axes.set_ylim)):
        low, high = edges[0], edges[-1]
        room = 0.03 * (high - low)
        set_limits(*((low * 0.8, high * 1.25) if log else (low - room, high + room)))
