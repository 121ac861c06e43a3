"""What the stored predictions of a cell say: the parity plot, the worst materials, all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.site.html_tables import (
    Column,
    HtmlEntry,
    Table,
    compact_json,
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

    from harness.apps.site.tested_rows import CellRows, RowSet
    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec


WORST = 15
"""Materials shown as predicted worst."""

REACH = 30.0
"""Factor beyond the range of the targets at which a parity plot on a log scale ends; the rest lies
on its edge."""

DENSE = 1000
"""Predictions beyond which a parity plot has small dots."""


def draw_parity(tested: pd.DataFrame, spec: PropertySpec) -> Plot:
    """Draws predictions against targets; rows that failed are counted instead.

    Args:
        tested: rows of `Store.read_predictions`.
        spec: what was predicted; its scale is that of the axes.
    """
    shown = ParityRows.of(tested, spec)
    given = ~shown.failed
    low, high = _reach(shown.target, spec)
    both = np.concatenate([shown.target, np.clip(shown.predicted[given], low, high)])
    symbol, unit, log = spec.symbol, spec.unit, spec.is_log
    x = make_axis(f"{symbol}, target, {unit}", both, LEFT, WIDTH - RIGHT, log=log)
    y = make_axis(f"{symbol}, predicted, {unit}", both, SQUARE_HEIGHT - BOTTOM, TOP, log=log)
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
    marks.append(Mark("guide", _diagonal(x, y, 1.0)))
    if log:
        marks.append(Mark("guide dashed", _diagonals(x, y)))
    beyond = int(shown.lie_beyond(y.low, y.high).sum())
    runs = counted(tested["run"].nunique(), "run")
    guide = "; dashed: a factor 2 off" if log else ""
    notes = [f"{counted(len(tested), 'prediction')} of {runs}{guide}."]
    if beyond:
        notes.append(f"Beyond the frame and drawn on its edge: {counted(beyond, 'prediction')}.")
    if lost := int(shown.failed.sum()):
        notes.append(f"Failed and not drawn: {counted(lost, 'prediction')}.")
    return Plot(
        "parity",
        f"Predicted against target {symbol}, every test row of every run",
        x,
        y,
        tuple(marks),
        " ".join(notes),
        SQUARE_HEIGHT,
    )


def _reach(targets: Floats, spec: PropertySpec) -> tuple[float, float]:
    """How far the frame may go: beyond the targets by a factor, or by their range."""
    low, high = float(targets.min()), float(targets.max())
    if spec.is_log:
        return low / REACH, high * REACH
    beside = high - low or 1.0
    return low - beside, high + beside


def _diagonals(x: Axis, y: Axis) -> str:
    return _diagonal(x, y, FACTOR) + _diagonal(x, y, 1 / FACTOR)


def _diagonal(x: Axis, y: Axis, factor: float) -> str:
    """A path of prediction = factor · target through the frame."""
    ends = np.array([max(x.low, y.low / factor), min(x.high, y.high / factor)])
    (a, b), (c, d) = x.place(ends), y.place(ends * factor)
    return f"M{a:.1f} {c:.1f}L{b:.1f} {d:.1f}"


def worst_materials(tested: CellRows, spec: PropertySpec) -> Table:
    """The materials whose predictions are furthest off, on the property's scale, over all runs."""
    parity = ParityRows.of(tested.frame, spec)
    predicted = spec.to_scale(parity.predicted)
    rows, names = tested.rows, tested.rows.materials
    number_of = np.bincount(rows.of_row, minlength=len(names))

    def mean(values: Floats) -> Floats:
        return np.bincount(rows.of_row, values, len(names)) / number_of

    materials = {
        "failed": mean(parity.failed.astype(np.float64)),
        "target": mean(parity.target),
        "scaled": mean(predicted),
        "off": mean(np.abs(predicted - spec.to_scale(parity.target))),
        "overlap": mean(parity.overlap.astype(np.float64)),
        "runs": rows.runs_of_each,
    }
    failed, off = (-materials[what] for what in ("failed", "off"))
    # the furthest off first, those with equal numbers by name; NaN, where all failed, comes last
    order = np.lexsort((rows.by_name, off, failed))
    worst = [
        dict(zip(("part", "id", "formula"), names[place], strict=True))
        | {what: values[place].item() for what, values in materials.items()}
        for place in order[:WORST].tolist()
    ]
    columns = (
        Column("material", "name"),
        Column("id", "text"),
        Column("dataset", "text"),
        Column("runs", "number"),
        Column(f"target {spec.symbol}", "number"),
        Column(f"predicted {spec.symbol}", "number"),
        Column("factor off" if spec.is_log else f"off by, {spec.unit}", "number"),
        Column("overlap", "text"),
    )
    entries = tuple(_material(row, spec) for row in worst)
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


