"""Scores of one run: on all rows and overlap-free; a failed row is counted, never dropped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness.registry.property_metrics import PropertyMetric
from harness.scoring.scores import same_score, score_run
from harness_properties import KAPPA

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats

BIAS = {
    "bias": PropertyMetric(
        "bias", "bias", "", False, lambda t, p: float((p - t).mean()), property=KAPPA
    )
}


def test_both_subsets_are_scored() -> None:
    target, prediction = np.array([1.0, 1.0, 1.0]), np.array([2.0, 3.0, 4.0])
    scores = score_run(BIAS, target, prediction, np.array([False, True, True]))
    assert scores["all"] == {"n": 3, "failed": 0, "bias": 2.0}
    assert scores["overlap-free"] == {"n": 1, "failed": 0, "bias": 1.0}


def test_a_failed_row_makes_the_metric_nan_and_is_counted() -> None:
    target, prediction = np.array([1.0, 1.0]), np.array([2.0, math.inf])
    scores = score_run(BIAS, target, prediction, np.array([False, True]))
    assert scores["all"]["failed"] == 1
    assert math.isnan(scores["all"]["bias"])
    assert scores["overlap-free"] == {"n": 1, "failed": 0, "bias": 1.0}


def test_rows_without_overlap_are_scored_once() -> None:
    asked = []

    def count(targets: Floats, predictions: Floats) -> float:
        asked.append(len(targets))
        return 0.0

    counted = {"count": PropertyMetric("count", "count", "", False, count, property=KAPPA)}
    scores = score_run(counted, np.ones(2), np.ones(2), np.array([False, False]))
    assert scores["all"] == scores["overlap-free"] == {"n": 2, "failed": 0, "count": 0.0}
    assert asked == [2]


def test_no_rows_give_nan_and_no_failure() -> None:
    scores = score_run(BIAS, np.ones(2), np.ones(2), np.array([True, True]))
    assert scores["overlap-free"]["n"] == 0
    assert math.isnan(scores["overlap-free"]["bias"])


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.1 + 0.2, 0.3, True),  # summed in another order
        (0.3, 0.3 * (1 + 1e-11), False),
        (0.0, 0.0, True),
        (np.float32(0.5), 0.5, True),
        (None, None, True),
        (None, math.nan, True),
        (math.inf, None, True),
        (None, 0.3, False),
        ("0.3", 0.3, False),
        ("absent", None, False),
        (math.nan, 0.3, False),
    ],
)
def test_scores_are_the_same_up_to_rounding_and_null_is_what_is_not_finite(
    one: object, other: object, same: bool
) -> None:
    assert same_score(one, other) == same_score(other, one) == same
