"""`harness tune`, and what the plan of a benchmark that is to be tuned says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["mlp", "nearest"]
baselines = []
runs = 2

[training]
epochs = 2

[tuning]
trials = 2
ensemble = 0
[tuning.space.heads]
mlp = false
"""
pytestmark = pytest.mark.filterwarnings("ignore:There is nothing to search for in tiny, nearest")


@pytest.fixture
def tune(harness, tiny: Path, tmp_path: Path):
    path = tmp_path / "benchmark.toml"
    path.write_text(BENCHMARK)

    def call(command: str = "tune", *options: str) -> tuple[int, str, str]:
        jobs = ("--jobs", "1") if "--plan" not in options else ()
        return harness(command, str(path), "--plugin", str(tiny), *jobs, *options)

    return call


def test_the_best_of_every_run_is_printed(tune, tmp_path: Path) -> None:
    status, printed, errors = tune()
    assert status == 0
    assert "4 of 4 trials" in errors
    assert "Best setting of every run" in printed
    assert "Written to best.toml" in printed
    assert (tmp_path / "best.toml").is_file()
    assert "backbone" not in printed, "there is only one"
    status, printed, _ = tune("tune", "--json")
    assert [own["run"] for own in json.loads(printed)] == [1, 2]
    status, printed, _ = tune("tune", "--join")
    assert (status, printed) == (
        0,
        "Helped. What was chosen is written by the process that began the search.\n",
    )


def test_configurations_are_told_apart(tune) -> None:
    backbones = 'backbones=["tiny", {name="tiny", width=4}]'
    _, printed, _ = tune("tune", "--set", backbones, "--trials", "1")
    assert "tiny(width=4)" in printed


def test_the_plan_says_that_a_search_comes_first(tune) -> None:
    _, printed, _ = tune("run", "--plan")
    assert "Not counted: a search before that, of 2 trials for every configuration" in printed
