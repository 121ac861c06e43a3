"""What rows of a cell were used for, counted at once, is what the lists say."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.apps.site.results import Results, read_results
from harness.apps.site.tested_rows import RowUses
from harness.planning.ledger import ROLES
from harness.registry.registry import Registry
from harness.results.role_report import conflicts

LEADERBOARDS = Path(__file__).resolve().parents[3] / "leaderboards"


@pytest.fixture(scope="module", params=["paraisite", "tuned"])
def results(request: pytest.FixtureRequest) -> Results:
    """One that leaks, as the published study does, and one whose settings were searched for."""
    return read_results(LEADERBOARDS / request.param, Registry())


def test_conflicts_are_as_many_as_are_listed(results: Results) -> None:
    uses = RowUses(results)
    for cell in results.cells[::7]:
        tested = uses.tested(cell)
        assert tested is not None
        ledgers = [cell.store.read_ledger(key) for key in cell.planned.chain]
        if cell.planned.tuned:
            ledgers.append(cell.store.read_tuning_ledger(cell.planned.key))
        listed = conflicts(pd.concat(ledgers), tested.frame)["role"].value_counts()
        expected = {role: int(listed[role]) for role in ROLES[:-1] if role in listed}
        assert uses.conflicts(cell, tested.rows) == expected


def test_every_row_of_a_ledger_is_counted_once_per_run(results: Results) -> None:
    uses = RowUses(results)
    for cell in results.cells[::7]:
        for key, sizes in zip(cell.planned.chain, uses.sizes(cell) or (), strict=False):
            ledger = cell.store.read_ledger(key)
            once = ledger.drop_duplicates(["run", "part", "id", "role"])
            counted = once.groupby(["part", "role"]).size() / ledger["run"].nunique()
            assert {(part, role): size for part, role, size in sizes} == counted.to_dict()


def test_cells_that_test_the_same_rows_share_them(results: Results) -> None:
    uses = RowUses(results)
    tested = [uses.tested(cell) for cell in results.cells]
    assert len({id(own.rows) for own in tested if own}) < len(tested)
    for own in tested[::7]:
        assert own is not None
        rows = [own.rows.materials[place][:2] for place in own.rows.of_row]
        assert rows == list(zip(own.frame["part"], own.frame["id"], strict=True))
