"""Scores of one run: on all rows and overlap-free; a failed row is counted, never dropped."""

from __future__ import annotations

import math

import numpy as np

from harness.plugin.metric import MetricSpec
from harness.scoring.scores import score_run

BIAS = {"bias": MetricSpec("bias", "bias", "", False, lambda t, p: float((p - t).mean()))}


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


def test_no_rows_give_nan_and_no_failure() -> None:
    scores = score_run(BIAS, np.ones(2), np.ones(2), np.array([True, True]))
    assert scores["overlap-free"]["n"] == 0
    assert math.isnan(scores["overlap-free"]["bias"])
