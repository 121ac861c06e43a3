"""Intervals: the rank of split conformal prediction, and what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.apps.predict.conformal import check_level, coverage, half_width, residuals_of
from harness.plugin import HarnessError
from harness_properties import KAPPA

residual_lists = st.lists(st.floats(0, 10), min_size=1, max_size=40)
levels = st.floats(0.01, 0.99)


@given(residual_lists, levels)
def test_any_row_in_the_place_of_the_new_one_is_covered_often_enough(values, level) -> None:
    """Exchangeability, in full: of n + 1 rows, each in turn is the new one."""
    rows = np.array(values)
    inside = [rows[new] <= half_width(np.delete(rows, new), level) for new in range(len(rows))]
    assert np.mean(inside) >= level - 1e-9


@given(residual_lists, levels)
def test_it_is_the_smallest_width_that_promises_the_level(values, level) -> None:
    width = half_width(np.array(values), level)
    inside = sum(value <= width for value in values)
    if math.isfinite(width):
        assert width in values
        assert inside >= level * (len(values) + 1) - 1e-6
        assert sum(value < width for value in values) < level * (len(values) + 1)
    else:
        assert level * (len(values) + 1) > len(values)


def test_nine_rows_are_just_enough_for_ninety_percent() -> None:
    rows = np.arange(1.0, 10.0)
    assert half_width(rows, 0.9) == 9.0
    assert half_width(rows, 0.91) == math.inf
    assert half_width(rows[:-1], 0.9) == math.inf


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, math.nan])
def test_what_is_no_probability_is_refused(level) -> None:
    with pytest.raises(HarnessError, match="expected 0 < level < 1"):
        check_level(level)


def test_a_failed_prediction_is_never_covered() -> None:
    predicted = np.array([10.0, np.nan, np.inf, -1.0])
    residuals = residuals_of(predicted, np.array([1.0, 1.0, 1.0, KAPPA.lowest]), KAPPA)
    assert residuals.tolist() == [1.0, math.inf, math.inf, 0.0]
    assert coverage(residuals, 1.0) == 0.5
    assert math.isnan(coverage(residuals[:0], 1.0))
