"""Prediction where no bundle is named: by the one that ships, or by the one that was chosen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness import BundleError, Crystal, api, load_bundle, load_dataset, predict_files
from harness.apps.predict import predicting
from harness.apps.predict.bundle import read_record, rows_of
from harness.apps.predict.default_bundle import (
    SHIPPED,
    default_bundle,
    own_default,
    use_bundle,
    use_shipped,
)
from harness.apps.predict.recipes import find_recipe, make_bundle
from harness.cli.default_bundle import BEYOND
from harness.planning.benchmark import Benchmark

MAGNESIA = """MgO
4.21
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Mg O
1 1
Direct
0.0 0.0 0.0
0.5 0.5 0.5
"""
CANDIDATES = """
train_on = ["Tetrahedral"]
test_on = ["Tetrahedral", "Rocksalt"]
backbones = ["descriptors"]
heads = ["ridge", "gp", "mean-log"]
baselines = []
runs = 3
metrics = ["mae-log"]
"""


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's default bundle."""
    monkeypatch.setenv("HARNESS_BUNDLES", str(tmp_path / "bundles"))
    return tmp_path / "bundles"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the recipe of the shipped bundle makes, as somebody's default one."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_BUNDLES", str(home / "bundles"))
        patch.setenv("HARNESS_CACHE", str(home / "cache"))
        return make_bundle("simple-crystals")[0]


@pytest.fixture
def poscar(tmp_path: Path) -> Path:
    """Rock salt MgO, which is a training row of the shipped bundle."""
    path = tmp_path / "POSCAR"
    path.write_text(MAGNESIA)
    return path


# --- the shipped one ----------------------------------------------------------------------------


def test_a_file_is_predicted_where_nothing_was_trained(poscar: Path) -> None:
    (row,) = predict_files([poscar]).to_dict("records")
    assert 30 < row["kappa_mean"] < 100  # measured: 60 W/(m·K)
    assert row["low"] < row["kappa_geometric"] < row["high"]
    assert row["in_training"]


def test_the_shipped_bundle_is_what_its_recipe_makes(made: Path) -> None:
    record, shipped = read_record(made), read_record(SHIPPED)
    for name in ("stacks", "runs", "datasets", "formulas", "calibration_rows"):
        assert _plain(getattr(record, name)) == _plain(getattr(shipped, name)), "run `make bundle`"
    assert _scores(record) == pytest.approx(_scores(shipped), abs=1e-3)
    crystals = load_dataset("Experiment").crystals
    anew, old = (load_bundle(one).predict(crystals) for one in (made, SHIPPED))
    for name in ("kappa_mean", "low", "high"):
        np.testing.assert_allclose(anew[name], old[name], rtol=1e-3)


def _plain(value):
    """Without the version of the harness that a plugin came with."""
    return re.sub(r"version='[^']*'", "", repr(value))


def _scores(record) -> list[float]:
    return [mean for one in record.cells for mean, _ in one.metrics.values()]


def test_the_shipped_bundle_is_small_and_made_of_data_that_may_be_passed_on() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 100_000
    record = read_record(SHIPPED)
    assert set(record.datasets) == {"Experiment"}
    assert record.datasets["Experiment"] == (load_dataset("Experiment").digest, 58)


def test_its_interval_holds_what_it_says_on_test_rows() -> None:
    (one,) = read_record(SHIPPED).cells
    assert one.independent
    for level, share in one.coverage.items():
        assert share == pytest.approx(float(level), abs=0.1)


def test_it_warns_of_what_is_unlike_the_crystals_it_knows() -> None:
    sites = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    cubic = np.array([[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]])
    known, element, layers = load_bundle(SHIPPED).predict(
        [
            Crystal(cubic, ("Mg", "O"), sites),
            Crystal(cubic, ("U", "O"), sites),
            Crystal(np.diag([3.0, 4.0, 20.0]), ("Pb", "O"), sites),
        ]
    )["warnings"]
    assert known == ""
    assert element == "not in the training data: U"
    assert "far from the training data" in layers


