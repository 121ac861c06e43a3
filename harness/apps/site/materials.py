"""The page of the materials: what each configuration predicts of them, and what all miss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.apps.site.html_tables import Column, HtmlEntry, Scale, Table, number, significant
from harness.report.plot_data import ParityRows

if TYPE_CHECKING:
    import pandas as pd

    from harness.apps.site.results import Configuration, LeaderboardCell, Results
    from harness.apps.site.tested_rows import CellRows
    from harness.plugin.property import PropertySpec

Read = Callable[["LeaderboardCell"], "CellRows | None"]
"""A cell → its predictions, as `RowUses.tested`; None where they are not there."""

MOST = 300
"""Materials that a table shows; of more, those that are missed most."""

MATERIAL = ["part", "id", "formula"]


@dataclass(frozen=True)
class MaterialsPart:
    """The materials of one test set.

    Attributes:
        test_on: the test set.
        table: a row per material, those that are missed most first.
        known: how many materials of it were tested, in any run.
    """

    test_on: str
    table: Table
    known: int


def make_materials(results: Results, read: Read) -> Iterator[MaterialsPart]:
    """Gathers the tables, one for each test set with stored predictions.

    A configuration is shown as it was trained on the test set's own dataset, or where it was not,
    on the first of the leaderboard.
    """
    for test_on in dict.fromkeys(cell.place[1] for cell in results.cells):
        chosen = _cells_of(results, test_on)
        read_rows = {name: read(cell) for name, cell in chosen.items()}
        by_model = {
            name: _by_material(rows, results.property)
            for name, rows in read_rows.items()
            if rows is not None
        }
        if by_model:
            labels = [_title(results, name, chosen[name]) for name in by_model]
            yield _part(test_on, list(by_model.values()), labels, results.property)


def _cells_of(results: Results, test_on: str) -> Mapping[Configuration, LeaderboardCell]:
    """The cell by which each configuration is shown, if it was tested on the test set at all."""
    found: dict[Configuration, LeaderboardCell] = {}
    for name, cells in results.matrices.items():
        of_test = {train: cell for (train, tested), cell in cells.items() if tested == test_on}
        if of_test:
            found[name] = of_test.get(test_on) or next(iter(of_test.values()))
    return found


def _title(results: Results, name: Configuration, cell: LeaderboardCell) -> str:
    train_on, test_on = cell.place
    return results.label(name) + (f", trained on {train_on}" if train_on != test_on else "")


def _by_material(tested: CellRows, spec: PropertySpec) -> pd.DataFrame:
    """Target and prediction of every material on the property's scale, means over runs."""
    import pandas as pd

    parity = ParityRows.of(tested.frame, spec)
    target, predicted = spec.to_scale(parity.target), spec.to_scale(parity.predicted)
    off = np.abs(predicted - target)
    rows = pd.DataFrame({"target": target, "predicted": predicted, "off": off})
    means = rows.groupby(tested.rows.of_row).mean()
    return means.set_axis(pd.MultiIndex.from_tuples(tested.rows.materials, names=MATERIAL))


def _part(
    test_on: str, models: list[pd.DataFrame], labels: list[str], spec: PropertySpec
) -> MaterialsPart:
    import pandas as pd

    off = pd.concat([model["off"] for model in models], axis=1)
    missed = off.mean(axis=1).sort_values(ascending=False, kind="stable", na_position="first")
    targets = pd.concat([model["target"] for model in models], axis=1).mean(axis=1)
    scale = Scale.of(off.to_numpy().ravel().tolist(), higher_is_better=False)
    columns = (
        Column("material", "name"),
        Column("id", "text"),
        Column(f"target {spec.symbol}", "number"),
        Column("all are off by" + (" a factor of" if spec.is_log else f", {spec.unit}"), "number"),
        *(Column(label, "number") for label in labels),
    )
    shown = missed.index[:MOST]
    predictions = [_predictions(model.reindex(shown), spec, scale) for model in models]
    rows = [
        (
            HtmlEntry(formula or str(row_id)),
            HtmlEntry(str(row_id)),
            significant(float(spec.from_scale(targets[part, row_id, formula]))),
            _off(missed[part, row_id, formula], spec),
            *predicted,
        )
        for (part, row_id, formula), *predicted in zip(shown, *predictions, strict=True)
    ]
    return MaterialsPart(
        test_on, Table(f"materials-{test_on}", test_on, columns, tuple(rows)), len(missed)
    )


def _off(off: float, spec: PropertySpec) -> HtmlEntry:
    if not np.isfinite(off):
        return HtmlEntry("failed")
    return number(10**off, 2) if spec.is_log else significant(off)


def _predictions(rows: pd.DataFrame, spec: PropertySpec, scale: Scale) -> list[HtmlEntry]:
    """Mean predictions, coloured and sorted by how far the predictions of all runs are off."""
    known = rows["target"].notna()
    values = spec.from_scale(rows["predicted"].to_numpy(dtype=np.float64))
    return [
        HtmlEntry("—")
        if not tested
        else HtmlEntry("failed")
        if not np.isfinite(value)
        else HtmlEntry(significant(float(value)).text, float(off), shade=scale.shade(off))
        for tested, value, off in zip(known, values, rows["off"], strict=True)
    ]
