"""`harness plugins check`: what it prints and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

METRIC = """
import numpy as np
from harness.plugin import MetricSpec, hookimpl


def worst(target, prediction):
    return float({value})


@hookimpl
def register_metrics():
    return [MetricSpec("worst", "largest error", "W/(m·K)", False, worst)]
"""
SOUND, CONSTANT = "np.abs(target - prediction).max(initial=0.0)", "0.5"


@pytest.fixture
def metric(tmp_path: Path):
    def write(value: str) -> str:
        path = tmp_path / "worst_error.py"
        path.write_text(METRIC.format(value=value))
        return str(path)

    return write


def test_a_file_that_keeps_its_promises_passes(harness, metric) -> None:
    status, output, error = harness("plugins", "check", metric(SOUND))
    assert status == 0, error
    assert "metric 'worst'" in output
    assert "failed" not in output


def test_a_broken_promise_ends_with_1_and_names_case_file_and_line(harness, metric) -> None:
    path = metric(CONSTANT)
    status, output, error = harness("plugins", "check", path, "--json")
    assert status == 1, error
    report = json.loads(output)
    assert report["outcomes"]["failed"] >= 1
    (checked,) = report["checked"]
    assert (checked["kind"], checked["name"]) == ("metric", "worst")
    for failed in (case for case in checked["cases"] if case["outcome"] == "failed"):
        assert failed["message"]
        assert failed["place"].startswith(f"{path}, line ")


def test_settings_are_those_the_cases_use(harness) -> None:
    status, _, error = harness("plugins", "check", "mlp", "--set", "hidden=wide")
    assert status == 2
    assert "hidden" in error


def test_an_unknown_name_is_a_users_error(harness) -> None:
    status, _, error = harness("plugins", "check", "megnett")
    assert status == 2
    assert "did you mean" in error.lower()
