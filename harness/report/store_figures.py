"""Figures from what a run leaves beside its results: losses of stages, predictions of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.drawing.style import (
    COLOURS,
    QUIET,
    SCREEN,
    Sheet,
    panels_in_rows,
    plain_log_axis,
)
from harness.report.figures import wrapped
from harness.report.pivot import Layout, pivot
from harness.report.plot_data import FACTOR, ParityRows, member_curves
from harness.report.tables import Wording, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.plugin.arrays import Floats
    from harness.plugin.metric import MetricSpec
    from harness.plugin.property import PropertySpec
    from harness.registry.property_metrics import PropertyMetrics
    from harness.report.leaderboard import Leaderboard
    from harness.report.pivot import Pivot, PivotEntry
    from harness.results.records import StageRecord
    from harness.results.store import Store

    Metrics = Mapping[str, MetricSpec]

VECTOR_ROWS = 2000
"""A panel with more rows is a picture, in vector formats too: they would be slow to open."""

PARITY_INCHES = 2.6
TITLE_LETTERS = 38
"""A longer line of a title would run into the next panel's."""

UNTRAINED = "none of the chosen cells was trained by gradient"
TRAINING, VALIDATION = COLOURS[0], COLOURS[5]


# --- losses -----------------------------------------------------------------------------------


def draw_losses(
    store: Store,
    leaderboard: Leaderboard,
    metrics: Metrics,
    layout: Layout,
    sheet: Sheet = SCREEN,
) -> Figure:
    """Draws loss and validation score of every run, their mean and its band, for all stages.

    A panel per stage, those that a chain starts from included. Bands are ± one standard deviation
    over runs, of the logarithm.

    Raises:
        BenchmarkError: none of the chosen cells was trained by gradient.
    """
    stages = _stages(store, pivot(leaderboard, metrics, layout))
    abreast = sheet.abreast(3.0, 4)
    figure, places = panels_in_rows(len(stages), abreast, 3.0, 2.3, UNTRAINED, sheet)
    for axes, (title, record) in zip(places, stages, strict=True):
        _draw_history(axes, record)
        head = wrapped(title, TITLE_LETTERS)
        axes.set_title(f"{head}\n{record.title}" if head else record.title, fontsize=7)
    losses = dict.fromkeys(loss for _, record in stages for loss in _losses(record))
    _loss_legend(figure, ", ".join(losses))
    sheet.entitle(
        figure,
        f"{leaderboard.title or leaderboard.name}\n"
        "every run, their mean and ± 1 std (of the logarithm)",
    )
    return figure


def _losses(record: StageRecord) -> list[str]:
    """Names of the losses of a stage's members, which may be trained differently."""
    return [training["loss"] for training in record.trainings]


def _stages(store: Store, table: Pivot) -> list[tuple[str, StageRecord]]:
    """The stages behind the entries that were trained by gradient: configuration and record."""
    chains = {cell.named(table.identity): cell.chain for cell in store.read_plan().cells}
    found: dict[str, tuple[PivotEntry, StageRecord]] = {}
    for entry in table.entries.values():
        for key in chains[entry.name]:
            if key not in found and (record := store.stage_record(key)).history:
                found[key] = entry, record
    return [(entry.label, record) for entry, record in found.values()]


