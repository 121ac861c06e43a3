"""`harness freeze`: few files, the same tables, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import api

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = [{ head = "mean-log" }, { head = "nearest" }]
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 2
loss = "mae-log"
"""
FROZEN = {
    "benchmark.toml",
    "history.parquet",
    "ledger.parquet",
    "plan.json",
    "predictions.parquet",
    "results.jsonl",
    "stages.jsonl",
    "table-overlap-free.csv",
    "table.csv",
    "table.md",
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "benchmark.toml").write_text(BENCHMARK)
    return tmp_path / "toy"


@pytest.fixture
def run(harness, tiny: Path, toy: Path):
    def go(*options: str) -> str:
        command = ("run", str(toy), "--plugin", str(tiny), "--jobs", "1", *options)
        status, printed, _ = harness(*command)
        assert status == 0
        return str(printed)

    return go


def kept(toy: Path) -> set[str]:
    """Files of the results; weights, which are not kept, and locks are left out."""
    files = (path.relative_to(toy) for path in toy.rglob("*") if path.is_file())
    return {
        f.as_posix()
        for f in files
        if f.suffix not in (".safetensors", ".lock") and not f.name.startswith(".lock-")
    }


def test_a_frozen_leaderboard_goes_on(harness, run, toy: Path, tiny: Path) -> None:
    run()
    table = (toy / "table.md").read_text()
    status, printed, _ = harness("freeze", str(toy))
    assert (status, kept(toy)) == (0, FROZEN)
    assert f"files are {len(FROZEN)} now" in printed
    plugin = ("--plugin", str(tiny))
    assert harness("verify", str(toy), *plugin)[1].endswith("Everything agrees.\n")
    run()
    assert (toy / "table.md").read_text() == table
    assert kept(toy) == FROZEN, "what is there is not done again"
    run("--set", "metrics=['mae-log', 'mape']", "--set", "runs=3")
    assert kept(toy) > FROZEN
    assert len(api.read_leaderboard(toy).runs) == 8 * 3 * 2
    assert harness("freeze", str(toy))[0] == 0
    assert kept(toy) == FROZEN
    (toy / "benchmark.toml").write_text(
        BENCHMARK.replace("runs = 2", "runs = 3").replace('"mae-log"]', '"mae-log", "mape"]')
    )
    assert harness("verify", str(toy), *plugin)[1].endswith("Everything agrees.\n")


def test_weights_that_are_lost_are_made_again_beside_what_is_frozen(
    harness, run, toy: Path, tiny: Path
) -> None:
    run()
    harness("freeze", str(toy))
    for weights in toy.glob("stages/*/weights.safetensors"):
        weights.unlink()
    line = json.loads((toy / "results.jsonl").read_text().splitlines()[-1])
    lines = (toy / "results.jsonl").read_text().splitlines(keepends=True)
    (toy / "results.jsonl").write_text("".join(lines[:-2]))
    run()
    assert (toy / "stages" / line["stage"] / "stage.json").is_file()
    assert harness("verify", str(toy), "--plugin", str(tiny))[0] == 0
    assert harness("freeze", str(toy))[0] == 0
    assert kept(toy) == FROZEN


def test_what_is_not_complete_is_refused(harness, run, toy: Path) -> None:
    assert harness("freeze", str(toy))[0] == 2
    run()
    lines = (toy / "results.jsonl").read_text().splitlines(keepends=True)
    (toy / "results.jsonl").write_text("".join(lines[1:]))
    status, printed, told = harness("freeze", str(toy))
    assert (status, printed) == (2, "")
    assert "lacks 1 of 16 results" in told
    assert not (toy / "predictions.parquet").exists()


def test_a_run_says_once_that_its_many_files_can_be_few(
    harness, run, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "harness freeze" not in run(), "a few files are no matter"
    monkeypatch.setattr("harness.api.freezing.MANY", 10)
    assert f"harness freeze {toy}" in run()
    assert run("--quiet") == ""
    harness("freeze", str(toy))
    assert "harness freeze" not in run()


def test_one_folder_for_several_is_refused(harness, toy: Path) -> None:
    status, _, told = harness("freeze", str(toy), str(toy), "--results", str(toy))
    assert status == 2
    assert "freeze one benchmark at a time" in told
