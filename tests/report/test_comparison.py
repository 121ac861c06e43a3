"""Two sides compared: paired by run on the same rows, or it says why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.errors import BenchmarkError
from harness.report.comparison import (
    COMPARED,
    OTHER_ROWS,
    SAME_CONFIGURATION,
    UNCHECKED_ROWS,
    Side,
    compare,
    comparison_table,
)
from harness.report.differences import Differences
from harness.results.store import Store

SCRATCH, PRETRAINED = {"transfer": "scratch"}, {"transfer": "pretrained"}


@pytest.fixture
def copied(shipped: Store, tmp_path: Path) -> Store:
    """A copy of real results, without the stages."""
    for name in ("plan.json", "results.jsonl", "predictions.parquet"):
        shutil.copy(shipped.folder / name, tmp_path / name)
    return Store.create(tmp_path)


def test_a_leaderboard_equals_itself(shipped: Store, metrics) -> None:
    side = Side.read(shipped)
    found = compare(side, side, metrics["mae-log"])
    assert (len(found.cells), found.only_a, found.only_b, found.settings) == (81, 0, 0, {})
    assert set(found.cells["state"]) == {SAME_CONFIGURATION}
    assert found.cells["p"].isna().all(), "what is only repeated is no test"
    assert set(comparison_table(found)["note"]) == {"same configuration, equal in all runs"}


def test_gains_are_those_over_the_baseline(shipped: Store, shipped_leaderboard, metrics) -> None:
    sides = Side.read(shipped, SCRATCH), Side.read(shipped, PRETRAINED)
    found = compare(*sides, metrics["mae-log"]).cells
    gained = Differences(shipped_leaderboard, metrics["mae-log"]).gains()
    gained = gained[gained["transfer"] == "pretrained"]
    both = found.merge(gained, on=["backbone", "head", "train_on", "test_on"])
    assert len(both) == len(found) > 0
    for column in ("gain", "low", "high", "p", "p_holm"):
        np.testing.assert_allclose(both[f"{column}_x"], both[f"{column}_y"])
    assert set(found["state"]) == {COMPARED}


def test_runs_that_disagree_are_named(shipped: Store, metrics) -> None:
    sides = Side.read(shipped, SCRATCH), Side.read(shipped, PRETRAINED)
    found = compare(*sides, metrics["mae-log"])
    for _, row in found.cells.iterrows():
        assert sorted((*row["for_a"], *row["for_b"], *row["equal"])) == list(range(1, 10))
    table = comparison_table(found)
    against = found.cells.apply(
        lambda row: row["for_a"] if row["gain"] > 0 else row["for_b"], axis=1
    )
    assert table["against"].tolist() == [" ".join(map(str, runs)) for runs in against]


def test_a_changed_score_is_a_run_that_differs(shipped: Store, copied: Store, metrics) -> None:
    lines = copied.read_results()
    lines[3].scores["all"]["mae-log"] += 0.01
    copied.replace_results([lines[3]])
    found = compare(Side.read(shipped), Side.read(copied), metrics["mae-log"])
    notes = comparison_table(found)["note"]
    assert list(notes[notes.str.contains("differ")]) == [
        f"same configuration, runs differ: {lines[3].run}"
    ]


def test_other_test_rows_are_not_paired(copied: Store, metrics) -> None:
    sides = Side.read(copied, SCRATCH), Side.read(copied, PRETRAINED)
    (cell, *_) = sides[1].cells(["train_on", "test_on", "backbone"]).values()
    rows = copied.read_predictions(cell.key)
    copied.write_predictions(cell.key, rows.assign(target=rows["target"] * 2))
    states = compare(*sides, metrics["mae-log"]).cells.set_index(
        ["backbone", "train_on", "test_on"]
    )["state"]
    changed = states.loc[(cell.backbone, cell.train_on, cell.test_on)]
    assert changed == OTHER_ROWS
    assert (states == COMPARED).sum() == len(states) - 1


def test_rows_that_are_not_at_hand_are_named(copied: Store, metrics) -> None:
    (copied.folder / "predictions.parquet").unlink()
    sides = Side.read(copied, SCRATCH), Side.read(copied, PRETRAINED)
    found = compare(*sides, metrics["mae-log"]).cells
    assert set(found["state"]) == {UNCHECKED_ROWS}
    assert found["p"].notna().all()


def test_settings_that_differ_are_told(shipped: Store, metrics) -> None:
    strict = Store(shipped.folder.parent / "strict")
    sides = Side.read(shipped, {"transfer": "scratch"}), Side.read(strict, {"transfer": "scratch"})
    found = compare(*sides, metrics["mae-log"])
    sources = ("AFLOW-14", "AFLOW-14-bulk-modulus", "AFLOW-14-debye-temperature")
    of_sources = {f"training_on.{name}.epochs": (40, None) for name in sources}
    assert found.settings == {"training_on.AFLOW.epochs": (None, 20), **of_sources}
    assert found.only_b > 0


def test_a_side_is_named_by_a_label_too(shipped: Store, metrics) -> None:
    ways = ("scratch", "pretrained")
    one, other = (Side.read(shipped, {"model": f"megnet {way}"}) for way in ways)
    found = compare(one, other, metrics["mae-log"])
    one, other = (Side.read(shipped, {"backbone": "megnet", "transfer": way}) for way in ways)
    expected = compare(one, other, metrics["mae-log"])
    assert found.names == ("learn-first (megnet scratch)", "learn-first (megnet pretrained)")
    assert found.cells["gain"].tolist() == expected.cells["gain"].tolist()
    with pytest.raises(BenchmarkError, match="No configuration is called 'megnt scratch'"):
        Side.read(shipped, {"model": "megnt scratch"})


def test_what_cannot_be_compared_says_why(shipped: Store, metrics) -> None:
    with pytest.raises(BenchmarkError, match="Did you mean 'transfer'"):
        Side.read(shipped, {"transfers": "scratch"})
    with pytest.raises(BenchmarkError, match="Did you mean 'scratch'"):
        Side.read(shipped, {"transfer": "scrath"})
    with pytest.raises(BenchmarkError, match="say of both sides which transfer is meant"):
        compare(Side.read(shipped, SCRATCH), Side.read(shipped), metrics["mae-log"])
    other = Store(shipped.folder.parent / "paraisite")
    with pytest.raises(BenchmarkError, match="no cell in common"):
        compare(Side.read(shipped), Side.read(other), metrics["mae-log"])
