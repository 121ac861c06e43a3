"""Statistics: hand-worked numbers, laws, the error rate under the null, nothing dropped."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.statistics import (
    OneMoreTest,
    corrected_t_test,
    holm,
    paired_gain,
    paired_gains,
    summarise,
)

steady = settings(deadline=None, derandomize=True, max_examples=40)

# Multiples of 1/64 below 2**20: their sums and differences are exact.
NUMBERS = st.integers(-(2**26), 2**26).map(lambda i: i / 64)
RUNS = st.lists(NUMBERS, min_size=2, max_size=9)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=9)
P_VALUES = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12)

NINE = [0.41, 0.38, 0.52, 0.33, 0.47, 0.36, 0.58, 0.40, 0.44]


# --- a cell -----------------------------------------------------------------------------------


def test_mean_and_std_are_those_of_the_textbook() -> None:
    made = summarise(NINE, seed=0)
    assert made.n == 9
    assert made.mean == pytest.approx(statistics.mean(NINE))
    assert made.std == pytest.approx(statistics.stdev(NINE))


def test_the_interval_is_the_bootstrap_of_the_mean() -> None:
    """All 3**3 resamples of 0, 0, 3 are known: the mean is 0 in 8 of 27, 1 in 12, 2 in 6, 3 in 1.

    The 2.5 % quantile is therefore 0, and the 97.5 % quantile is 3 (1 in 27 lies at 3).
    """
    made = summarise([0, 0, 3], seed=0)
    assert (made.low, made.high) == (0, 3)


@pytest.mark.parametrize("runs", [2, 3, 4, 5, 7, 8, 9, 15, 16, 33])
def test_the_interval_is_scipys_to_the_last_bit(runs: int) -> None:
    from scipy.stats import bootstrap

    x = np.random.default_rng(runs).normal(5, 2, size=runs)
    made = summarise(x, seed=3)
    known = bootstrap((x,), np.mean, method="percentile", rng=np.random.default_rng(3))
    assert (made.low, made.high) == tuple(known.confidence_interval)


def test_the_interval_of_many_runs_is_the_normal_one() -> None:
    x = np.random.default_rng(0).normal(5, 2, size=400)
    made = summarise(x, seed=1)
    half = 1.96 * x.std() / 20
    assert made.low == pytest.approx(x.mean() - half, abs=0.02)
    assert made.high == pytest.approx(x.mean() + half, abs=0.02)


def test_the_seed_fixes_the_interval() -> None:
    assert summarise(NINE, seed=3) == summarise(NINE, seed=3)
    assert summarise(NINE, seed=3) != summarise(NINE, seed=4)


@steady
@given(RUNS)
def test_the_interval_lies_within_the_values(values: list[float]) -> None:
    made = summarise(values, seed=0)
    assert min(values) <= made.low <= made.high <= max(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_failed_run_fails_the_summary(bad: float) -> None:
    made = summarise([*NINE, bad], seed=0)
    assert made.n == 10
    assert all(map(math.isnan, (made.mean, made.std, made.low, made.high)))


def test_no_run_has_no_mean() -> None:
    made = summarise([], seed=0)
    assert made.n == 0 and math.isnan(made.mean)


def test_one_run_has_a_mean_but_no_spread() -> None:
    made = summarise([0.4], seed=0)
    assert (made.n, made.mean) == (1, 0.4)
    assert all(map(math.isnan, (made.std, made.low, made.high)))


def test_equal_values_have_no_spread_exactly() -> None:
    made = summarise([0.1] * 7, seed=0)
    assert (made.mean, made.std, made.low, made.high) == (0.1, 0.0, 0.1, 0.1)


# --- the t-test -------------------------------------------------------------------------------


def test_t_and_p_worked_by_hand() -> None:
    """Differences 1, 2, 3, 4: mean 5/2, s² = 5/3; 80 training and 20 test rows: factor 1/4 + 1/4.

    So t = 5/2 / sqrt(5/6) = sqrt(15/2), and the distribution with 3 degrees of freedom is
    1/2 + (x / (1 + x²) + atan x) / π with x = t / sqrt 3 = sqrt(5/2).
    """
    made = corrected_t_test([1, 2, 3, 4], n_train=80, n_test=20)
    x = math.sqrt(5 / 2)
    assert made.df == 3
    assert made.t == pytest.approx(math.sqrt(15 / 2))
    assert made.p == pytest.approx(1 - 2 / math.pi * (x / (1 + x * x) + math.atan(x)))
    assert made.p == pytest.approx(0.0714, abs=1e-4)


def test_where_runs_differ_in_rows_their_means_count() -> None:
    whole = corrected_t_test(NINE, 70, 20)
    assert corrected_t_test(NINE, [69, 70, 71] * 3, [18, 22, 20] * 3) == whole


def test_only_the_ratio_of_the_rows_matters() -> None:
    shares, counts = corrected_t_test(NINE, 0.7, 0.2), corrected_t_test(NINE, 70, 20)
    assert (shares.t, shares.p) == pytest.approx((counts.t, counts.p))


@steady
@given(RUNS.filter(lambda d: np.ptp(d) > 0))
def test_without_test_rows_it_is_the_ordinary_t_test(d: list[float]) -> None:
    from scipy.stats import ttest_1samp

    made, ordinary = corrected_t_test(d, 70, 0), ttest_1samp(d, 0)
    assert made.t == pytest.approx(ordinary.statistic)
    assert made.p == pytest.approx(ordinary.pvalue)


@steady
@given(RUNS.filter(lambda d: np.ptp(d) > 0), st.integers(1, 50))
def test_overlap_only_weakens_the_evidence(d: list[float], n_test: int) -> None:
    weak, strong = corrected_t_test(d, 70, n_test), corrected_t_test(d, 70, n_test - 1)
    assert abs(weak.t) <= abs(strong.t)
    assert weak.p >= strong.p


@pytest.mark.parametrize("d", [[], [0.3], [0.3, math.nan, 0.1], [0.3, math.inf], [0.2] * 5])
def test_what_cannot_be_tested_has_no_p(d: list[float]) -> None:
    made = corrected_t_test(d, 70, 20)
    assert math.isnan(made.t) and math.isnan(made.p)


def test_rounding_does_not_make_repeated_differences_certain() -> None:
    d = [0.5 - 0.2, 0.4 - 0.1, 0.6 - 0.3]
    assert len(set(d)) > 1
    assert math.isnan(corrected_t_test(d, 70, 20).p)


def test_cells_without_any_difference_are_not_told_apart() -> None:
    made = corrected_t_test([0.0] * 9, 70, 20)
    assert (made.t, made.p) == (0, 1)


@pytest.mark.parametrize(("n_train", "n_test"), [(0, 20), (math.nan, 20), (70, -1)])
def test_impossible_row_counts_are_refused(n_train: float, n_test: float) -> None:
    with pytest.raises(ValueError, match="n_train > 0 and n_test >= 0"):
        corrected_t_test(NINE, n_train, n_test)


def simulate(rows: int, other: int | None, repetitions: int, runs: int = 9) -> np.ndarray:
    """Differences in MAE of two learners that are equally good, repetitions × runs.

    y = x1 + x2 + noise; one learner regresses y on x1, the other on x2. Every repetition draws a
    dataset, every run trains on another 70 % of its rows and tests on another 20 %, or on 20 % of
    another dataset of `other` rows.
    """
    rng = np.random.default_rng(0)

    def data(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(2, repetitions, 1, n))
        return x, x.sum(axis=0) + 0.5 * rng.normal(size=(repetitions, 1, n))

    def share(order: np.ndarray, start: float, stop: float) -> np.ndarray:
        n = order.shape[-1]
        return (order >= round(start * n)) & (order < round(stop * n))

    def ranks(n: int) -> np.ndarray:
        return rng.permuted(np.tile(np.arange(n), (repetitions, runs, 1)), axis=-1)

    x, y = data(rows)
    order = ranks(rows)
    train, test = share(order, 0, 0.7), share(order, 0.8, 1)
    w = train / train.sum(axis=-1, keepdims=True)
    mean_x, mean_y = (w * x).sum(-1, keepdims=True), (w * y).sum(-1, keepdims=True)
    slope = (w * (x - mean_x) * (y - mean_y)).sum(-1, keepdims=True) / (w * (x - mean_x) ** 2).sum(
        -1, keepdims=True
    )
    if other is not None:
        x, y = data(other)
        test = share(ranks(other), 0.8, 1)
    error = np.abs(y - mean_y - slope * (x - mean_x))
    mae = (error * test).sum(-1) / test.sum(-1)
    return mae[0] - mae[1]


def share_of_false_positives(differences: np.ndarray, n_train: float, n_test: float) -> float:
    return float(np.mean([corrected_t_test(d, n_train, n_test).p < 0.05 for d in differences]))


def test_equal_learners_are_told_apart_in_5_percent_of_studies() -> None:
    d = simulate(rows=100, other=None, repetitions=600)
    assert 0.02 <= share_of_false_positives(d, 70, 20) <= 0.08
    assert share_of_false_positives(d, 70, 0) > 0.15, "the ordinary t-test is expected to fail"


@pytest.mark.parametrize(("rows", "other"), [(60, 600), (600, 60)])
def test_between_datasets_shares_are_right_and_row_counts_are_not(rows: int, other: int) -> None:
    d = simulate(rows, other, repetitions=400)
    assert 0.02 <= share_of_false_positives(d, 0.7, 0.2) <= 0.08
    by_counts = share_of_false_positives(d, 0.7 * rows, 0.2 * other)
    assert by_counts > 0.12 if rows > other else by_counts < 0.01


# --- gains ------------------------------------------------------------------------------------


def gain_of(ours: Sequence[float], baseline: Sequence[float], higher: bool = False):
    return paired_gain(ours, baseline, higher, n_train=70, n_test=20)


def test_a_lower_error_is_a_gain() -> None:
    made = gain_of([1, 2, 3], [2, 4, 6])
    assert (made.n, made.mean) == (3, 2)
    assert made.p == corrected_t_test([1, 2, 3], 70, 20).p
    assert not made.negative


def test_a_gain_wholly_below_zero_is_negative_transfer() -> None:
    assert gain_of([2.0, 2.1, 2.2], [1.0, 1.0, 1.1]).negative
    assert not gain_of([2, 4, 2], [1, 2, 5]).negative
    assert not gain_of([2, 2], [1, 1]).negative, "two equal differences cannot be tested"


def test_the_interval_of_a_gain_worked_by_hand() -> None:
    """Gains 1, 2, 3: mean 2, s 1, error sqrt(1/3 + 2/7), t(0.975; 2) = 4.302653."""
    made = gain_of([1, 2, 3], [2, 4, 6])
    reach = 4.302653 * math.sqrt(1 / 3 + 2 / 7)
    assert (made.low, made.high) == pytest.approx((2 - reach, 2 + reach), rel=1e-6)


def test_equal_learners_are_seldom_called_negative_transfer() -> None:
    """2.5 % is meant; a bootstrap over runs would say it of 18 %."""
    d = simulate(100, None, repetitions=400)
    called = [paired_gain(-row, np.zeros(len(row)), False, 70, 20).high < 0 for row in d]
    assert np.mean(called) <= 0.05


def test_many_gains_are_those_of_one_at_a_time_to_the_last_bit() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 60, 9))
    rows[0, :4] = rows[1, :4]  # no difference at all
    rows[0, 4:8] = rows[1, 4:8] + 1  # the same for all runs
    rows[0, 8] = np.inf
    train, test = np.full((60, 1), 0.7), np.full((60, 1), 0.2)
    ours, baseline = rows
    many = paired_gains(ours, baseline, True, train, test)
    single = [
        paired_gain(one, other, True, 0.7, 0.2) for one, other in zip(ours, baseline, strict=True)
    ]
    assert repr(many) == repr(single)  # as text, NaN equals NaN


@steady
@given(PAIRS, NUMBERS)
def test_shifting_both_leaves_the_gain(pairs: list[tuple[float, float]], by: float) -> None:
    a, b = np.array(pairs).T
    assert repr(gain_of(a + by, b + by)) == repr(gain_of(a, b))  # as text, NaN equals NaN


@steady
@given(PAIRS)
def test_the_direction_of_the_metric_is_its_sign(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    assert repr(gain_of(a, b, higher=True)) == repr(gain_of(-a, -b, higher=False))


@steady
@given(PAIRS)
def test_exchanging_cell_and_baseline_mirrors_the_gain(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    forth, back = gain_of(a, b), gain_of(b, a)
    assert forth.mean == -back.mean
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), nan_ok=True)
    assert forth.p == pytest.approx(back.p, nan_ok=True)


def test_a_failed_run_fails_the_gain() -> None:
    for made in (gain_of([1, math.nan], [2, 3]), gain_of([math.inf, 1], [math.inf, 3])):
        assert made.n == 2 and not made.negative
        assert all(map(math.isnan, (made.mean, made.low, made.high, made.p)))


def test_unpaired_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 runs cannot be paired with 3"):
        gain_of([1, 2], [1, 2, 3])


# --- Holm -------------------------------------------------------------------------------------


def test_holm_is_that_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p_values = np.random.default_rng(0).uniform(0, 0.2, 40).round(2)  # with ties
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@given(
    st.lists(st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0, math.nan]) | st.floats(0, 1)),
    st.sampled_from([0.02, 0.3]) | st.floats(0, 1),
)
def test_one_more_test_is_corrected_as_with_all_others(family: list[float], p: float) -> None:
    assert OneMoreTest(family).adjust(p) == holm([*family, p])[-1]


def test_holm_worked_by_hand() -> None:
    """Sorted: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_test_that_could_not_be_made_does_not_count() -> None:
    made = holm([0.01, math.nan, 0.04])
    assert made[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(made[1])


@steady
@given(P_VALUES)
def test_holm_never_strengthens_and_keeps_the_order(p_values: list[float]) -> None:
    p, made = np.array(p_values, dtype=float), holm(p_values)
    assert (np.isnan(made) == np.isnan(p)).all()
    p, made = p[~np.isnan(p)], made[~np.isnan(p)]
    assert ((made >= p) & (made <= 1)).all()
    assert (np.diff(made[np.argsort(p, kind="stable")]) >= 0).all()
