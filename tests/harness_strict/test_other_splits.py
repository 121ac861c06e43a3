"""k-fold and leave-one-out: groups stay whole, in all datasets, and runs are what they say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.apps.testing.crystals import binary_crystal, reordered, supercell
from harness.plugin import BenchmarkError, BenchmarkRows, DataError, Split
from harness_strict.folds import FoldRules, FoldSettings
from harness_strict.left_out import LEFT_OUT, LeftOutRules, LeftOutSettings
from harness_strict.prototypes import prototype

steady = settings(deadline=None, derandomize=True, max_examples=60)

KINDS = ("element", "chemical-system", "prototype", "target-quantile")
GROUPS = st.lists(st.integers(0, 30).map("F{}".format), min_size=8, max_size=120).filter(
    lambda groups: len(set(groups)) >= 5
)
SEEDS = st.integers(0, 2**63 - 1)
SIDES = ("train", "validation", "test")
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["One", "Two", "Three"]),
        st.sampled_from(["Na", "K", "Mg", "Ca", "Al"]),
        st.sampled_from(["O", "S", "Cl", "F", "N"]),
        st.integers(0, 2),
        st.floats(0.1, 100.0),
    ),
    min_size=12,
    max_size=60,
)


def rows_of(drawn: list[tuple[str, str, str, int, float]]) -> BenchmarkRows:
    return BenchmarkRows(
        tuple(row[0] for row in drawn),
        tuple(binary_crystal((row[1], row[2]), row[3]) for row in drawn),
        np.array([row[4] for row in drawn]),
        np.array([row[0] != "Three" for row in drawn]),
    )


def left_out(**given: Any) -> LeftOutRules:
    return LeftOutRules(LeftOutSettings(**given))


def folded(groups: list[str], seed: int, folds: int, repeats: int) -> list[Split]:
    rules = FoldRules(FoldSettings(folds=folds))
    return [rules.split(groups, run, seed) for run in range(1, folds * repeats + 1)]


@steady
@given(GROUPS, SEEDS, st.integers(2, 5))
def test_every_row_is_tested_exactly_once_per_repeat(
    groups: list[str], seed: int, folds: int
) -> None:
    splits = folded(groups, seed, folds, repeats=2)
    for repeat in (splits[:folds], splits[folds:]):
        tested = np.concatenate([split.test for split in repeat])
        assert sorted(tested) == list(range(len(groups)))


@steady
@given(GROUPS, SEEDS, st.integers(2, 5))
def test_folds_keep_groups_whole_and_every_side_filled(
    groups: list[str], seed: int, folds: int
) -> None:
    for split in folded(groups, seed, folds, repeats=1):
        sides = [{groups[row] for row in getattr(split, side)} for side in SIDES]
        assert all(sides)
        assert sum(map(len, sides)) == len(set(groups))


@steady
@given(GROUPS, SEEDS, st.integers(2, 5))
def test_folds_differ_by_the_largest_group_at_most(
    groups: list[str], seed: int, folds: int
) -> None:
    sizes = [len(split.test) for split in folded(groups, seed, folds, repeats=1)]
    assert max(sizes) - min(sizes) <= max(Counter(groups).values())


@steady
@given(GROUPS, SEEDS, st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_rows(groups: list[str], seed: int, rng: Any) -> None:
    shuffled = rng.sample(groups, len(groups))
    for one, other in zip(folded(groups, seed, 3, 1), folded(shuffled, seed, 3, 1), strict=True):
        for side in SIDES:
            assert {groups[row] for row in getattr(one, side)} == {
                shuffled[row] for row in getattr(other, side)
            }


def test_repeats_cut_other_folds() -> None:
    splits = folded([f"F{number}" for number in range(40)], 0, 4, repeats=2)
    assert not any(np.array_equal(splits[0].test, split.test) for split in splits[4:])


def test_runs_that_are_no_whole_repeats_are_refused_with_those_that_are() -> None:
    rules = FoldRules(FoldSettings(folds=4))
    with pytest.raises(BenchmarkError, match=r"runs = 9: .* a multiple of 4.* 8 or 12"):
        rules.name_runs(9, rows_of([]))
    assert rules.name_runs(8, rows_of([]))[4] == "repeat 2, fold 1"


def test_fewer_groups_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="fewer folds"):
        FoldRules(FoldSettings(folds=5)).split(["A", "B", "C", "D"] * 3, 1, 0)


@pytest.mark.parametrize("rules", [FoldRules(FoldSettings(keep=0.5)), left_out(keep=0.5)])
def test_less_training_rows_are_part_of_more(rules: Any) -> None:
    groups = [f"F{number}" for number in range(40)] + [LEFT_OUT + "Si"] * 5
    whole = type(rules)(type(rules.settings)()).split(groups, 1, 0)
    half = rules.split(groups, 1, 0)
    assert set(half.train) < set(whole.train)
    assert np.array_equal(half.test, whole.test)
    assert np.array_equal(half.validation, whole.validation)


@steady
@given(ROWS, st.sampled_from(KINDS))
def test_what_is_left_out_is_left_out_of_every_dataset(drawn: Any, by: Any) -> None:
    rows, rules = (
        rows_of(drawn),
        left_out(by=by, quantiles=3) if by == KINDS[3] else left_out(by=by),
    )
    if not rows.tested.any():
        return
    for run, name in enumerate(rules.chosen(rows), start=1):
        groups = rules.group(rows, run)
        tested = {row for row, group in enumerate(groups) if group == LEFT_OUT + name}
        formulas = {rows.formulas[row] for row in tested}
        others = [row for row, group in enumerate(groups) if group and row not in tested]
        assert tested
        assert not formulas & {rows.formulas[row] for row in others}
        assert all(groups[row] == rows.formulas[row] for row in others)


@steady
@given(ROWS, SEEDS)
def test_no_row_with_the_element_and_no_twin_is_trained_on(drawn: Any, seed: int) -> None:
    rows, rules = rows_of(drawn), left_out(by="element")
    if not rows.tested.any():
        return
    element = rules.chosen(rows)[0]
    groups = rules.group(rows, 1)
    for dataset in set(rows.datasets):
        own = [row for row, of in enumerate(rows.datasets) if of == dataset]
        try:
            split = rules.split([str(groups[row]) for row in own], 1, seed)
        except DataError:
            continue
        for side in SIDES:
            has = [element in rows.crystals[own[row]].species for row in getattr(split, side)]
            assert all(has) if side == "test" else not any(has)


@steady
@given(ROWS, st.sampled_from(KINDS), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_rows(drawn: Any, by: Any, rng: Any) -> None:
    order = rng.sample(range(len(drawn)), len(drawn))
    rows, shuffled = rows_of(drawn), rows_of([drawn[place] for place in order])
    rules = left_out(by=by)
    if not rows.tested.any():
        return
    assert rules.chosen(rows) == rules.chosen(shuffled)
    groups = rules.group(rows, 1)
    assert list(rules.group(shuffled, 1)) == [groups[place] for place in order]


def test_groups_are_those_with_most_rows_that_are_tested_on_unless_named() -> None:
    rows = rows_of(
        [("One", "Na", "Cl", 0, 1.0), ("One", "Na", "F", 0, 2.0), ("One", "Mg", "O", 0, 3.0)]
        + [("Three", "K", "S", 0, 4.0)] * 9
    )
    assert left_out().name_runs(2, rows) == ("Na", "Cl")
    assert left_out(groups=("Mg", "F")).name_runs(1, rows) == ("Mg",)
    with pytest.raises(BenchmarkError, match=r"runs = 6: every run .* there are 5"):
        left_out().name_runs(6, rows)
    with pytest.raises(BenchmarkError, match="no row that is tested on has the element 'K'"):
        left_out(groups=("K",)).name_runs(1, rows)
    with pytest.raises(BenchmarkError, match="as many runs as there are ranges, 3"):
        left_out(by="target-quantile", quantiles=3).name_runs(2, rows)


def test_a_large_dataset_does_not_decide_alone_which_groups_are_left_out() -> None:
    rows = rows_of(
        [("Two", "Ca", "O", 0, 1.0)] * 60  # most rows and the largest share, of one dataset
        + [("Two", "K", "F", 0, 1.0)] * 30
        + [("Two", "Na", "Cl", 0, 1.0)] * 10
        + [("One", "Na", "Cl", 0, 1.0)] * 2
        + [("One", "K", "F", 0, 1.0)]
        + [("Three", "Ca", "O", 0, 1.0)] * 9  # not tested on
    )
    assert left_out(by="chemical-system").chosen(rows) == ("Cl-Na", "F-K", "Ca-O")


def test_ranges_hold_equal_shares_and_are_named_from_the_lowest() -> None:
    drawn = [("One", "Na", "Cl", 0, float(number)) for number in range(1, 10)]
    rules = left_out(by="target-quantile", quantiles=3)
    rows = rows_of(drawn)
    assert rules.name_runs(3, rows)[0].startswith("range 1: 1 to 3.67")
    assert [list(rules.group(rows, run)).count(None) for run in (1, 2, 3)] == [6, 6, 6]


def test_targets_of_another_property_are_in_no_range() -> None:
    rows = rows_of([("One", "Na", "Cl", 0, 1.0), ("One", "Mg", "O", 0, 9.0)] * 3)
    other = BenchmarkRows(
        (*rows.datasets, "Gaps"),
        (*rows.crystals, binary_crystal(("K", "F"), 0)),
        np.append(rows.targets, np.nan),
        np.append(rows.tested, False),
    )
    assert left_out(by="target-quantile", quantiles=2).group(other, 1)[-1] == "FK"


def test_prototypes_know_no_elements_cells_or_origins() -> None:
    rock_salt = binary_crystal(("Na", "Cl"), 0)
    name = prototype(rock_salt)
    assert prototype(binary_crystal(("O", "Mg"), 0)) == name
    assert prototype(supercell(reordered(rock_salt), (2, 1, 1))) == name
    assert len({prototype(binary_crystal(("Na", "Cl"), number)) for number in range(3)}) == 3
