"""The strict protocol: groups stay whole, shares are kept, nothing but formulas and seed counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.plugin import DataError, Split
from harness_strict import register_protocols
from harness_strict.rules import StrictRules, StrictSettings

steady = settings(deadline=None, derandomize=True)
"""The same examples every time, however slow the machine."""

FORMULAS = st.lists(st.integers(0, 40).map("F{}".format), min_size=3, max_size=200).filter(
    lambda formulas: len(set(formulas)) >= 3
)
SEEDS = st.integers(0, 2**63 - 1)
RULES = StrictRules(StrictSettings())


def sides(formulas: list[str], split: Split) -> list[set[str]]:
    return [{formulas[i] for i in rows} for rows in (split.train, split.validation, split.test)]


@steady
@given(FORMULAS, SEEDS)
def test_every_row_is_on_exactly_one_side_and_no_side_is_empty(
    formulas: list[str], seed: int
) -> None:
    split = RULES.split(formulas, run=1, seed=seed)
    rows = np.concatenate([split.train, split.validation, split.test])
    assert sorted(rows) == list(range(len(formulas)))
    assert all(len(side) for side in (split.train, split.validation, split.test))


@steady
@given(FORMULAS, SEEDS)
def test_no_formula_is_on_two_sides(formulas: list[str], seed: int) -> None:
    train, validation, test = sides(formulas, RULES.split(formulas, run=1, seed=seed))
    assert not train & validation
    assert not train & test
    assert not validation & test


@steady
@given(
    st.lists(st.integers(1, 6), min_size=60, max_size=100),
    SEEDS,
    st.sampled_from([(0.7, 0.1), (0.5, 0.25), (0.8, 0.1)]),
)
def test_shares_are_met_within_one_group(
    sizes: list[int], seed: int, shares: tuple[float, float]
) -> None:
    # 60 groups of at most 6 rows: a tenth of the rows holds any one group
    formulas = [f"F{group}" for group, size in enumerate(sizes) for _ in range(size)]
    rules = StrictRules(StrictSettings(train=shares[0], validation=shares[1]))
    split = rules.split(formulas, run=1, seed=seed)
    rows, largest = len(formulas), max(sizes)
    assert abs(len(split.train) - shares[0] * rows) <= largest / 2 + 1e-9
    assert abs(len(split.validation) - shares[1] * rows) <= largest + 1e-9
    assert abs(len(split.test) - (1 - sum(shares)) * rows) <= largest / 2 + 1e-9


def test_without_twins_the_shares_are_exact() -> None:
    split = RULES.split([f"F{i}" for i in range(100)], run=1, seed=0)
    assert [len(split.train), len(split.validation), len(split.test)] == [70, 10, 20]


@steady
@given(FORMULAS, SEEDS, st.randoms(use_true_random=False))
def test_the_split_depends_only_on_formulas_and_seed(formulas: list[str], seed: int, rng) -> None:
    split = RULES.split(formulas, run=1, seed=seed)
    again = RULES.split(tuple(formulas), run=7, seed=seed)
    assert all(
        np.array_equal(getattr(split, side), getattr(again, side))
        for side in ("train", "validation", "test")
    )
    shuffled = rng.sample(formulas, len(formulas))
    assert sides(shuffled, RULES.split(shuffled, run=1, seed=seed)) == sides(formulas, split)


def test_seeds_give_different_splits_and_every_group_its_turn() -> None:
    formulas = [f"F{i}" for i in range(40)]
    tested = Counter(
        int(row) for seed in range(400) for row in RULES.split(formulas, run=1, seed=seed).test
    )
    # 80 expected of 400, standard deviation 8
    assert min(tested[row] for row in range(40)) > 40
    assert max(tested.values()) < 120


def test_three_groups_are_enough_however_unequal() -> None:
    for seed in range(6):
        split = RULES.split(["A"] * 90 + ["B", "C"], run=1, seed=seed)
        assert sorted(map(len, (split.train, split.validation, split.test))) == [1, 1, 90]


@pytest.mark.parametrize("formulas", [[], ["A"] * 5, ["A", "B", "B", "A", "A"]])
def test_too_few_groups_are_refused_with_numbers(formulas: list[str]) -> None:
    message = rf"at least 3 .*among the {len(formulas)} rows is {len(set(formulas))}\."
    with pytest.raises(DataError, match=message):
        RULES.split(formulas, run=1, seed=0)


def test_the_scaler_sees_training_rows_only() -> None:
    split = RULES.split(list("ABCDEFGHIJ"), run=1, seed=3)
    assert RULES.scaler_rows(split) is split.train


def test_labels_are_the_true_ones_and_the_rules_promise_no_leak() -> None:
    spec, *_ = register_protocols()
    rules = spec.make(spec.settings())
    promised = (rules.leak_free, rules.selection, rules.offset, rules.scaler_stage, rules.view)
    assert (spec.name, *promised) == ("strict", True, None, 0.0, "last", "")
    kappa = np.array([1.0, 20.0])
    assert rules.labels(kappa, own=None, decoder=None) is kappa


@pytest.mark.parametrize(
    "shares",
    [{"train": 0.9, "validation": 0.1}, {"train": 0}, {"validation": 1.5}, {"test": 0.2}],
)
def test_impossible_shares_are_refused(shares: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StrictSettings(**shares)


@steady
@given(FORMULAS, SEEDS, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_less_of_the_training_rows_is_part_of_more_and_the_rest_stays(
    formulas: list[str], seed: int, one: float, other: float
) -> None:
    whole = RULES.split(formulas, run=1, seed=seed)
    less, more = (
        StrictRules(StrictSettings(keep=keep)).split(formulas, run=1, seed=seed)
        for keep in sorted((one, other))
    )
    assert 0 < len(less.train) <= len(more.train) <= len(whole.train)
    assert set(less.train) <= set(more.train) <= set(whole.train)
    sizes = Counter(formulas)
    for split, keep in ((less, min(one, other)), (more, max(one, other))):
        assert np.array_equal(split.validation, whole.validation)
        assert np.array_equal(split.test, whole.test)
        kept = {formulas[row] for row in split.train}
        assert sum(sizes[formula] for formula in kept) == len(split.train), "groups stay whole"
        assert abs(len(split.train) - keep * len(whole.train)) <= max(sizes.values())


def test_a_share_of_nothing_or_more_than_all_is_refused() -> None:
    for keep in (0.0, 1.1):
        with pytest.raises(ValidationError):
            StrictSettings(keep=keep)
