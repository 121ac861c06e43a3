"""What figures and pages draw is prepared once: floored, failures apart, null as NaN."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from harness.report.plot_data import ParityRows, member_curves
from harness_properties import KAPPA

ROWS = pd.DataFrame(
    {
        "target": [1.0, 0.001, 10.0, 10.0],
        "prediction": [2.0, -3.0, math.inf, math.nan],
        "overlap": [True, False, False, True],
    }
)


def test_logarithmic_axes_get_no_value_below_the_floor() -> None:
    parity = ParityRows.of(ROWS, KAPPA)
    assert parity.target.tolist() == [1.0, KAPPA.lowest, 10.0, 10.0]
    assert parity.predicted[:2].tolist() == [2.0, KAPPA.lowest]
    assert parity.overlap.tolist() == ROWS["overlap"].tolist()


def test_predictions_that_failed_are_told_apart_from_those_beyond_a_frame() -> None:
    parity = ParityRows.of(ROWS, KAPPA)
    assert parity.failed.tolist() == [False, False, True, True]
    assert parity.lie_beyond(KAPPA.lowest, 100.0).tolist() == [False, True, False, False]
    assert parity.lie_beyond(0.001, 1.5).tolist() == [True, False, False, False]


def test_a_history_is_epochs_by_members_with_nan_where_json_has_null() -> None:
    curves = member_curves([[0.5, None], [0.25, math.inf], [0.125, 1.0]])
    assert curves.shape == (3, 2)
    np.testing.assert_array_equal(curves[:, 0], [0.5, 0.25, 0.125])
    np.testing.assert_array_equal(curves[:, 1], [np.nan, np.nan, 1.0])
