"""Metrics: hand-worked numbers, agreement with other libraries, and the laws that hold."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from harness.registry.registry import Registry
from harness_properties import KAPPA

Floats = NDArray[np.float64]

steady = settings(deadline=None, derandomize=True, max_examples=40)
"""The same examples every time, however slow the machine."""

SPECS = dict(Registry().metrics_of(KAPPA.name))
LOWER_IS_BETTER = {"mae-log", "rmse-log", "mape", "median-ape", "mae", "rmse"}
UNDEFINED_FOR_ONE_ROW = {"spearman", "r2-log", "r2"}

kappas = st.floats(0.02, 3000)
guesses = st.floats(-1, 3000)


@st.composite
def pairs(draw: st.DrawFn, min_rows: int = 1) -> tuple[Floats, Floats]:
    rows = draw(st.integers(min_rows, 40))
    return draw(arrays(np.float64, rows, elements=kappas)), draw(
        arrays(np.float64, rows, elements=guesses)
    )


def value(name: str, targets: object, predictions: object) -> float:
    metric = SPECS[name]
    given = (np.asarray(values, dtype=np.float64) for values in (targets, predictions))
    return metric.function(*(map(KAPPA.to_scale, given) if metric.needs == "log" else given))


def test_each_metric_declares_its_direction_and_unit() -> None:
    assert {name for name, spec in SPECS.items() if not spec.higher_is_better} == LOWER_IS_BETTER
    units = {name: spec.unit for name, spec in SPECS.items() if spec.unit}
    watts = dict.fromkeys(("mae", "rmse"), "W/(m·K)")
    assert units == {"mae-log": "decades", "rmse-log": "decades", **watts}
    assert len({spec.title for spec in SPECS.values()}) == len(SPECS) == 11


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae-log", 0.75),  # errors in decades: 0, 1, −2, 0
        ("rmse-log", math.sqrt(5 / 4)),
        # ranks 1 2 3 4 against 1.5 3 1.5 4: sums of products 3, of squares 5 and 4.5
        ("spearman", 3 / math.sqrt(5 * 4.5)),
        ("mape", (0 + 9 + 0.99 + 0) / 4),
        ("median-ape", 0.99 / 2),
        ("mae", (0 + 90 + 99 + 0) / 4),
        ("r2-log", 0.0),  # log κ: 0 1 2 3, so 1 − 5/5
        ("within-factor-2", 0.5),
        ("recall-low-10", 0.5),  # two rows tie for the one lowest prediction; one of them is right
    ],
)
def test_hand_worked_numbers(name: str, expected: float) -> None:
    assert value(name, [1, 10, 100, 1000], [1, 100, 1, 1000]) == pytest.approx(expected, abs=1e-12)


def test_a_factor_of_two_exactly_is_within() -> None:
    assert value("within-factor-2", [8, 8, 8, 8, 8], [4, 16, 3.99, 16.01, -8]) == 0.4


def test_recall_seeks_one_row_in_ten() -> None:
    targets = np.arange(1.0, 31.0)
    predictions = targets.copy()
    predictions[[0, 29]] = predictions[[29, 0]]  # of the rows 1, 2, 3 the first is missed
    assert value("recall-low-10", targets, predictions) == pytest.approx(2 / 3)
    assert value("recall-low-10", targets, np.full(30, 5.0)) == pytest.approx(1 / 10)
    assert value("recall-low-10", targets, -targets) == 0


def test_targets_that_tie_at_the_limit_are_equally_good() -> None:
    assert value("recall-low-10", [1, 1, 1, 5], [3, 2, 9, 4]) == 1


def test_predictions_below_the_floor_count_as_the_floor() -> None:
    for name in ("mae-log", "rmse-log"):
        assert value(name, [1.0], [-0.3]) == value(name, [1.0], [KAPPA.lowest]) == pytest.approx(2)
    assert math.isfinite(value("r2-log", [1.0, 10.0], [-0.3, 0.0]))


def test_mape_divides_by_no_less_than_the_clamp() -> None:
    assert value("mape", [0.0], [1.17e-6]) == pytest.approx(1)
    assert value("median-ape", [0.0], [1.17e-6]) == pytest.approx(1)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_one_row_is_defined_except_where_a_spread_is_needed(name: str) -> None:
    assert math.isnan(value(name, [7.0], [7.0])) == (name in UNDEFINED_FOR_ONE_ROW)


@pytest.mark.parametrize("name", sorted(UNDEFINED_FOR_ONE_ROW))
def test_equal_targets_have_no_spread_to_explain(name: str) -> None:
    assert math.isnan(value(name, [0.1 * 3] * 7, range(1, 8)))


def test_equal_predictions_have_no_rank_correlation() -> None:
    assert math.isnan(value("spearman", [1, 2, 3], [5, 5, 5]))


@pytest.mark.parametrize("name", sorted(SPECS))
def test_no_rows_give_nan_and_an_absurd_prediction_no_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(value(name, [], []))
        assert not math.isnan(value(name, [0.1, 1.0, 2.0], [1e308, 1.0, 1e308]))


@pytest.mark.parametrize("name", sorted(SPECS))
@steady
@given(pair=pairs(min_rows=2))
def test_perfect_predictions_score_best(name: str, pair: tuple[Floats, Floats]) -> None:
    targets, predictions = pair
    best = value(name, targets, targets)
    if math.isnan(best):
        assert len(set(targets)) == 1 or np.ptp(np.log10(targets)) == 0
        return
    assert best == pytest.approx(0 if name in LOWER_IS_BETTER else 1, abs=1e-12)
    sign = 1 if SPECS[name].higher_is_better else -1
    other = value(name, targets, predictions)
    assert math.isnan(other) or sign * other <= sign * best + 1e-9


@pytest.mark.parametrize("name", sorted(SPECS))
@steady
@given(pair=pairs(), rng=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(name: str, pair: tuple[Floats, Floats], rng) -> None:
    targets, predictions = pair
    order = rng.sample(range(len(targets)), len(targets))
    expected = value(name, targets, predictions)
    found = value(name, targets[order], predictions[order])
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ["spearman", "within-factor-2", "recall-low-10"])
@steady
@given(pair=pairs())
def test_shares_and_correlations_stay_in_their_range(
    name: str, pair: tuple[Floats, Floats]
) -> None:
    found = value(name, *pair)
    low = -1 if name == "spearman" else 0
    assert math.isnan(found) or low - 1e-12 <= found <= 1 + 1e-12


def _sklearn(name: str, log: bool) -> Callable[[Floats, Floats], float]:
    from sklearn import metrics

    def score(targets: Floats, predictions: Floats) -> float:
        if log:
            predictions = np.maximum(predictions, KAPPA.lowest)
            targets, predictions = np.log10(targets), np.log10(predictions)
        return float(getattr(metrics, name)(targets, predictions))

    return score


@pytest.mark.parametrize(
    ("name", "theirs", "log"),
    [
        ("mae", "mean_absolute_error", False),
        ("mape", "mean_absolute_percentage_error", False),
        ("mae-log", "mean_absolute_error", True),
        ("rmse-log", "root_mean_squared_error", True),
        ("r2-log", "r2_score", True),
    ],
)
@steady
@given(pair=pairs(min_rows=2))
def test_scikit_learn_agrees(
    name: str, theirs: str, log: bool, pair: tuple[Floats, Floats]
) -> None:
    found = value(name, *pair)
    if not math.isnan(found):
        assert found == pytest.approx(_sklearn(theirs, log)(*pair), rel=1e-9, abs=1e-12)


@steady
@given(pair=pairs(min_rows=2))
def test_spearman_is_the_correlation_of_ranks_to_the_last_bit(pair: tuple[Floats, Floats]) -> None:
    from scipy.stats import rankdata

    if all(len(set(values.tolist())) > 1 for values in pair):
        ranks = [rankdata(values) for values in pair]
        assert value("spearman", *pair) == np.corrcoef(*ranks)[0, 1]


@steady
@given(pair=pairs(min_rows=2))
def test_scipy_agrees_on_spearman(pair: tuple[Floats, Floats]) -> None:
    from scipy.stats import spearmanr

    found = value("spearman", *pair)
    if not math.isnan(found):
        assert found == pytest.approx(spearmanr(*pair).statistic, abs=1e-12)


@steady
@given(pair=pairs())
def test_torchmetrics_agrees_on_mape_clamp_included(pair: tuple[Floats, Floats]) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional")
    targets, predictions = pair[0].copy(), pair[1]
    targets[0] = 1e-9
    theirs = functional.mean_absolute_percentage_error(
        torch.from_numpy(predictions), torch.from_numpy(targets)
    )
    assert value("mape", targets, predictions) == pytest.approx(float(theirs), rel=1e-9)
