"""The first hour: a file to begin with, what there is, and what comes next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from harness.planning.benchmark import Benchmark

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 2
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that one is in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(here: Path) -> Path:
    folder = here / "leaderboards" / "mine"
    folder.mkdir(parents=True)
    (folder / "benchmark.toml").write_text(BENCHMARK)
    return folder


def steps_of(out: str) -> list[str]:
    lines = out.partition("Next:\n")[2].splitlines()
    return [line.strip() for line in lines if line.startswith("  harness")]


# --- init -------------------------------------------------------------------------------------


def test_a_benchmark_file_to_begin_with_can_be_run_as_it_is(harness, here: Path) -> None:
    status, out, _ = harness("init", "first", "--dataset", "Rocksalt", "-d", "Experiment")
    assert status == 0
    written = Benchmark.load(here / "leaderboards" / "first")
    assert written.train_on == written.test_on == ("Rocksalt", "Experiment")
    for step in steps_of(out):
        assert step.startswith("harness run first")
    status, out, _ = harness("run", "first", "--plan")
    assert (status, "cells, about" in out) == (0, True)


def test_every_choice_in_it_is_explained(harness, here: Path) -> None:
    harness("init", "first", "--dataset", "Rocksalt")
    lines = (here / "leaderboards" / "first" / "benchmark.toml").read_text().splitlines()
    assert sum(line.startswith("#") for line in lines) > 8


def test_nothing_that_exists_is_written_over(harness, mine: Path) -> None:
    status, _, err = harness("init", "mine", "--dataset", "Rocksalt")
    assert status == 2
    assert "exists already" in err
    assert (mine / "benchmark.toml").read_text() == BENCHMARK


def test_datasets_of_several_properties_are_refused(harness, tiny: Path, here: Path) -> None:
    asked = ("init", "both", "-d", "Toy", "-d", "ToyEnergies", "--plugin", str(tiny))
    status, _, err = harness(*asked)
    assert status == 2
    assert "of one property" in err
    assert not (here / "leaderboards" / "both").exists()


def test_a_misspelt_dataset_is_guessed(harness) -> None:
    assert "Did you mean 'Rocksalt'?" in harness("init", "first", "-d", "Rocksalts")[2]


# --- list -------------------------------------------------------------------------------------


def test_without_leaderboards_the_list_says_how_to_begin(harness) -> None:
    assert "harness init" in harness("list")[1]


def test_the_list_says_how_far_each_is_and_what_leads(harness, mine: Path, tiny: Path) -> None:
    (row,) = json.loads(harness("list", "--json")[1])
    assert row["state"] == "not run"
    harness("run", "mine", "--plugin", str(tiny), "--quiet")
    (row,) = json.loads(harness("list", "--json")[1])
    assert (row["name"], row["state"], row["cells"]) == ("mine", "complete", 4)
    assert "on Toy: mae-log " in row["leads"]
    results = mine / "results.jsonl"
    results.write_text("".join(results.read_text().splitlines(keepends=True)[1:]))
    (row,) = json.loads(harness("list", "--json")[1])
    assert row["state"] == "3 of 4 cells"


def test_one_that_cannot_be_read_hides_no_other(harness, mine: Path, tiny: Path) -> None:
    (mine.parent / "broken").mkdir()
    (mine.parent / "broken" / "plan.json").write_text("{")
    broken, fine = json.loads(harness("list", "--json")[1])
    assert (broken["state"], fine["state"]) == ("unreadable", "not run")


# --- what comes next --------------------------------------------------------------------------


def test_a_run_ends_with_commands_that_work(harness, mine: Path, tiny: Path) -> None:
    _, out, _ = harness("run", "mine", "--plugin", str(tiny))
    export, predict, *_ = steps_of(out)
    status, _, err = harness(*shlex.split(export)[1:])
    assert (status, err) == (0, "")
    assert (Path("mine-bundle") / "bundle.json").is_file()
    assert predict == "harness predict my.cif -b mine-bundle"
