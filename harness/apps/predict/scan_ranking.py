"""What a scan is for: the structures of low κ, and a picture of all of them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.predict.scanner import read_batches
from harness.drawing.style import plain_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats

SHOWN = (
    "id",
    "formula",
    "kappa_mean",
    "kappa_std",
    "std_over_mean",
    "low",
    "high",
    "max_std_over_mean",
    "in_training",
    "warnings",
)

POINTS = 5000
"""So many structures are drawn as points; more, as a density."""

BINS = 240
KAPPA_RANGE = (1e-2, 1e4)
SPREAD_RANGE = (1e-3, 1e1)
INK = "#1f4e79"
WARNED = "#d98b2b"
COLOURS = "Blues"


def find_candidates(
    table: Path, max_kappa: float | None, limit: int, sort: bool
) -> tuple[list[dict[str, Any]], int]:
    """Picks the structures whose κ is predicted to be low.

    Args:
        table: of a scan.
        max_kappa: highest `kappa_mean`, W/(m·K); none for no bound.
        limit: how many to return.
        sort: whether the lowest ones come first; else in the order of the source.

    Returns:
        Rows with the columns `SHOWN`, and how many there are in all.
    """
    number = count()
    total = 0

    def matching() -> Iterator[tuple[float, int, dict[str, Any]]]:
        nonlocal total
        for batch in read_batches(table, SHOWN):
            kappa = batch["kappa_mean"].to_numpy(zero_copy_only=False)
            bound = np.inf if max_kappa is None else max_kappa
            for place in np.flatnonzero(kappa <= bound).tolist():
                total += 1
                if total <= limit or sort:
                    row = batch.slice(place, 1).to_pylist()[0]
                    yield float(kappa[place]), next(number), row

    if sort:
        found = heapq.nsmallest(limit, matching())
    else:
        rows = matching()
        found = list(islice(rows, limit))
        for _ in rows:
            pass
    return [row for _, _, row in found], total


def draw_scan(table: Path, title: str, max_kappa: float | None = None) -> Figure:
    """Draws std/mean against mean, both axes logarithmic, in bounded memory.

    Args:
        table: of a scan.
        title: printed above.
        max_kappa: drawn as a line where it is given.
    """
    from matplotlib.figure import Figure

    mean, spread, applicable, density = _gather(table)
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", title=title)
    axes.set_xlabel("predicted κ, W/(m·K): mean over the ensemble")
    axes.set_ylabel("std / mean over the ensemble")
    drawn = int(density.sum())
    if drawn <= POINTS:
        for own, colour, label in (
            (applicable, INK, "applicable"),
            (~applicable, WARNED, "warned"),
        ):
            points = axes.scatter(mean[own], spread[own], s=9, color=colour, alpha=0.6)
            points.set(linewidth=0, label=f"{label} ({own.sum()})")
        axes.legend(frameon=False, loc="lower right")
    else:
        _draw_density(figure, axes, density)
    if max_kappa is not None:
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, 0.7 * max_kappa), max(right, 2 * max_kappa))
        axes.axvline(max_kappa, color="0.35", linewidth=1, linestyle="--")
        axes.annotate(
            f" {max_kappa:g} W/(m·K)",
            (max_kappa, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -4),
            textcoords="offset points",
            va="top",
            color="0.35",
        )
    for axis in "xy":
        plain_log_axis(axes, axis)
    axes.grid(which="major", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _gather(table: Path) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
    """The first points, and the density of all: BINS × BINS, κ first."""
    density = np.zeros((BINS, BINS))
    points: list[tuple[float, float, bool]] = []
    for batch in read_batches(table, ["kappa_mean", "std_over_mean", "applicable"]):
        mean, spread = (
            batch[name].to_numpy(zero_copy_only=False) for name in ("kappa_mean", "std_over_mean")
        )
        usable = (mean > 0) & (spread > 0)
        mean, spread = mean[usable].clip(*KAPPA_RANGE), spread[usable].clip(*SPREAD_RANGE)
        density += np.histogram2d(mean, spread, bins=_edges())[0]
        if len(points) <= POINTS:
            applicable = np.array(batch["applicable"].to_pylist(), dtype=object)[usable]
            points.extend(zip(mean.tolist(), spread.tolist(), applicable.tolist(), strict=True))
    columns = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2].astype(bool), density


def _edges() -> list[Floats]:
    return [np.geomspace(low, high, BINS + 1) for low, high in (KAPPA_RANGE, SPREAD_RANGE)]


def _draw_density(figure: Figure, axes: Axes, density: Floats) -> None:
    from matplotlib.colors import LogNorm

    across, up = _edges()
    shown = np.ma.masked_equal(density.T, 0)
    mesh = axes.pcolormesh(across, up, shown, cmap=COLOURS, norm=LogNorm(1), rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, label="structures")
    bar.outline.set_visible(False)
    taken = [np.flatnonzero(density.sum(axis=axis)) for axis in (1, 0)]
    axes.set_xlim(across[taken[0][0]] * 0.8, across[taken[0][-1] + 1] * 1.25)
    axes.set_ylim(up[taken[1][0]] * 0.8, up[taken[1][-1] + 1] * 1.25)
