"""What rows of finished results were used for: conflicts are found, missing ledgers are named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness import api
from harness.errors import StoreError
from harness.results.role_report import conflicts, role_counts, roles_of_row
from harness.results.store import Store

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = [{ head = "mean-log" }]
heads = [{ name = "mlp", hidden = [8] }]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 1
"""


@pytest.fixture
def store(tmp_path: Path, tiny: Path) -> Store:
    path = tmp_path / "toy" / "benchmark.toml"
    path.parent.mkdir()
    path.write_text(BENCHMARK)
    api.run(path, plugins=[tiny])
    return Store(path.parent)


def test_conflicts_are_test_rows_with_another_role() -> None:
    ledger = pd.DataFrame(
        [(1, "D", "a", "gradient"), (1, "D", "b", "selection"), (2, "D", "a", "scaler")],
        columns=["run", "part", "id", "role"],
    )
    tested = pd.DataFrame({"run": [1, 1, 2], "part": ["D", "E", "D"], "id": ["b", "a", "c"]})
    assert conflicts(ledger, tested).to_numpy().tolist() == [[1, "D", "b", "selection"]]
    assert conflicts(ledger, tested.assign(id="other")).empty


def test_counts_and_rows_agree(store: Store) -> None:
    counts = role_counts(store)
    assert len(counts) == 4
    assert (counts.filter(like="test and ") == 0).all(axis=None)
    tested = store.read_predictions(store.read_results()[0].key)
    row = tested.iloc[0]["id"]
    found = roles_of_row(store, row)
    assert "test" in set(found["role"])
    assert roles_of_row(store, "no such row").empty


def test_a_missing_ledger_is_named(store: Store) -> None:
    for path in store.folder.glob("stages/*/ledger.parquet"):
        path.unlink()
    for ask in (role_counts, lambda folder: roles_of_row(folder, "LiF")):
        with pytest.raises(StoreError, match=r"ledger\.parquet is missing\. Restore the file"):
            ask(store)
