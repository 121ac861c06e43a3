"""A figure of what models score against what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.drawing.style import (
    COLOURS,
    QUIET,
    SCREEN,
    Sheet,
    panels_in_rows,
    plain_log_axis,
)
from harness.report.figures import metric_label
from harness.report.pivot import Layout, PivotEntry, is_baseline, pivot
from harness.report.tables import direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.plugin.metric import MetricSpec
    from harness.report.leaderboard import Leaderboard

CRYSTALS = 1000
"""That are predicted once a model is fitted: what a small screening takes."""

FONT, LETTER, LINE = 6.5, 3.6, 8.0
"""Of names: size, width of a letter (about) and height of a line, in points."""

PANEL_INCHES = (4.2, 3.0)
FRONT, OTHERS = COLOURS[5], COLOURS[0]


@dataclass(frozen=True)
class Priced:
    """A model of one panel.

    Attributes:
        seconds: of one core, to fit it and to predict `CRYSTALS` new crystals.
        score: mean over runs.
        entry: what it is.
    """

    seconds: float
    score: float
    entry: PivotEntry


def draw_costs(
    leaderboard: Leaderboard,
    metrics: Mapping[str, MetricSpec],
    layout: Layout,
    costs: pd.DataFrame,
    sheet: Sheet = SCREEN,
) -> Figure:
    """Draws scores against seconds, a panel per dataset that was trained and tested on.

    A line leads along the Pareto front: models that nothing beats which costs as little.

    Args:
        leaderboard: the leaderboard.
        metrics: specs by name.
        layout: which metric, cells and test rows.
        costs: see `harness.api.costs.measure_costs`.
        sheet: what the figure is made for.
    """
    table = pivot(leaderboard, metrics, layout)
    spec = next(iter(table.metrics.values()))
    rows: list[Any] = costs.to_dict("records")
    seconds = {(row["model"], row["train_on"]): _seconds(row) for row in rows}
    found: dict[str, list[Priced]] = {}
    for entry in table.entries.values():
        train_on, test_on = entry.cell["train_on"], entry.cell["test_on"]
        cost = seconds.get((entry.label, train_on), math.nan)
        if train_on == test_on and entry.state == "scored" and cost > 0:
            found.setdefault(test_on, []).append(Priced(cost, entry.mean, entry))
    abreast = sheet.abreast(PANEL_INCHES[0], 2)
    nothing = "no model of the table was measured; `harness cost` does that"
    figure, places = panels_in_rows(len(found), abreast, *PANEL_INCHES, nothing, sheet)
    for axes, (dataset, models) in zip(places, found.items(), strict=True):
        _draw(axes, models, spec.higher_is_better)
        axes.set_title(dataset, fontsize=9)
    figure.supxlabel(
        f"seconds of one core: to fit one run, then {CRYSTALS} new crystals", fontsize=8
    )
    figure.supylabel(metric_label(spec), fontsize=8)
    sheet.entitle(
        figure,
        f"{table.title}\ntrained and tested on the same dataset, mean over runs; "
        f"{direction(spec)}; line: the Pareto front; hollow: baselines",
    )
    return figure


def _seconds(row: Mapping[str, float]) -> float:
    return row["fit_seconds"] + CRYSTALS * (row["encode_seconds"] + row["predict_seconds"])


def pareto_front(models: Sequence[Priced], higher_is_better: bool) -> list[Priced]:
    """Returns the models that nothing beats which costs as little, the cheapest first."""
    sign = -1 if higher_is_better else 1
    front: list[Priced] = []
    for model in sorted(models, key=lambda own: (own.seconds, sign * own.score)):
        if not front or sign * model.score < sign * front[-1].score:
            front.append(model)
    return front


def _draw(axes: Axes, models: Sequence[Priced], higher_is_better: bool) -> None:
    front = pareto_front(models, higher_is_better)
    for model in models:
        colour = FRONT if model in front else OTHERS
        face = "none" if is_baseline(model.entry) else colour
        axes.plot(model.seconds, model.score, "o", color=colour, markersize=5, markerfacecolor=face)
    axes.plot(
        [model.seconds for model in front],
        [model.score for model in front],
        color=FRONT,
        linewidth=1,
        drawstyle="steps-post",
        zorder=1,
    )
    plain_log_axis(axes, "x")
    _make_room(axes, higher_is_better)
    _write_names(axes, front, 1 if higher_is_better else -1)
    axes.grid(color=QUIET, alpha=0.25, linewidth=0.5)


def _write_names(axes: Axes, front: Sequence[Priced], up: int) -> None:
    """Writes the names of models left of them and beyond the front, each clear of the others."""
    written: list[tuple[float, float, float]] = []
    points = 72 / axes.figure.dpi
    for model in front:
        x, y = axes.transData.transform((model.seconds, model.score)) * points
        left, offset = x - LETTER * len(model.entry.label), LINE - 2
        while any(
            left < end and start < x and abs(y + up * offset - at) < LINE
            for start, end, at in written
        ):
            offset += LINE / 2
        written.append((left, x, y + up * offset))
        axes.annotate(
            model.entry.label,
            (model.seconds, model.score),
            (-4, up * offset),
            textcoords="offset points",
            fontsize=FONT,
            color="0.25",
            ha="right",
            va="center",
        )


def _make_room(axes: Axes, higher_is_better: bool) -> None:
    """Leaves room for names where no model is: none is cheaper and better than the front."""
    low, high = axes.get_xlim()
    axes.set_xlim(low / (high / low) ** 0.35, high)
    bottom, top = axes.get_ylim()
    room = 0.3 * (top - bottom)
    axes.set_ylim(*((bottom, top + room) if higher_is_better else (bottom - room, top)))