@pytest.mark.slow
def test_what_is_said_of_other_crystals_is_so(shared: Path) -> None:
    held, factor, width = {}, {}, {}
    for name in ("Dataset1", "Dataset2", "AFLOW"):
        data = load_dataset(name, data_dir=shared / "data")
        frame = load_bundle(SHIPPED).predict(data.crystals)
        new = frame["kappa_mean"].notna() & ~frame["in_training"].fillna(True).astype(bool)
        held[name] = (frame["low"] <= data.targets) & (data.targets <= frame["high"])
        held[name] = held[name][new]
        factor[name] = 10 ** np.log10(frame["kappa_geometric"] / data.targets)[new].mean()
        width[name] = np.median(np.sqrt(frame["high"] / frame["low"])[new])
    near = [*held["Dataset1"], *held["Dataset2"]]
    assert (
        f"It knows simple crystals only: its 90% interval held {np.mean(near):.0%} of {len(near)} "
        f"others of Dataset1 and Dataset2 and {held['AFLOW'].mean():.0%} of {len(held['AFLOW'])} "
        f"of AFLOW, since it is wide there: of AFLOW a factor of {width['AFLOW']:.0f} either way "
        f"(median), around {factor['AFLOW']:.0f} times too much (mean)."
    ) == BEYOND


# --- another one --------------------------------------------------------------------------------


def test_a_bundle_that_was_chosen_answers_until_the_shipped_one_is_chosen_again(
    bundles: Path, poscar: Path, tmp_path: Path
) -> None:
    assert default_bundle() == SHIPPED
    copy = tmp_path / "mine"
    shutil.copytree(SHIPPED, copy)
    use_bundle(copy)
    shutil.rmtree(copy)  # what is the default is a copy
    assert default_bundle() == own_default() == bundles / "default"
    assert len(predict_files([poscar])) == 1
    use_bundle(own_default())
    use_shipped()
    assert default_bundle() == SHIPPED
    assert list(bundles.iterdir()) == []


def test_what_is_no_bundle_does_not_become_the_default(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        use_bundle(tmp_path)
    assert default_bundle() == SHIPPED


def test_what_a_recipe_makes_becomes_the_default(made: Path, monkeypatch) -> None:
    monkeypatch.setenv("HARNESS_BUNDLES", str(made.parent))
    assert default_bundle() == made


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(BundleError, match="Did you mean 'paraisite'"):
        find_recipe("parasite")


def test_every_recipe_is_a_benchmark_of_one_model() -> None:
    for path in SHIPPED.parent.glob("*.toml"):
        asked = Benchmark.load(find_recipe(path.stem))
        for part in (asked.train_on, asked.backbones, asked.heads, asked.transfers):
            assert len(part) == 1


@pytest.mark.slow
def test_the_recipe_of_published_data_is_better_than_what_ships(
    shared: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    _, record = make_bundle("paraisite", tmp_path / "bundle", data_dir=shared / "data")
    by_test_set = {one.cell["test_on"]: one for one in record.cells}
    shipped = {"MIX": 0.29, "Dataset1": 0.25, "Dataset2": 0.32}
    for name, other in shipped.items():  # on the same test rows, by the protocol `strict`
        assert by_test_set[name].metrics["mae-log"][0] < other


# --- the best of several ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def candidates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("candidates")
    (folder / "benchmark.toml").write_text(CANDIDATES)
    api.run(folder)
    return folder


def test_the_best_is_that_which_is_nearest_to_its_validation_rows(candidates, tmp_path) -> None:
    record = predicting.export(candidates, "", tmp_path / "best", best=True)
    distances = {}
    for stage in api.prepare(candidates).stages:
        head, data = stage.model.head_ref.name, stage.dataset
        predicting.export(candidates, f"head={head}", tmp_path / head)
        predicted = load_bundle(tmp_path / head).judge(rows_of(data.crystals)).predicted
        residuals = np.abs(np.log10(predicted) - np.log10(data.targets))
        of_runs = zip(residuals, stage.members, strict=True)
        distances[head] = np.mean([own[member.validation].mean() for own, member in of_runs])
    assert distances.keys() == {"ridge", "gp", "mean-log"}
    assert record.stacks[0].head.name == min(distances, key=distances.__getitem__)