def _material(row: dict[Any, Any], spec: PropertySpec) -> tuple[HtmlEntry, ...]:
    failed = row["failed"] > 0
    off = number(10 ** row["off"], 1) if spec.is_log else significant(row["off"])
    share = {0.0: "no", 1.0: "yes"}.get(float(row["overlap"]), "in part")
    return (
        HtmlEntry(row["formula"] or row["id"]),
        HtmlEntry(str(row["id"])),
        HtmlEntry(str(row["part"])),
        count(row["runs"]),
        significant(row["target"]),
        HtmlEntry("failed") if failed else significant(float(spec.from_scale(row["scaled"]))),
        HtmlEntry("—") if failed else off,
        HtmlEntry(share),
    )


@dataclass(frozen=True)
class PackedRows:
    """All predictions of a cell, small.

    Attributes:
        length: how many there are.
        text: JSON: what was predicted, materials once, and rows as (run, material, target,
            prediction, overlap).
    """

    length: int
    text: str


def pack_rows(tested: CellRows, spec: PropertySpec) -> PackedRows:
    """Packs all predictions of a cell; numbers of four digits, null for what is not finite."""
    facts = {
        "symbol": spec.symbol,
        "unit": spec.unit,
        "log": spec.is_log,
        "lowest": spec.lowest if spec.is_log else None,
    }
    frame, rows = tested.frame, tested.rows
    targets, predictions = (
        frame[name].to_numpy(dtype=np.float64) for name in ("target", "prediction")
    )
    columns = (
        _begin_rows(rows, targets),
        _short(predictions),
        frame["overlap"].astype(int).tolist(),
    )
    lines = ",".join([f"{a}{b},{c}]" for a, b, c in zip(*columns, strict=True)])
    text = f'{compact_json(facts)[:-1]},"materials":{rows.packed_materials},"rows":[{lines}]}}'
    return PackedRows(len(frame), text)


def _begin_rows(rows: RowSet, targets: Floats) -> list[str]:
    """Packs run, material and target of rows, which many cells have in common, once."""
    key = targets.tobytes()
    if key not in rows.beginnings:
        columns = (rows.runs.tolist(), rows.of_row.tolist(), _short(targets))
        rows.beginnings[key] = [f"[{a},{b},{c}," for a, b, c in zip(*columns, strict=True)]
    return rows.beginnings[key]


def _short(values: Floats) -> list[str]:
    """Four digits, which is more than is shown, as JSON has them."""
    finite = np.isfinite(values)
    plain = np.where(finite & (values != 0), values, 1.0)
    shift = 3 - np.floor(np.log10(np.abs(plain)))
    up, down = 10.0 ** np.maximum(shift, 0), 10.0 ** np.maximum(-shift, 0)
    rounded = np.rint(plain * up / down) / up * down
    shown = list(map(repr, np.where(values == 0, 0.0, rounded).tolist()))
    for place in np.flatnonzero(~finite).tolist():
        shown[place] = "null"
    return shown
