"""What the stored predictions of a cell say: the parity plot, the worst materials, all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.site.html_tables import (
    Column,
    HtmlEntry,
    Table,
    count,
    counted,
    number,
    significant,
)
from harness.apps.site.plots import (
    BOTTOM,
    LEFT,
    RIGHT,
    SQUARE_HEIGHT,
    TOP,
    WIDTH,
    Axis,
    Mark,
    Plot,
    dots,
    make_axis,
)
from harness.report.plot_data import FACTOR, ParityRows

if TYPE_CHECKING:
    import pandas as pd


WORST = 15
"""Materials shown as predicted worst."""

REACH = 30.0
"""Factor beyond the range of the targets at which a parity plot ends; the rest lies on its edge."""

DENSE = 1000
"""Predictions beyond which a parity plot has small dots."""


def draw_parity(tested: pd.DataFrame) -> Plot:
    """Draws predictions against targets, both logarithmic; rows that failed are counted instead.

    Args:
        tested: rows of `Store.read_predictions`.
    """
    shown = ParityRows.of(tested)
    given = ~shown.failed
    low, high = shown.target.min() / REACH, shown.target.max() * REACH
    both = np.concatenate([shown.target, np.clip(shown.predicted[given], low, high)])
    x = make_axis("κ, target, W/(m·K)", both, LEFT, WIDTH - RIGHT, log=True)
    y = make_axis("κ, predicted, W/(m·K)", both, SQUARE_HEIGHT - BOTTOM, TOP, log=True)
    marks = []
    dense = " dense" if len(tested) > DENSE else ""
    for style, label, rows in (
        ("row", "formula not trained on", ~shown.overlap),
        ("row overlap", "formula trained on (overlap)", shown.overlap),
    ):
        chosen = rows & given
        if chosen.any():
            path = dots(x.place(shown.target[chosen]), y.place(shown.predicted[chosen]))
            marks.append(Mark(style + dense, path, label))
    marks += [Mark("guide", _diagonal(x, y, 1.0)), Mark("guide dashed", _diagonals(x, y))]
    beyond = int(shown.lie_beyond(y.low, y.high).sum())
    runs = counted(tested["run"].nunique(), "run")
    notes = [f"{counted(len(tested), 'prediction')} of {runs}; dashed: a factor 2 off."]
    if beyond:
        notes.append(f"Beyond the frame and drawn on its edge: {counted(beyond, 'prediction')}.")
    if lost := int(shown.failed.sum()):
        notes.append(f"Failed and not drawn: {counted(lost, 'prediction')}.")
    return Plot(
        "parity",
        "Predicted against target κ, every test row of every run",
        x,
        y,
        tuple(marks),
        " ".join(notes),
        SQUARE_HEIGHT,
    )


def _diagonals(x: Axis, y: Axis) -> str:
    return _diagonal(x, y, FACTOR) + _diagonal(x, y, 1 / FACTOR)


def _diagonal(x: Axis, y: Axis, factor: float) -> str:
    """A path of prediction = factor · target through the frame."""
    ends = np.array([max(x.low, y.low / factor), min(x.high, y.high / factor)])
    (a, b), (c, d) = x.place(ends), y.place(ends * factor)
    return f"M{a:.1f} {c:.1f}L{b:.1f} {d:.1f}"


def worst_materials(tested: pd.DataFrame) -> Table:
    """The materials whose predictions are furthest off, on the logarithmic scale, over all runs.

    Args:
        tested: rows of `Store.read_predictions` with their `formula`.
    """
    parity = ParityRows.of(tested)
    rows = tested.assign(
        target=parity.target,
        log=np.log10(parity.predicted),
        off=np.abs(np.log10(parity.predicted / parity.target)),
        failed=parity.failed,
    )
    grouped = rows.groupby(["part", "id", "formula"], sort=True)
    materials = grouped.agg(
        runs=("run", "nunique"),
        failed=("failed", "sum"),
        target=("target", "median"),
        log=("log", "mean"),
        off=("off", "mean"),
        overlap=("overlap", "mean"),
    ).reset_index()
    order = ["failed", "off", "part", "id"]
    worst = materials.sort_values(order, ascending=[False, False, True, True]).head(WORST)
    columns = (
        Column("material", "name"),
        Column("id", "text"),
        Column("dataset", "text"),
        Column("runs", "number"),
        Column("target κ", "number"),
        Column("predicted κ", "number"),
        Column("factor off", "number"),
        Column("overlap", "text"),
    )
    entries = tuple(_material(row) for row in worst.to_dict("records"))
    # a column that says the same of all is left out
    kept = [
        position
        for position, column in enumerate(columns)
        if column.title not in ("dataset", "overlap")
        or len({row[position].text for row in entries}) > 1
    ]
    return Table(
        "worst",
        "",
        tuple(columns[position] for position in kept),
        tuple(tuple(row[position] for position in kept) for row in entries),
    )


def _material(row: dict[Any, Any]) -> tuple[HtmlEntry, ...]:
    failed = row["failed"] > 0
    share = {0.0: "no", 1.0: "yes"}.get(float(row["overlap"]), "in part")
    return (
        HtmlEntry(row["formula"] or row["id"]),
        HtmlEntry(str(row["id"])),
        HtmlEntry(str(row["part"])),
        count(row["runs"]),
        significant(row["target"]),
        HtmlEntry("failed") if failed else significant(10 ** row["log"]),
        HtmlEntry("—") if failed else number(10 ** row["off"], 1),
        HtmlEntry(share),
    )


def pack_rows(tested: pd.DataFrame) -> dict[str, Any]:
    """All predictions, small: materials once, then (run, material, target, prediction, overlap).

    Args:
        tested: rows of `Store.read_predictions` with their `formula`.
    """
    names = list(zip(tested["part"], tested["id"], tested["formula"], strict=True))
    positions = {name: position for position, name in enumerate(dict.fromkeys(names))}
    columns = (tested[name] for name in ("run", "target", "prediction", "overlap"))
    return {
        "materials": [list(name) for name in positions],
        "rows": [
            [int(run), positions[name], _short(target), _short(predicted), int(overlap)]
            for name, run, target, predicted, overlap in zip(names, *columns, strict=True)
        ],
    }


def _short(value: float) -> float | None:
    """Four digits, which is more than is shown; None for what is not finite."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
