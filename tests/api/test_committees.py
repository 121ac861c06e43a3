"""A committee is the mean of its members: run by run, row by row, on the property's scale."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from harness import Leaderboard, api, export, load_bundle, load_dataset, run
from harness.data.structure_files import StructureRow
from harness.errors import BenchmarkError, BundleError
from harness.results.store import Store
from harness.training.closed_form import fit_head

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.resolved import ResolvedModel
    from harness.plugin.head import FitRows, Predictor

BENCHMARK = """
train_on = ["Experiment"]
test_on = ["Experiment", "Rocksalt"]
backbones = ["composition"]
heads = ["mean-log"]
models = [{ backbone = { name = "composition", features = "elements" }, head = "nearest" }]
transfers = ["scratch"]
baselines = [{ head = "nearest" }]
committees = COMMITTEES
runs = 3
"""
NEAREST = '"backbone=composition(), head=nearest"'
ALL = f'[{{ label = "all", of = ["mean-log", "Elements", {NEAREST}] }}]'
TURNED = f'[{{ label = "all", of = [{NEAREST}, "Elements", "mean-log"] }}]'


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def write(committees: str) -> Path:
        folder = tmp_path_factory.mktemp("committee")
        text = BENCHMARK.replace("COMMITTEES", committees)
        text += '\n[labels]\nElements = "backbone=composition(features=elements)"\n'
        (folder / "benchmark.toml").write_text(text)
        return folder

    return write


@pytest.fixture(scope="module")
def folder(make: Callable[[str], Path]) -> Path:
    folder = make(ALL)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def leaderboard(folder: Path) -> Leaderboard:
    return api.read_leaderboard(folder)


def predictions(folder: Path, leaderboard: Leaderboard, **wanted: str) -> dict[str, pd.DataFrame]:
    """What each configuration predicts on a test set, by label."""
    store = Store(folder)
    cells = [c for c in store.read_plan().cells if wanted.items() <= c.columns.items()]
    return {leaderboard.label_of(c.columns): store.read_predictions(c.key) for c in cells}


def assert_bundle_predicts(path: Path, folder: Path, label: str) -> None:
    """A bundle predicts what is stored of a configuration, run by run."""
    bundle = load_bundle(path)
    dataset = load_dataset("Rocksalt")
    rows = [
        StructureRow(name, crystal)
        for name, crystal in zip(dataset.ids, dataset.crystals, strict=True)
    ]
    values = bundle.judge(rows).predicted
    stored = predictions(folder, api.read_leaderboard(folder), test_on="Rocksalt")[label]
    for number in stored["run"].unique().tolist():
        of_run = stored[stored["run"] == number]
        known = dict(zip(of_run["id"], of_run["prediction"], strict=True))
        for place, name in enumerate(dataset.ids):
            if name in known:
                assert values[number - 1, place] == pytest.approx(known[name], rel=1e-5)


@pytest.mark.parametrize("test_on", ["Experiment", "Rocksalt"])
def test_it_predicts_the_geometric_mean_of_its_members(
    folder: Path, leaderboard: Leaderboard, test_on: str
) -> None:
    found = predictions(folder, leaderboard, test_on=test_on)
    own, members = found.pop("all"), list(found.values())
    assert len(members) == 3
    logs = [np.log10(member["prediction"]) for member in members]
    np.testing.assert_allclose(np.log10(own["prediction"]), np.mean(logs, axis=0), rtol=1e-12)
    for column in ("run", "id", "target"):
        assert all(own[column].equals(member[column]) for member in members)


def test_no_head_is_fitted_twice_for_other_test_sets_or_for_a_committee(
    make: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[str] = []

    def fit(model: ResolvedModel, rows: FitRows) -> Predictor:
        fitted.append(model.head_ref.label)
        return fit_head(model, rows)

    monkeypatch.setattr("harness.training.stage_predictor.fit_head", fit)
    run(make(ALL))
    assert len(fitted) == 3 * 3, "members × runs"


def test_its_overlap_is_that_of_all_members(folder: Path, leaderboard: Leaderboard) -> None:
    found = predictions(folder, leaderboard, test_on="Rocksalt")
    own, members = found.pop("all"), list(found.values())
    assert own["overlap"].tolist() == np.any([m["overlap"] for m in members], axis=0).tolist()


def test_its_ledger_is_that_of_its_members(folder: Path) -> None:
    cells = Store(folder).read_plan().cells
    (committee,) = {cell.chain for cell in cells if cell.transfer == "committee"}
    others = {stage for c in cells if c.transfer != "committee" for stage in c.chain}
    assert set(committee) == others


def test_all_of_it_is_recomputed(folder: Path) -> None:
    found = api.verify(folder)
    assert not found.differences
    assert found.checked["committees"] == 2 * 3, "test sets × runs"


@pytest.mark.parametrize("which", ["folder", "sure"])
def test_a_mean_that_is_not_that_of_its_members_is_found(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = Store(shutil.copytree(request.getfixturevalue(which), tmp_path / "copy"))
    changed = next(c for c in store.read_plan().cells if c.transfer == "committee")
    rows = store.read_predictions(changed.key)
    rows.loc[rows["run"] == 2, "prediction"] *= 1.001
    store.write_predictions(changed.key, rows)
    found = [text for text in api.verify(store.folder).differences if "mean of those" in text]
    assert found == [
        f"{changed.title}, run 2: its predictions are not the mean of those of its members"
    ]


def test_the_order_of_its_members_does_not_matter(
    folder: Path, leaderboard: Leaderboard, make: Callable[[str], Path]
) -> None:
    turned = make(
        '[{ label = "all", of = ["Elements", "head=nearest, backbone=composition()", "mean-log"] }]'
    )
    run(turned)
    ours = predictions(folder, leaderboard, test_on="Experiment")["all"]
    theirs = predictions(turned, api.read_leaderboard(turned), test_on="Experiment")["all"]
    np.testing.assert_allclose(ours["prediction"], theirs["prediction"], rtol=1e-12)


def test_a_bundle_of_it_predicts_the_mean(folder: Path, tmp_path: Path) -> None:
    export(folder, "all", tmp_path / "bundle")
    assert_bundle_predicts(tmp_path / "bundle", folder, "all")


SURE = """
train_on = ["Experiment"]
test_on = ["Experiment", "Rocksalt"]
backbones = ["composition", { name = "composition", features = "elements" }]
heads = ["gp"]
baselines = [{ head = "mean-log" }]
committees = [{ label = "sure", weighting = "precision", of = ["gp", "gp (features=elements)"] }]
runs = 2
"""


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sure")
    (folder / "benchmark.toml").write_text(SURE)
    run(folder)
    return folder


def test_by_precision_each_member_counts_as_it_is_sure(sure: Path) -> None:
    found = predictions(sure, api.read_leaderboard(sure), test_on="Rocksalt")
    own = found.pop("sure")
    members = [found[label] for label in found if "mean-log" not in label]
    weights = np.array([member["std_log"] ** -2.0 for member in members])
    logs = np.array([np.log10(member["prediction"]) for member in members])
    np.testing.assert_allclose(
        np.log10(own["prediction"]), (logs * weights).sum(axis=0) / weights.sum(axis=0), rtol=1e-9
    )
    np.testing.assert_allclose(own["std_log"], weights.mean(axis=0) ** -0.5, rtol=1e-9)
    assert not np.allclose(np.log10(own["prediction"]), logs.mean(axis=0), rtol=1e-3)
    assert not api.verify(sure).differences


def test_how_members_count_belongs_to_what_a_cell_is(sure: Path, tmp_path: Path) -> None:
    (tmp_path / "benchmark.toml").write_text(SURE.replace('weighting = "precision", ', ""))
    run(tmp_path)
    keys = [
        {c.key for c in Store(one).read_plan().cells if c.transfer == "committee"}
        for one in (sure, tmp_path)
    ]
    assert keys[0].isdisjoint(keys[1])


def test_a_bundle_by_precision_predicts_as_its_cell(sure: Path, tmp_path: Path) -> None:
    export(sure, "sure", tmp_path / "bundle")
    assert_bundle_predicts(tmp_path / "bundle", sure, "sure")


def test_a_network_is_refused_where_members_count_by_precision(tmp_path: Path) -> None:
    text = SURE.replace('heads = ["gp"]', 'heads = ["gp", "linear"]')
    text = text.replace(
        '"gp", "gp (features=elements)"] }',
        '"backbone=composition(), head=linear", "head=gp, backbone=composition()"] }',
    )
    (tmp_path / "benchmark.toml").write_text(text)
    with pytest.raises(BenchmarkError, match=r"'sure' weighs .* a network as head"):
        run(tmp_path)


def test_a_head_without_a_std_fails_its_committee_and_nothing_else(tmp_path: Path) -> None:
    text = SURE.replace('of = ["gp"', 'of = ["mean-log"')
    (tmp_path / "benchmark.toml").write_text(text)
    leaderboard = run(tmp_path)
    failed = Store(tmp_path).failures()
    assert {"no standard deviation" in one.reason for one in failed.values()} == {True}
    keys = {cell.key for cell in Store(tmp_path).read_plan().cells if cell.transfer == "committee"}
    assert failed.keys() == keys
    assert "sure" not in set(leaderboard.runs["head"])


@pytest.mark.parametrize(
    ("committees", "told"),
    [
        ('[{ label = "x", of = ["mean-log", "Element"] }]', "Did you mean 'Elements'"),
        ('[{ label = "x", of = ["mean-log", "head=nearest"] }]', "Several configurations meet"),
        ('[{ label = "x", of = ["mean-log", "mean-log"] }]', "names one configuration twice"),
        ('[{ label = "x", of = ["mean-log"] }]', "at least"),
        (f"[{ALL[1:-1]}, {ALL[1:-1]}]", "make the same cell"),
    ],
)
def test_what_is_no_committee_is_refused(
    make: Callable[[str], Path], committees: str, told: str
) -> None:
    with pytest.raises(BenchmarkError, match=told):
        run(make(committees))


def test_a_label_that_there_is_not_is_named_at_export(folder: Path, tmp_path: Path) -> None:
    with pytest.raises((BenchmarkError, BundleError), match="No configuration is called 'al'"):
        export(folder, "al", tmp_path / "bundle")
