"""What models cost is measured for every row of a table, and written beside its results."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import api, run
from harness.api.costs import COSTS_FILE, measure_costs
from harness.cli import app
from harness.results.store import Store

BENCHMARK = """
train_on = ["Rocksalt"]
test_on = ["Rocksalt", "Tetrahedral"]
backbones = ["megnet"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = [{ head = "nearest" }]
committees = [{ label = "both", of = ["nearest", "megnet"] }]
runs = 2

[labels]
megnet = "backbone=megnet"

[training]
epochs = 2
loss = "mae-log"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("costs")
    (folder / "benchmark.toml").write_text(BENCHMARK)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def costs(folder: Path) -> pd.DataFrame:
    return measure_costs(folder).set_index("model")


def test_every_row_has_its_seconds(costs: pd.DataFrame) -> None:
    assert list(costs.index) == ["nearest", "megnet", "both"]
    seconds = costs[["encode_seconds", "fit_seconds", "predict_seconds"]]
    assert ((seconds >= 0) & (seconds < 60)).all(axis=None)


def test_a_network_is_fitted_in_a_share_of_its_stack(folder: Path, costs: pd.DataFrame) -> None:
    store = Store(folder)
    (stage,) = {c.chain[-1] for c in store.read_plan().cells if c.backbone == "megnet"}
    assert costs.loc["megnet", "fit_seconds"] == pytest.approx(
        store.stage_record(stage).seconds / 2
    )


def test_a_committee_costs_what_its_members_do(costs: pd.DataFrame) -> None:
    seconds = costs[["encode_seconds", "fit_seconds", "predict_seconds"]]
    both = seconds.loc["nearest"] + seconds.loc["megnet"]
    assert seconds.loc["both"].tolist() == pytest.approx(both.tolist())


def test_the_score_stands_beside_it(folder: Path, costs: pd.DataFrame) -> None:
    summary = api.read_leaderboard(folder).summary().query("test_on == 'Rocksalt'")
    assert costs["mae-log"].tolist() == pytest.approx(summary["mae-log"].tolist())


def test_the_command_prints_and_writes_it(folder: Path) -> None:
    done = CliRunner().invoke(app, ["cost", str(folder)])
    assert done.exit_code == 0, done.output
    assert "megnet" in done.output
    written = pd.read_csv(folder / COSTS_FILE)
    assert written["model"].tolist() == ["nearest", "megnet", "both"]


def test_scores_are_drawn_against_it(folder: Path, costs: pd.DataFrame, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["plot", "cost", str(folder), "--to", str(tmp_path / "c.svg")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.svg").stat().st_size > 0
    (folder / COSTS_FILE).rename(tmp_path / COSTS_FILE)
    done = CliRunner().invoke(app, ["plot", "cost", str(folder)])
    (tmp_path / COSTS_FILE).rename(folder / COSTS_FILE)
    assert "harness cost" in str(done.exception)