def _draw_history(axes: Axes, record: StageRecord) -> None:
    from matplotlib.ticker import MaxNLocator

    history = record.history or {}
    for name, colour in (("train_loss", TRAINING), ("score", VALIDATION)):
        values = member_curves(history[name])
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, linewidth=0.4, alpha=0.35)
        logs = np.log10(np.where(values > 0, values, np.nan))
        mean, std = _over_runs(logs)
        axes.fill_between(
            epochs, 10 ** (mean - std), 10 ** (mean + std), color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(epochs, 10**mean, color=colour, linewidth=1.5)
    best = [epoch for epoch in record.best_epoch or () if epoch]
    axes.plot(best, [0.03] * len(best), "|", color="black", transform=axes.get_xaxis_transform())
    axes.set_xlabel("epoch", fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    plain_log_axis(axes, "y")


def _over_runs(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation over runs; NaN where no run has a number, 0 where one has."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    filled = np.where(known, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=1) / np.where(count, count, np.nan)
        square = np.where(known, (values - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return mean, np.sqrt(square / np.maximum(count - 1, 1))


def _loss_legend(figure: Figure, losses: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=TRAINING, label=f"training loss ({losses})"),
        Line2D([], [], color=VALIDATION, label="validation score, which chooses the epoch"),
        Line2D([], [], color="black", marker="|", linestyle="", label="epoch kept, per run"),
    ]
    figure.legend(handles=handles, loc="outside lower left", fontsize=8, frameon=False)


# --- parity -----------------------------------------------------------------------------------


def draw_parity(
    store: Store,
    leaderboard: Leaderboard,
    metrics: PropertyMetrics,
    layout: Layout,
    sheet: Sheet = SCREEN,
) -> Figure:
    """Draws predicted against true values, a panel per cell, every test row of every run.

    Unless cells are chosen, those with the best mean of each test set. Lines: equality, and on a
    log scale a factor of two either way. A row whose prediction is no number, or out of the range
    of targets, is a cross at the edge, and counted.
    """
    table, spec = pivot(leaderboard, metrics, layout), metrics.property
    keys = {cell.named(table.identity): cell.key for cell in store.read_plan().cells}
    asked = bool(layout.rows or layout.only)
    entries = [entry for entry in table.entries.values() if entry.runs]
    entries = entries if asked else list(_best_by_test(entries, table))
    abreast = len(table.column_keys) if asked else sheet.abreast(PARITY_INCHES, 3)
    abreast = min(abreast, sheet.abreast(PARITY_INCHES, abreast))
    inches = (PARITY_INCHES, PARITY_INCHES)
    figure, places = panels_in_rows(len(entries), abreast, *inches, sheet=sheet)
    shown = [ParityRows.of(store.read_predictions(keys[entry.name]), spec) for entry in entries]
    limits = _limits([parity.target for parity in shown], spec)
    for axes, entry, parity in zip(places, entries, shown, strict=True):
        _draw_rows(axes, parity, limits, spec)
        head = wrapped(entry.label, TITLE_LETTERS)
        axes.set_title(f"{head}\n{entry.cell['train_on']} → {entry.cell['test_on']}", fontsize=7)
        score = f"{entry.metric} {number_text(entry, Wording(), table.runs)}"
        axes.text(0.04, 0.96, score, transform=axes.transAxes, fontsize=7, va="top")
    figure.supxlabel(f"true {spec.quantity}", fontsize=9)
    figure.supylabel(f"predicted {spec.quantity}", fontsize=9)
    lines = "; dashed: a factor of two" if spec.is_log else ""
    which = "" if asked else "the best mean of each test set; "
    sheet.entitle(
        figure,
        f"{leaderboard.title or leaderboard.name}\n{which}test rows of all runs{lines}",
    )
    return figure


def _best_by_test(entries: Sequence[PivotEntry], table: Pivot) -> Iterator[PivotEntry]:
    """Yields of every test set the entry with the best mean; none of what is mostly trained on."""
    for test_on in dict.fromkeys(entry.cell["test_on"] for entry in entries):
        rivals = [
            entry
            for entry in entries
            if entry.cell["test_on"] == test_on
            and entry.state == "scored"
            and not entry.is_mostly_trained_on
        ]
        if rivals:
            sign = 1 if table.metrics[rivals[0].metric].higher_is_better else -1
            yield max(rivals, key=lambda entry: sign * entry.mean)


def _limits(targets: Sequence[Floats], spec: PropertySpec) -> tuple[float, float]:
    """The range of all targets and something on either side."""
    known = np.concatenate(targets)
    low, high = float(known.min()), float(known.max())
    if spec.is_log:
        return max(low / 2, spec.lowest), high * 2
    beside = (high - low or 1.0) / 10
    return low - beside, high + beside


def _draw_rows(
    axes: Axes, rows: ParityRows, limits: tuple[float, float], spec: PropertySpec
) -> None:
    low, high = limits
    truth = rows.target
    outside = rows.failed | rows.lie_beyond(low, high)
    shown = np.clip(np.where(rows.failed, low, rows.predicted), low, high)
    axes.plot([low, high], [low, high], color=QUIET, linewidth=1)
    for factor in (1 / FACTOR, FACTOR) if spec.is_log else ():
        axes.plot([low, high], [low * factor, high * factor], "--", color=QUIET, linewidth=0.6)
    look: dict[str, Any] = {"markersize": 3, "alpha": 0.4, "rasterized": len(truth) > VECTOR_ROWS}
    axes.plot(truth[~outside], shown[~outside], "o", color=COLOURS[0], markeredgewidth=0, **look)
    if outside.any():
        edge: dict[str, Any] = {"color": COLOURS[5], "clip_on": False, "markeredgewidth": 0.8}
        axes.plot(truth[outside], shown[outside], "x", **edge, **look)
        text = f"{outside.sum()} outside"
        axes.text(
            0.96, 0.05, text, transform=axes.transAxes, fontsize=7, ha="right", color=COLOURS[5]
        )
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    for which in ("x", "y") if spec.is_log else ():
        plain_log_axis(axes, which)
