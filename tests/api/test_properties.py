"""Other properties than κ through whole runs: trained, scored, shown, verified, exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import api
from harness.results.store import Store

LINEAR = """
train_on = ["ToyEnergies"]
test_on = ["ToyEnergies"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [16] }, "ridge", { name = "gp", restarts = 0 }]
runs = 2
[training]
epochs = 4
"""

CROSSED = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
baselines = []
heads = [{ name = "mlp", hidden = [16] }]
transfers = [
    { name = "two-stage", source = "Energies", source_start = "random" },
    { name = "two-stage", sources = ["Energies", "Source"], source_start = "random" },
    { name = "frozen", source = "Energies", source_start = "random" },
    { name = "joint", sources = ["Energies", "Source"], start = "random" },
]
protocols = [{ name = "strict", keep_other_properties = true }]
runs = 2
[training]
epochs = 3
"""


def finished(text: str, folder: Path, tiny: Path) -> Path:
    folder.mkdir()
    (folder / "benchmark.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        api.run(folder, plugins=[tiny])
    return folder


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return finished(LINEAR, tmp_path_factory.mktemp("linear") / "energies", tiny)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return finished(CROSSED, tmp_path_factory.mktemp("crossed") / "crossed", tiny)


def test_energies_of_either_sign_are_learnt_and_scored(linear: Path) -> None:
    store = Store(linear)
    plan = store.read_plan()
    assert plan.property_name == "formation-energy"
    for cell in plan.cells:
        rows = store.read_predictions(cell.key)
        assert rows["target"].min() < 0 < rows["target"].max()
        assert np.isfinite(rows["prediction"]).all()
        assert ("std" in rows.columns) == cell.head.startswith("gp")
    line = next(line for line in store.read_results() if line.head == "ridge")
    own = store.read_predictions(line.key).query(f"run == {line.run}")
    errors = (own["prediction"] - own["target"]).abs()
    assert line.scores["all"]["mae"] == pytest.approx(errors.mean())


def test_its_tables_speak_of_energies_in_their_unit(linear: Path) -> None:
    text = (linear / "table.md").read_text()
    assert "## MAE E_f (`mae`, eV/atom; lower is better)" in text
    assert "κ" not in text
    assert "W/(m" not in text


@pytest.mark.parametrize("name", ["linear", "crossed"])
def test_what_was_run_verifies(name: str, tiny: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    found = api.verify(folder, plugins=[tiny], deep=True)
    assert found.differences == ()
    assert found.unchecked == ()


def test_a_run_that_is_frozen_reads_and_verifies_as_before(
    linear: Path, tiny: Path, tmp_path: Path
) -> None:
    from shutil import copytree

    copy = tmp_path / "energies"
    copytree(linear, copy)
    api.freeze(copy)
    assert Store(copy).read_plan() == Store(linear).read_plan()
    assert api.verify(copy, plugins=[tiny]).differences == ()


def test_a_backbone_that_learnt_energies_goes_on_without_its_head(crossed: Path) -> None:
    store = Store(crossed)
    by_title = {}
    for key in store.read_plan().stages:
        record = store.stage_record(key)
        by_title.setdefault(record.title, []).append(record)
    after_energies = by_title["Toy (after Energies)"][0]
    after_source = by_title["Toy (after Source)"][0]
    assert after_energies.transferred is not None
    assert after_source.transferred is not None
    assert 0 < after_energies.transferred["tensors"] < after_source.transferred["tensors"]


def test_the_table_says_that_crystals_were_seen_and_not_their_labels(crossed: Path) -> None:
    text = (crossed / "table.md").read_text()
    assert "crystals of test rows were seen in an earlier stage, with their formation-ene" in text
    assert all(not rows["overlap"].any() for rows in _predictions(crossed))


def _predictions(folder: Path) -> list:
    store = Store(folder)
    return [store.read_predictions(cell.key) for cell in store.read_plan().cells]
