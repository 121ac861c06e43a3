"""Cells laid out in rows and columns: nothing lost, the best told from what is as good."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import BenchmarkError
from harness.plugin.cell import CELL
from harness.report.differences import Differences
from harness.report.pivot import Layout, pivot
from harness.report.tables import legend

BARRED = ("pretrained", "A", "A")
layouts = st.permutations(CELL).flatmap(
    lambda order: st.tuples(st.integers(1, len(CELL)), st.integers(0, len(CELL))).map(
        lambda cut: Layout(
            columns=tuple(order[: cut[0]]), rows=tuple(order[cut[0] : cut[0] + cut[1]])
        )
    )
)


@pytest.fixture(scope="session")
def small_leaderboard(make_leaderboard):
    places = product(("scratch", "pretrained"), ("A", "B", "C"), ("A", "B"))
    return make_leaderboard(
        {place: [0.1 * i, 0.3, 0.2] for i, place in enumerate(places) if place != BARRED}
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(layouts)
def test_any_layout_shows_every_cell_once(small_leaderboard, metrics, layout: Layout) -> None:
    table = pivot(small_leaderboard, metrics, layout)
    shown = [entry for _, row in table.lines() for entry in row if entry]
    assert sorted(entry.name for entry in shown) == sorted(
        tuple(cell.values()) for cell in small_leaderboard.cells
    )
    means = {
        tuple(row[c] for c in CELL): row["mape"]
        for _, row in small_leaderboard.summary().iterrows()
    }
    assert all(entry.mean == means[entry.name] for entry in shown)


def test_rows_with_equal_heads_stand_together(shipped_leaderboard, metrics) -> None:
    table = pivot(shipped_leaderboard, metrics, Layout(rows=("train_on", "transfer")))
    firsts = [key[0] for key in table.row_keys]
    assert firsts == sorted(firsts, key=firsts.index)
    assert len(dict.fromkeys(firsts)) < len(firsts)


def test_what_varies_and_is_not_named_joins_the_rows(shipped_leaderboard, metrics) -> None:
    table = pivot(shipped_leaderboard, metrics, Layout(rows=("transfer",)))
    assert table.layout.rows == ("transfer", "backbone", "head", "train_on")
    assert table.same["protocol"] == "strict"
    assert not set(table.same) & set(table.layout.rows)


def test_a_head_of_rows_is_always_there(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard({("scratch", "A", "A"): [0.3, 0.5]})
    table = pivot(leaderboard, metrics, Layout(columns=("transfer", "train_on", "test_on")))
    assert table.layout.rows == ("backbone",)
    assert pivot(leaderboard, metrics, Layout(columns=CELL)).layout.rows == ("metric",)


def test_several_metrics_stand_side_by_side(shipped_leaderboard, metrics) -> None:
    table = pivot(shipped_leaderboard, metrics, Layout(metrics=("mape", "mae-log")))
    assert table.layout.columns == ("metric", "test_on")
    assert [key[0] for key in table.column_keys] == ["mape"] * 3 + ["mae-log"] * 3


def test_values_are_chosen_by_column(shipped_leaderboard, metrics) -> None:
    only = {"transfer": ["scratch", "pretrained"], "test_on": ["Dataset1"]}
    shown = pivot(shipped_leaderboard, metrics, Layout(only=only)).frame()
    assert set(shown["transfer"]) == {"scratch", "pretrained"}
    assert set(shown["test_on"]) == {"Dataset1"}


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (Layout(rows=("transfers",)), "no column 'transfers'. Did you mean 'transfer'"),
        (Layout(rows=("test_on",)), "Named twice among rows and columns: test_on"),
        (Layout(columns=()), "at least one column"),
        (Layout(metrics=("mapee",)), "no metric 'mapee'. Did you mean 'mape'"),
        (Layout(subset="some"), "No subset 'some'"),
        (Layout(only={"transfer": ["scrath"]}), "transfer 'scrath'. Did you mean 'scratch'"),
        (Layout(only={"metric": ["mape"]}), "no column 'metric'"),
        (
            Layout(only={"transfer": ["scratch"], "head": ["nearest"]}),
            "has all of transfer=scratch, head=nearest",
        ),
    ],
)
def test_what_there_is_not_is_named(
    shipped_leaderboard, metrics, layout: Layout, said: str
) -> None:
    with pytest.raises(BenchmarkError, match=said):
        pivot(shipped_leaderboard, metrics, layout)


def entries(table):
    return {(e.cell["transfer"], e.cell["test_on"]): e for e in table.entries.values()}


def test_the_best_and_what_is_not_told_from_it_are_marked(make_leaderboard, metrics) -> None:
    found = entries(pivot(make_leaderboard({
        ("scratch", "A", "A"): [0.30, 0.50, 0.40],
        ("close", "A", "A"): [0.50, 0.31, 0.42],
        ("worse", "A", "A"): [0.91, 1.10, 1.01],
    }), metrics))  # fmt: skip
    marks = {name: (entry.best, entry.undecided) for (name, _), entry in found.items()}
    assert marks == {"scratch": (True, False), "close": (False, True), "worse": (False, False)}


def test_higher_may_be_better(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard(
        {("scratch", "A", "A"): [0.3, 0.5], ("other", "A", "A"): [0.9, 0.8]}
    )
    table = pivot(leaderboard, {"mape": replace(metrics["spearman"], name="mape")})
    assert entries(table)["other", "A"].best


def test_equal_cells_are_both_best(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard(
        {("scratch", "A", "A"): [0.3, 0.5], ("again", "A", "A"): [0.3, 0.5]}
    )
    assert all(entry.best for entry in pivot(leaderboard, metrics).entries.values())


def test_only_cells_tested_on_the_same_data_compete(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard(
        {("scratch", "A", "A"): [0.3, 0.5], ("scratch", "A", "B"): [0.1, 0.1]}
    )
    table = pivot(leaderboard, metrics, Layout(rows=("test_on",), columns=("transfer",)))
    assert not any(entry.best for entry in table.entries.values()), "each is alone in its family"


def test_a_cell_that_lacks_runs_is_never_the_best(make_leaderboard, metrics) -> None:
    found = entries(pivot(make_leaderboard({
        ("scratch", "A", "A"): [0.3, 0.5, 0.4],
        ("other", "A", "A"): [0.4, 0.6, 0.5],
        ("lucky", "A", "A"): [0.1],
    }), metrics))  # fmt: skip
    assert found["scratch", "A"].best
    assert not found["lucky", "A"].best
    assert not found["lucky", "A"].undecided


def test_after_one_run_nothing_is_tied(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard(
        {("scratch", "A", "A"): [0.3], ("other", "A", "A"): [0.31]}, planned=1
    )
    marks = [(e.best, e.undecided) for e in pivot(leaderboard, metrics).entries.values()]
    assert marks == [(True, False), (False, False)]


def test_cells_on_different_rows_do_not_compete(make_leaderboard, metrics) -> None:
    scores = {("scratch", "A", "A"): [0.3, 0.5], ("other", "A", "A"): [0.9, 0.8]}
    table = pivot(make_leaderboard(scores, overlap_free=9), metrics, Layout(subset="overlap-free"))
    assert table.incomparable == ("A → A",)
    assert not any(entry.best for entry in table.entries.values())


def test_every_table_says_how_many_test_rows_were_trained_on(make_leaderboard, metrics) -> None:
    scores = {
        ("scratch", "A", "A"): [0.3, 0.5],
        ("other", "A", "A"): [0.9, 0.8],
        ("other", "A", "B"): [],
    }
    leaderboard = make_leaderboard(scores, overlap_free=9)
    table = pivot(leaderboard, metrics)
    assert table.overlap == {("A", "A"): pytest.approx(0.55)}
    (said,) = [line for line in legend(table, "*", "~") if "trained on: " in line]
    assert "A → A 55%" in said
    rest = pivot(leaderboard, metrics, Layout(subset="overlap-free"))
    assert rest.overlap == {}
    assert not any("trained on" in line for line in legend(rest, "*", "~"))
    assert pivot(make_leaderboard(scores), metrics).overlap == {}


@pytest.mark.parametrize(("free", "is_best"), [(10, True), (9, False)])
def test_a_cell_mostly_trained_on_is_never_the_best(
    make_leaderboard, metrics, free: int, is_best: bool
) -> None:
    scores = {("scratch", "A", "A"): [0.3, 0.31, 0.3], ("pretrained", "A", "A"): [0.05, 0.05, 0.06]}
    table = pivot(make_leaderboard(scores, overlap_free=free), metrics)
    by_transfer = {entry.cell["transfer"]: entry for entry in table.entries.values()}
    assert by_transfer["pretrained"].best is is_best
    assert not by_transfer["pretrained"].undecided
    assert any("more than half of the test rows" in line for line in legend(table, "", "")) is (
        not is_best
    )
    assert not by_transfer["scratch"].is_mostly_trained_on


def test_failed_and_missing_cells_say_so(make_leaderboard, metrics) -> None:
    found = entries(pivot(make_leaderboard({
        ("scratch", "A", "A"): [0.3, 0.5],
        ("broken", "A", "A"): [0.3, None],
        ("waiting", "A", "A"): [],
    }), metrics))  # fmt: skip
    states = {name: entry.state for (name, _), entry in found.items()}
    assert states == {"scratch": "scored", "broken": "failed", "waiting": "not run"}
    assert math.isnan(found["broken", "A"].mean)
    assert found["broken", "A"].failed == 1


def test_too_few_rows_are_no_number(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard({("scratch", "A", "A"): [0.3, 0.5]}, n=2)
    (entry,) = pivot(leaderboard, metrics).entries.values()
    assert entry.state == "too few rows"


def test_negative_transfer_is_that_of_the_table_of_gains(shipped_leaderboard, metrics) -> None:
    shown = pivot(shipped_leaderboard, metrics).frame()
    gained = Differences(shipped_leaderboard, metrics["mae-log"]).gains()
    expected = {tuple(row[c] for c in CELL) for _, row in gained[gained["negative"]].iterrows()}
    assert expected
    marked = {tuple(row[c] for c in CELL) for _, row in shown[shown["negative"]].iterrows()}
    assert marked == expected


def test_a_transfer_without_scratch_has_no_gain(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard(
        {("pretrained", "A", "A"): [0.3, 0.5], ("other", "A", "A"): [0.2, 0.3]}
    )
    assert all(entry.gain is None for entry in pivot(leaderboard, metrics).entries.values())


def test_numbers_come_as_a_matrix(shipped_leaderboard, metrics) -> None:
    table = pivot(shipped_leaderboard, metrics, Layout(only={"transfer": ["scratch"]}))
    numbers = table.matrix("mean")
    assert list(numbers.columns) == ["Dataset1", "Dataset2", "MIX"]
    assert numbers.index.names == list(table.layout.rows)
    flat = list(chain.from_iterable(numbers.to_numpy()))
    assert flat == [e.mean for _, row in table.lines() for e in row if e]
