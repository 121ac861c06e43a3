"""A CSV of Materials Project ids becomes a dataset; the command line tells what became of ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness import load_dataset

OPTIONS = ("--unit", "W/(m·K)", "--temperature", "300", "--method", "ab initio")
SUMMARY = "materials/summary"


@pytest.fixture
def harness(harness, materials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The command, as everywhere; what it imports lies apart."""
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    return harness


@pytest.fixture
def table(tmp_path: Path) -> str:
    rows = ["mp-1,2200", "2,150", "mp-1007,1160", "mp-77777,1", "Fe2O3,2", "mp-2,150"]
    path = tmp_path / "ids.csv"
    path.write_text("MP_ID,kappa\n" + "\n".join(rows) + "\n")
    return str(path)


def test_a_csv_of_ids_becomes_a_dataset(materials, harness, table) -> None:
    materials.materials["mp-7"]["deprecated"] = True
    materials.materials["mp-1"]["task_ids"] += ["mp-1007"]
    materials.materials["mp-7"]["task_ids"] = ["mp-7"]
    status, out, err = harness("datasets", "import", "FromMP", table, *OPTIONS, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert told["rows"] == 3
    assert told["remarks"] == [
        "id column: MP_ID",
        "target column: kappa",
        "mp-1007 is called mp-1 now",
    ]
    assert [(r["place"], r["id"], r["reason"].partition(":")[0]) for r in told["rejected"]] == [
        (
            "ids.csv, line 5",
            "mp-77777",
            "the Materials Project has no such id, and none that it moved to",
        ),
        ("ids.csv, line 6", "Fe2O3", "not an id of the Materials Project"),
        ("ids.csv, line 7", "mp-2", "duplicate id, as in ids.csv, line 3"),
    ]
    dataset = load_dataset("FromMP")
    experiment = load_dataset("Experiment")
    assert dataset.ids == ("mp-1", "mp-2", "mp-1007")
    assert dataset.targets.tolist() == [2200, 150, 1160]
    np.testing.assert_allclose(dataset.crystals[1].lattice, experiment.crystals[1].lattice)
    assert "Materials Project, version 2026.10.01" in dataset.card.notes
    assert materials.key not in out


def test_rows_that_are_only_numbered_are_not_taken_for_materials(
    materials, harness, tmp_path
) -> None:
    path = tmp_path / "numbered.csv"
    path.write_text("id,mp_id,kappa\n1,mp-2,150\n2,mp-1,2200\n")
    status, out, _ = harness("datasets", "import", "Numbered", str(path), *OPTIONS)
    assert status == 0
    assert "note: id column: mp_id" in out
    assert load_dataset("Numbered").ids == ("mp-2", "mp-1")
    materials.requests.clear()
    path.write_text("id,kappa\n1,150\n2,2200\n")
    status, _, err = harness("datasets", "import", "Wrong", str(path), *OPTIONS)
    assert status == 2
    assert "a number is no id of the Materials Project" in err
    assert materials.requests == []


def test_an_import_that_broke_off_writes_nothing_and_goes_on(
    materials, harness, table, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    materials.misbehave("materials/core", *[{"status": 503}] * 7)
    status, _, err = harness("datasets", "import", "FromMP", table, *OPTIONS)
    assert status == 2
    assert "did not answer when asked for what became of" in err
    assert materials.key not in err
    assert not (tmp_path / "imports").exists()
    status, out, _ = harness("datasets", "import", "FromMP", table, *OPTIONS)
    assert status == 0
    assert 'train_on = ["FromMP"]' in out


def test_without_a_key_the_command_says_where_to_get_one(
    materials, harness, table, monkeypatch
) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.delitem(SETTINGS, "PMG_MAPI_KEY", raising=False)
    status, out, err = harness("datasets", "import", "FromMP", table, *OPTIONS)
    assert (status, out) == (2, "")
    assert err.startswith("error: The key to the Materials Project is missing. Get one at https://")
