"""The page of the materials says of each what the stored predictions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.apps.site import materials
from harness.apps.site.materials import make_materials
from harness.apps.site.results import Results, read_results
from harness.apps.site.tested_rows import RowUses
from harness.registry.registry import Registry
from harness.results.store import Store


@pytest.fixture(scope="module")
def results(leaderboards: Any) -> Results:
    return read_results(leaderboards.folder / "whole", Registry(leaderboards.plugins))


def off(store: Store, key: str) -> pd.Series[float]:
    """By how many decades a cell is off, mean over runs, by id."""
    rows = store.read_predictions(key)
    rows["off"] = (np.log10(rows["prediction"]) - np.log10(rows["target"])).abs()
    return rows.groupby("id")["off"].mean()


def test_a_material_is_off_by_the_mean_over_configurations(results: Results) -> None:
    for part in make_materials(results, RowUses(results).tested):
        places = {cell.place for cell in results.cells if cell.place[1] == part.test_on}
        own = (part.test_on, part.test_on)  # or else what the leaderboard trains on first
        here = [c for c in results.cells if c.place == (own if own in places else min(places))]
        found = pd.concat([off(cell.store, cell.planned.key) for cell in here], axis=1)
        mean = found.mean(axis=1)
        assert {row[1].text for row in part.table.rows} == set(mean.index)
        for row in part.table.rows:
            assert row[3].value == pytest.approx(10 ** mean[row[1].text], rel=1e-6)
            known = [entry.value for entry in row[4:]]
            assert known == pytest.approx(found.loc[row[1].text].tolist(), rel=1e-6)


def test_what_is_missed_most_comes_first(results: Results) -> None:
    for part in make_materials(results, RowUses(results).tested):
        factors = [row[3].value for row in part.table.rows]
        assert factors == sorted(factors, reverse=True)


def test_of_many_materials_those_that_are_missed_most_are_shown(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = next(make_materials(results, RowUses(results).tested))
    monkeypatch.setattr(materials, "MOST", 2)
    few = next(make_materials(results, RowUses(results).tested))
    assert few.table.rows == whole.table.rows[:2]
    assert few.known == whole.known == len(whole.table.rows)


def test_without_stored_predictions_there_is_no_such_page(results: Results) -> None:
    assert not list(make_materials(results, lambda cell: None))


def test_a_failed_prediction_is_said_to_be_one(site: Path) -> None:
    page = (site / "failing" / "materials.html").read_text(encoding="utf-8")
    assert ">failed</td>" in page
