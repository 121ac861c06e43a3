"""`harness site`, as it is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, leaderboards, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with one leaderboard, which needs no plugin."""
    shutil.copytree(leaderboards.folder / "single", tmp_path / "leaderboards" / "single")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_leaderboards_of_the_current_folder(harness, folder: Path) -> None:
    status, out, err = harness("site")
    assert (status, err) == (0, "")
    assert out.startswith("1 leaderboard: single\n")
    assert (folder / "site" / "index.html").is_file()
    assert f"{len(list((folder / 'site').rglob('*.html')))} pages" in out


def test_json_says_what_was_written(harness, folder: Path) -> None:
    status, out, _ = harness("site", "single", "--to", "web/pages", "--json")
    written = json.loads(out)
    assert (status, written["folder"], written["leaderboards"]) == (0, "web/pages", ["single"])


def test_a_benchmark_that_was_not_run_says_what_to_do(harness, folder: Path) -> None:
    (folder / "leaderboards" / "mine").mkdir()
    shutil.copy(folder / "leaderboards" / "single" / "benchmark.toml", "leaderboards/mine")
    status, _, err = harness("site", "single", "mine")
    assert status == 2
    assert "Run `harness run` first" in err
    assert not (folder / "site").exists()
