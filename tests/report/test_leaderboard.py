"""Tables: mean (std, ddof 1) from result lines; missing and failed cells are seen as such."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.errors import BenchmarkError
from harness.plugin.cell import CELL
from harness.report.differences import Differences
from harness.report.leaderboard import Leaderboard
from harness.report.pivot import read_entry
from harness.report.published import agreement, beside_published, read_published, side_by_side
from harness.report.tables import Wording, number_text
from harness.results.records import PlanFile, PlannedCell, ResultLine
from harness.results.store import Store

BENCHMARK = {
    "name": "test",
    "title": "Test",
    "summary": "",
    "runs": 3,
    "seed": 0,
    "metrics": ["mape"],
    "test_on": ["A", "B"],
    "training": {"epochs": 1, "batch_size": 8, "loss": "mape", "lr": 1e-3, "schedule": "cosine"},
    "training_on": {},
    "rows": {"A": 10},
}


def cell(test_on: str, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "backbone": "megnet",
        "head": "mlp",
        "transfer": "two-stage(source=C)",
        "tuning": "default",
        "protocol": "published [true]",
        "train_on": "A",
        "test_on": test_on,
        "leak_free": False,
        "chain": (key,),
        "weights": None,
    }


def result(cell: dict[str, Any], run: int, value: float | None, failed: int = 0) -> dict[str, Any]:
    scores = {"n": 5, "failed": failed, "mape": value}
    return {
        **{name: cell[name] for name in ("key", *CELL)},
        "run": run,
        "scores": {"all": scores, "overlap-free": scores},
        "stage": cell["key"],
        "train_rows": 14,
        "epochs": 1,
        "best_epoch": 1,
        "skipped_updates": 0,
        "datasets": {
            name: {"digest": "d", "rows": 20} for name in (cell["train_on"], cell["test_on"])
        },
    }


def shown(leaderboard: Leaderboard, test_on: str, subset: str = "all") -> str:
    (row,) = (row for _, row in leaderboard.summary(subset).iterrows() if row["test_on"] == test_on)
    return number_text(read_entry(row, "mape", leaderboard.identity), Wording(), row["runs"])


@pytest.fixture
def leaderboard(tmp_path: Path):
    def make(*lines: dict[str, Any]) -> Leaderboard:
        store = Store(tmp_path)
        cells = (PlannedCell(**cell("A", "ka")), PlannedCell(**cell("B", "kb")))
        store.write_plan(PlanFile(benchmark=BENCHMARK, datasets={}, cells=cells))
        store.append_results([ResultLine(**line) for line in lines])
        return Leaderboard.read(store)

    return make


def test_mean_and_std_over_runs(leaderboard) -> None:
    made = leaderboard(
        *(result(cell("A", "ka"), run, value) for run, value in enumerate((1, 2, 6), start=1))
    )
    row = made.summary().iloc[0]
    assert (row["mape"], row["runs"]) == (3.0, 3)
    assert row["mape_std"] == pytest.approx(7**0.5)
    assert shown(made, "A") == "3.00 (2.65)"


def test_rows_of_a_summary_are_what_the_frame_says(leaderboard) -> None:
    made = leaderboard(
        *(result(cell("A", "ka"), run, value) for run, value in enumerate((1, 2, 6), start=1))
    )
    for subset in ("all", "overlap-free"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(made.summary_rows(subset, "mape")), made.summary(subset, ["mape"])
        )


def test_runs_tell_the_shares_of_rows_trained_and_tested_on(leaderboard) -> None:
    rows = leaderboard(result(cell("B", "kb"), 1, 0.5)).runs
    assert rows["train_share"].tolist() == [0.7, 0.7]
    assert rows["test_share"].tolist() == [0.25, 0.25]


def test_a_single_run_has_no_std(leaderboard) -> None:
    made = leaderboard(result(cell("A", "ka"), 1, 0.5))
    assert shown(made, "A") == "0.50"


def test_a_cell_that_was_not_run_says_so(leaderboard) -> None:
    made = leaderboard(result(cell("A", "ka"), 1, 0.5))
    assert shown(made, "B") == "not run"


def test_a_failed_row_is_shown_never_dropped(leaderboard) -> None:
    good, bad = result(cell("A", "ka"), 1, 0.5), result(cell("A", "ka"), 2, None, failed=2)
    assert shown(leaderboard(good, bad), "A") == "failed (2 rows)"


def test_results_of_another_plan_are_left_out(leaderboard) -> None:
    made = leaderboard(result(cell("A", "old-key"), 1, 0.5))
    assert made.runs.empty


def test_published_cells_stand_beside_ours(leaderboard) -> None:
    made = leaderboard(result(cell("A", "ka"), 1, 0.5))
    known = pd.DataFrame(
        [{"transfer": "two-stage", "train_on": "A", "test_on": t, "metric": "mape", "mean": 0.34,
          "std": 0.15} for t in ("A", "C")]
    )  # fmt: skip
    table = side_by_side(made, known, "mape")
    assert table["test_on"].tolist() == ["A"], "cells that we do not have are left out"
    assert table["published"].tolist() == ["0.34 (0.15)"]
    assert table["published [true]"].tolist() == ["0.50, 1 of 3 runs, +1.1 σ"]
    cells = beside_published(made, known, "mape")
    assert agreement(cells, "published [true]") == (0, 1, 1)


def test_an_unknown_metric_gets_a_suggestion(leaderboard) -> None:
    with pytest.raises(BenchmarkError, match=r"no metric 'mapee'. Did you mean 'mape'"):
        leaderboard().check_metric("mapee")


def test_missing_published_cells_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"published.csv, are missing"):
        read_published(tmp_path / "published.csv")


def test_too_few_rows_say_so_instead_of_a_number(leaderboard) -> None:
    line = result(cell("A", "ka"), 1, 0.5)
    few = {**line["scores"]["all"], "n": 2}
    made = leaderboard({**line, "scores": {"all": line["scores"]["all"], "overlap-free": few}})
    assert shown(made, "A") == "0.50"
    assert shown(made, "A", "overlap-free") == "too few rows (n 2.0)"
    assert made.summary("overlap-free")["mape"].isna().all()


AGAINST = {
    ("scratch", "A", "A"): [0.3, 0.4, 0.5],
    ("scratch", "B", "A"): [0.5, 0.4, 0.5],
    ("pretrained", "A", "A"): [0.2, 0.3, 0.5],
    ("pretrained", "B", "A"): [0.4, 0.3, 0.45],
}


def test_gains_are_of_the_cells_asked_for_over_a_baseline_that_may_not_be(
    make_leaderboard, metrics
) -> None:
    leaderboard = make_leaderboard(AGAINST)
    only = {"transfer": ["pretrained"], "train_on": ["B"]}
    gained = Differences(leaderboard, metrics["mape"]).gains({"transfer": "scratch"}, only=only)
    assert gained[["transfer", "train_on"]].to_numpy().tolist() == [["pretrained", "B"]]
    assert (gained["p_holm"] > gained["p"]).all(), "corrected for the leaderboard, shown or not"


def test_a_baseline_is_completed_with_what_goes_with_it(make_leaderboard) -> None:
    made = make_leaderboard(AGAINST)
    forest = {**made.cells[0], "backbone": "composition", "head": "forest", "transfer": "baseline"}
    leaderboard = replace(made, cells=(*made.cells, forest))
    assert leaderboard.find_baseline({"transfer": "scratch"}) == {"transfer": "scratch"}
    found = leaderboard.find_baseline({"head": "forest"})
    assert (found["backbone"], found["transfer"]) == ("composition", "baseline")
    with pytest.raises(BenchmarkError, match=r"No cell has head 'forrest'\. Did you mean 'forest'"):
        leaderboard.find_baseline({"head": "forrest"})
