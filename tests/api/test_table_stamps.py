"""Looking at a leaderboard writes its tables where they are out of date, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import api
from harness.api import read_leaderboard
from harness.planning.benchmark import Benchmark

TOY: dict[str, object] = {
    "name": "toy",
    "train_on": ["Toy"],
    "test_on": ["Toy"],
    "backbones": ["tiny"],
}
TOY |= {"heads": ["ridge"], "baselines": [], "runs": 2}


@pytest.fixture
def finished(tmp_path: Path, tiny: Path) -> Path:
    api.run(Benchmark.model_validate(TOY), out=tmp_path, plugins=[tiny])
    return tmp_path


def test_a_table_that_is_up_to_date_is_left_alone(finished: Path) -> None:
    before = (finished / "table.md").stat()
    read_leaderboard(finished)
    assert (finished / "table.md").stat().st_ino == before.st_ino
    assert (finished / "table.md").stat().st_mtime_ns == before.st_mtime_ns


def test_a_run_that_finds_everything_done_leaves_them_alone(finished: Path, tiny: Path) -> None:
    before = (finished / "table.md").stat().st_ino
    api.run(Benchmark.model_validate(TOY), out=finished, plugins=[tiny])
    assert (finished / "table.md").stat().st_ino == before


def test_a_table_that_somebody_changed_or_removed_is_made_again(finished: Path) -> None:
    good = (finished / "table.csv").read_text()
    (finished / "table.csv").write_text("mine")
    (finished / "table.md").unlink()
    read_leaderboard(finished)
    assert (finished / "table.csv").read_text() == good
    assert (finished / "table.md").is_file()


def test_new_results_make_new_tables(finished: Path) -> None:
    before = (finished / "table.csv").read_text()
    lines = (finished / "results.jsonl").read_text().splitlines(keepends=True)
    (finished / "results.jsonl").write_text(lines[0])
    read_leaderboard(finished)
    assert (finished / "table.csv").read_text() != before


def test_another_version_of_the_code_makes_them_again(finished: Path, monkeypatch) -> None:
    before = (finished / "table.md").stat().st_ino
    monkeypatch.setattr("harness.api.table_stamps._code", lambda: ["other.py"])
    read_leaderboard(finished)
    assert (finished / "table.md").stat().st_ino != before


def test_without_a_cache_to_write_to_they_are_made_every_time(
    finished: Path, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file"))
    before = (finished / "table.md").stat().st_ino
    read_leaderboard(finished)
    assert (finished / "table.md").stat().st_ino != before
