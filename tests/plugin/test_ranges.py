"""What a search may vary is written alike by plugins and in benchmark files."""

from __future__ import annotations

from typing import Any

import pytest

from harness.plugin import Choice, Range
from harness.plugin.ranges import read_parameter


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"low": 1e-4, "high": 1e-2, "log": True}, Range(1e-4, 1e-2, log=True)),
        ({"low": 1, "high": 9, "step": 2}, Range(1, 9, step=2)),
        ([8, 16], Choice(8, 16)),
        (["relu", "silu"], Choice("relu", "silu")),
        (3, None),
        ("relu", None),
        (False, None),
    ],
)
def test_a_benchmark_file_says_the_same_as_a_plugin(written: Any, meant: Any) -> None:
    assert read_parameter(written) == meant


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"low": 1}, "'high'"),
        ({"low": 1, "high": 2, "stepp": 1}, "'stepp'"),
        ({"low": 2, "high": 1}, "low is above high"),
        ({"low": 0, "high": 1.0, "log": True}, "low > 0"),
        ({"low": 1, "high": 4, "log": True, "step": 1}, "takes no step"),
        ({"low": 1, "high": 4, "step": 0}, "step must be above 0"),
        ({"low": "a", "high": "b"}, "are finite numbers"),
        ([], "a choice is among"),
        ([[1], [2]], "a choice is among"),
    ],
)
def test_what_is_no_range_and_no_choice_is_refused(written: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_parameter(written)
