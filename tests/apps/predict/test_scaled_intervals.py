"""Intervals of models that say how sure they are: as wide as they are unsure of a crystal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness import Bundle, Crystal, StructureRow, api, load_bundle
from harness.apps.predict import predicting
from harness.apps.predict.bundle import RECORD_FILE
from harness.apps.predict.conformal import half_width
from harness.results.store import Store

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Source"]
backbones = ["tiny"]
heads = ["gp", "ridge"]
baselines = []
runs = 3
metrics = ["mae-log"]

[[committees]]
label = "equal"
of = ["gp", "ridge"]
"""
SITES = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
KNOWN, UNLIKE = Crystal(4.2 * FCC, ("Na", "Cl"), SITES), Crystal(9.0 * FCC, ("U", "Pu"), SITES)


@pytest.fixture(scope="module")
def leaderboard(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("scaled")
    (folder / "benchmark.toml").write_text(BENCHMARK)
    api.run(folder, plugins=[tiny])
    return folder


@pytest.fixture(scope="module")
def bundles(leaderboard: Path, tiny: Path) -> dict[str, Bundle]:
    found = {}
    for name in ("gp", "ridge", "equal"):
        predicting.export(leaderboard, f"head={name}", leaderboard / name, plugins=[tiny])
        found[name] = load_bundle(leaderboard / name, plugins=[tiny])
    return found


def test_who_gives_a_std_has_scaled_intervals_and_nobody_else(
    bundles: dict[str, Bundle], leaderboard: Path
) -> None:
    kinds = {name: bundle.record.interval for name, bundle in bundles.items()}
    assert kinds == {"gp": "scaled", "ridge": "constant", "equal": "constant"}
    written = json.loads((leaderboard / "ridge" / RECORD_FILE).read_text())
    assert "interval" not in written  # its digest is what it was before there were two kinds


def test_an_interval_is_as_wide_as_the_runs_are_unsure(bundles: dict[str, Bundle]) -> None:
    bundle, crystals = bundles["gp"], [KNOWN, UNLIKE]
    frame = bundle.predict(crystals, level=0.8)
    rows = [StructureRow(str(number), crystal) for number, crystal in enumerate(crystals)]
    width = half_width(bundle.residuals, 0.8) * bundle.judge(rows).stds.mean(axis=0)
    centre = np.log10(frame["kappa_geometric"])
    np.testing.assert_allclose(np.log10(frame["high"]) - centre, width)
    np.testing.assert_allclose(centre - np.log10(frame["low"]), width)
    assert width[1] > 1.5 * width[0]
    constant = bundles["ridge"].predict(crystals, level=0.8)
    ratio = constant["high"] / constant["low"]
    assert ratio[0] == pytest.approx(ratio[1])


def test_what_it_covers_is_measured_by_each_run_with_its_own_std(
    bundles: dict[str, Bundle], leaderboard: Path
) -> None:
    store, bundle = Store(leaderboard), bundles["gp"]
    keys = {cell.test_on: cell.key for cell in store.read_plan().cells if cell.head == "gp"}
    for one in bundle.record.cells:
        stored = store.read_predictions(keys[one.cell["test_on"]])
        residuals = np.abs(np.log10(stored["prediction"]) - np.log10(stored["target"]))
        for level, share in one.coverage.items():
            held = residuals <= half_width(bundle.residuals, float(level)) * stored["std_log"]
            assert share == pytest.approx(held.mean(), abs=1e-3)
