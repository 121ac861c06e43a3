"""One family of tests per leaderboard: what it holds, and that every place tells the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import api
from harness.errors import BenchmarkError, StoreError
from harness.plugin.cell import CELL
from harness.plugin.metric import MetricSpec
from harness.registry.registry import Registry
from harness.report.comparison import Side, compare
from harness.report.differences import Differences
from harness.report.leaderboard import Leaderboard
from harness.report.markdown import gain_table
from harness.report.pivot import pivot
from harness.results.store import Store
from harness.scoring.scores import SUBSETS
from harness.scoring.statistics import SIGNIFICANT, corrected_t_test, holm, paired_gain
from harness_properties import KAPPA

MAPE = MetricSpec("mape", "MAPE", "", higher_is_better=False, function=lambda *_: 0.0)


def rows_of(transfer: str, values: Sequence[float], test_on: str = "A", **cell: str) -> list[dict]:
    names = {"backbone": "megnet", "head": "mlp", "tuning": "default", "protocol": "strict"}
    names |= {"train_on": "A", **cell, "transfer": transfer, "test_on": test_on}
    sizes = {"train_rows": 70, "train_share": 0.7, "test_share": 0.2, "skipped": 0}
    return [
        {**names, "run": run, **sizes, "subset": subset, "n": 20, "failed": 0, "mape": value}
        for run, value in enumerate(values, start=1)
        for subset in SUBSETS
    ]


def leaderboard_of(*cells: list[dict]) -> Leaderboard:
    runs = pd.DataFrame([row for cell in cells for row in cell])
    names: list[Any] = runs[list(CELL)].drop_duplicates().to_dict("records")
    settings = {"seed": 0, "runs": 3}
    return Leaderboard("mine", "", settings, KAPPA.name, ("mape",), {}, {}, tuple(names), runs)


def table(*cells: list[dict], subset: str = "all", **options) -> pd.DataFrame:
    return Differences(leaderboard_of(*cells), MAPE, subset).gains(**options)


SCRATCH = rows_of("scratch", [0.5, 0.6, 0.9])
PRETRAINED = rows_of("pretrained", [0.4, 0.4, 0.8])


# --- one family ------------------------------------------------------------------------------


CLOSE = rows_of("close", [0.41, 0.39, 0.82])
WORSE = rows_of("worse", [1.5, 1.6, 1.8])


def name_of(transfer: str) -> tuple[str, ...]:
    return "megnet", "mlp", transfer, "default", "strict", "A", "A"


def test_the_family_is_what_the_leaderboard_asks_gains_over_scratch() -> None:
    made = Differences(leaderboard_of(SCRATCH, PRETRAINED, CLOSE, WORSE), MAPE)
    assert made.best == {name_of("pretrained")}
    assert (made.tests, made.family) == (3, "gains over scratch")
    found = made.between(name_of("pretrained"), name_of("scratch"))
    gain = paired_gain([0.4, 0.4, 0.8], [0.5, 0.6, 0.9], False, 0.7, 0.2)
    assert (found.gain, found.tests) == (gain, 3)


def test_without_scratch_the_family_is_differences_from_the_best() -> None:
    made = Differences(leaderboard_of(PRETRAINED, CLOSE, WORSE), MAPE)
    assert (made.tests, made.family.partition(" of")[0]) == (2, "differences from the best")


def test_a_difference_has_one_p_from_either_side() -> None:
    made = Differences(leaderboard_of(SCRATCH, PRETRAINED, CLOSE, WORSE), MAPE)
    forth = made.between(name_of("close"), name_of("worse"))
    back = made.between(name_of("worse"), name_of("close"))
    assert forth.p_holm == back.p_holm and forth.gain.mean == -back.gain.mean


def test_a_difference_that_nobody_planned_counts_as_one_further_test() -> None:
    made = Differences(leaderboard_of(SCRATCH, PRETRAINED, CLOSE, WORSE), MAPE)
    pairs = [("pretrained", "scratch"), ("close", "scratch"), ("worse", "scratch")]
    planned = [made.between(*map(name_of, pair)) for pair in pairs]
    assert [found.p_holm for found in planned] == pytest.approx(
        holm([found.gain.p for found in planned])
    )
    asked = made.between(name_of("worse"), name_of("close"))
    assert asked.tests == 4
    assert asked.p_holm == holm([*(found.gain.p for found in planned), asked.gain.p])[-1]


def test_what_is_shown_of_a_leaderboard_does_not_change_its_verdicts() -> None:
    leaderboard = leaderboard_of(SCRATCH, PRETRAINED, CLOSE, WORSE)
    whole = Differences(leaderboard, MAPE).gains()
    one = Differences(leaderboard, MAPE).gains(only={"transfer": ["close"]})
    expected = whole[whole["transfer"] == "close"].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, expected)


def test_only_the_best_of_the_same_training_set_is_the_measure() -> None:
    elsewhere = rows_of("frozen", [9.1, 9.2, 9.0], train_on="B")
    better = rows_of("scratch", [1.0, 1.3, 1.1], train_on="B")
    made = Differences(leaderboard_of(SCRATCH, PRETRAINED, elsewhere, better), MAPE)
    best = {name[2] + " " + name[5] for name in made.best}
    assert best == {"pretrained A", "scratch B"}


LEADERBOARDS = Path(__file__).resolve().parents[2] / "leaderboards"


@pytest.mark.parametrize("name", ["strict", "learn-first"])
def test_every_place_tells_the_same_of_a_difference(name: str, metrics) -> None:
    """Tables and figures (the pivot), table.md, `--against` and `compare`, of the gains."""
    store = Store(LEADERBOARDS / name)
    leaderboard, spec = Leaderboard.read(store), metrics["mae-log"]
    differences = Differences(leaderboard, spec)
    gained = differences.gains()
    texts = gain_table(gained)["verdict"].tolist()
    against = Differences(leaderboard, spec).gains(
        leaderboard.find_baseline({"transfer": "scratch"}), only={"transfer": ["pretrained"]}
    )
    beside = compare(
        Side.read(store, {"transfer": "scratch"}),
        Side.read(store, {"transfer": "pretrained"}),
        spec,
    ).cells.set_index(["backbone", "head", "train_on", "test_on"])
    entries = {e.name: e for e in pivot(leaderboard, metrics).entries.values()}
    seen = 0
    for text, (_, row) in zip(texts, gained.iterrows(), strict=True):
        cell = tuple(row[column] for column in CELL)
        judged = differences.between(cell, (*cell[:2], "scratch", *cell[3:]))
        assert judged.p_holm == row["p_holm"] or math.isnan(judged.p_holm)
        entry = entries[cell]
        assert entry.stands == (row["p_holm"] < SIGNIFICANT)
        if judged.verdict.startswith("worse"):
            assert entry.negative
            assert f"among {differences.tests} tests" in text
        if row["transfer"] == "pretrained":
            (again,) = against[(against[list(CELL)] == list(cell)).all(axis=1)]["p_holm"]
            other: Any = beside.loc[(row["backbone"], row["head"], row["train_on"], row["test_on"])]
            assert again == row["p_holm"] == pytest.approx(other["p_holm"])
            assert other["tests"] == row["tests"] == differences.tests
            seen += 1
    assert seen >= 8


# --- gains -----------------------------------------------------------------------------------


def test_every_other_cell_is_compared_with_its_scratch() -> None:
    elsewhere = [
        rows_of("scratch", [1.0, 1.1, 1.4], test_on="B"),
        rows_of("pretrained", [1.3, 1.41, 1.7], test_on="B"),
    ]
    made = table(SCRATCH, PRETRAINED, *elsewhere)
    assert list(made.columns) == [
        *CELL, "runs", "gain", "low", "high", "p", "p_holm", "tests", "negative"
    ]  # fmt: skip
    assert made["transfer"].tolist() == ["pretrained"] * 2
    assert made["test_on"].tolist() == ["A", "B"]
    assert made["gain"].tolist() == pytest.approx([0.4 / 3, -0.91 / 3])
    assert made["negative"].tolist() == [False, True]
    assert made["p"][0] == pytest.approx(corrected_t_test([0.1, 0.2, 0.1], 70, 20).p)
    assert made["tests"].tolist() == [2, 2]
    assert made["p_holm"].tolist() == pytest.approx(holm(made["p"]))


def test_runs_are_paired_by_their_number_not_their_place() -> None:
    shuffled = table(SCRATCH[::-1], PRETRAINED)
    pd.testing.assert_frame_equal(shuffled, table(SCRATCH, PRETRAINED))


def test_another_cell_changes_no_interval() -> None:
    alone = table(SCRATCH, PRETRAINED)
    other, family = rows_of("two-stage(source=C)", [0.1, 0.3, 0.2]), ["p_holm", "tests"]
    made = table(SCRATCH, other, PRETRAINED).iloc[[1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(made.drop(columns=family), alone.drop(columns=family))
    assert made["p_holm"][0] >= alone["p_holm"][0]


def test_trivial_baselines_are_compared_with_nothing_but_may_be_the_measure() -> None:
    nearest = rows_of("baseline", [0.6, 0.5, 0.7], backbone="composition", head="nearest")
    cells = (SCRATCH, PRETRAINED, nearest)
    assert table(*cells)["transfer"].tolist() == ["pretrained"]
    named = {"backbone": "composition", "head": "nearest", "transfer": "baseline"}
    made = table(*cells, baseline=named)
    assert made["transfer"].tolist() == ["scratch", "pretrained"]
    assert made["gain"].tolist() == pytest.approx([-0.2 / 3, 0.2 / 3])


def test_a_failed_run_is_shown_and_leaves_the_family() -> None:
    failed = rows_of("two-stage(source=C)", [0.1, math.nan, 0.2])
    made = table(SCRATCH, PRETRAINED, failed)
    assert math.isnan(made["gain"][1]) and math.isnan(made["p_holm"][1])
    assert made["p_holm"][0] == made["p"][0]


def test_only_the_asked_subset_is_compared() -> None:
    cells = [
        [row | ({"mape": 9.0} if row["subset"] == "overlap-free" else {}) for row in cell]
        for cell in (SCRATCH, PRETRAINED)
    ]
    assert table(*cells)["gain"][0] == pytest.approx(0.4 / 3)
    assert table(*cells, subset="overlap-free")["gain"][0] == 0


def test_a_table_of_scratch_alone_has_no_gains() -> None:
    assert table(SCRATCH).empty


def test_missing_runs_are_named() -> None:
    cells = "the cell megnet, mlp, {}, strict, A → A"
    lacks = r"{} cannot be compared with its baseline {}: {} lacks run 2, 3"
    names = cells.format("pretrained"), cells.format("scratch")
    with pytest.raises(StoreError, match=lacks.format(*names, names[0])):
        table(SCRATCH, PRETRAINED[:2])
    with pytest.raises(StoreError, match=lacks.format(*names, names[1])):
        table(SCRATCH[:2], PRETRAINED)


def test_a_baseline_that_was_not_run_is_named() -> None:
    with pytest.raises(StoreError, match=r"scratch, strict, A → A, the baseline of .* has no run"):
        table(PRETRAINED)


def test_a_run_with_two_results_is_refused() -> None:
    with pytest.raises(StoreError, match=r"pretrained, .* more than one result of run 1"):
        table(SCRATCH, PRETRAINED + PRETRAINED[:2])


def test_a_baseline_by_an_unknown_column_gets_a_suggestion() -> None:
    with pytest.raises(BenchmarkError, match=r"'transfers'. Did you mean 'transfer'"):
        table(SCRATCH, baseline={"transfers": "scratch"})


def test_gains_of_a_real_run(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "benchmark.toml").write_text(
        'train_on = ["Toy"]\ntest_on = ["Toy", "ToyAndTwins"]\nbackbones = ["tiny"]\n'
        'heads = [{ name = "mlp", hidden = [16] }]\nruns = 3\nmetrics = ["mae-log"]\n'
        'transfers = ["scratch", '
        '{ name = "two-stage", source = "Source", source_start = "random" }]\n'
        'baselines = []\n[training]\nepochs = 2\nloss = "mae-log"\n'
    )
    leaderboard = api.run(tmp_path, plugins=[tiny])
    made = Differences(leaderboard, Registry().metrics["mae-log"]).gains()
    assert made["test_on"].tolist() == ["Toy", "ToyAndTwins"]
    assert made["gain"].notna().all() and made["p_holm"].between(0, 1).all()
    assert leaderboard.runs["train_share"].to_numpy() == pytest.approx(0.7, abs=0.03)
    assert leaderboard.runs["test_share"].to_numpy() == pytest.approx(0.2, abs=0.03)
