"""`harness audit`: what people and scripts read before anything is trained."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import api

BENCHMARK = """
title = "A toy"
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = []
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
runs = 2
"""

Call = Callable[..., tuple[int, str, str]]

FILES = [
    "audit_cells.csv",
    "audit_datasets.csv",
    "audit_overlap.csv",
    "audit_overlap.png",
    "audit_overlap.svg",
    "audit_weights.csv",
]


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "benchmark.toml").write_text(BENCHMARK)
    return tmp_path / "toy"


@pytest.fixture
def audit(tiny: Path, harness: Call) -> Call:
    return lambda *arguments: harness("audit", *arguments, "--plugin", str(tiny))


def test_tables_for_people(audit: Call, toy: Path) -> None:
    status, out, err = audit(str(toy))
    assert (status, err) == (0, "")
    for expected in (
        "A toy: datasets",
        "Rows with a counterpart in …, by id",
        "by formula",
        "by structure",
        "by near",
        "48 (100 %)",
        "StructureMatcher",
        "ltol 0.2, stol 0.3, angle_tol 5°",
        "Pretrained weights: none are used.",
        "Test rows, mean over runs",
    ):
        assert expected in out


def test_sources_of_other_properties_have_units_of_their_own(audit: Call, toy: Path) -> None:
    _, out, _ = audit(str(toy))
    assert "A toy: datasets, κ in W/(m·K)" in out
    assert re.search(r"twins +κ min +κ median +κ max +elements", out)
    source = 'transfers=[{name="two-stage", source="Energies", source_start="random"}]'
    _, out, _ = audit(str(toy), "--set", source)
    assert "A toy: datasets\n" in out
    assert re.search(r"dataset +of +rows .*min +median +max +unit +elements", out)
    assert re.search(r"Toy +κ +48 .*W/\(m·K\)", out)
    assert re.search(r"Energies +E_f +192 .*-\d.*eV/atom", out)
    _, out, _ = audit(str(toy), "--json", "--set", source)
    (energies,) = [row for row in json.loads(out)["datasets"] if row["dataset"] == "Energies"]
    assert (energies["property"], energies["unit"]) == ("formation-energy", "eV/atom")
    assert energies["min"] < 0 < energies["max"]


@pytest.mark.slow
def test_files_lie_beside_the_benchmark_unless_told_otherwise(
    audit: Call, toy: Path, tmp_path: Path
) -> None:
    audit(str(toy))
    assert sorted(os.listdir(toy)) == ["audit", "benchmark.toml"]
    assert sorted(os.listdir(toy / "audit")) == FILES
    audit(str(toy), "--to", str(tmp_path / "elsewhere"))
    assert sorted(os.listdir(tmp_path / "elsewhere")) == FILES


def test_json_is_one_document_with_numbers(audit: Call, toy: Path) -> None:
    status, out, err = audit(str(toy), "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert [row["dataset"] for row in found["datasets"]] == ["Toy", "Twins", "Source"]
    assert {row["rows"] for row in found["datasets"]} == {48, 192}
    assert len(found["overlap"]) == 4 * 3 * 3
    assert found["weights"] == []
    assert [(row["transfer"][:9], row["test_on"]) for row in found["cells"]] == [
        ("scratch", "Toy"),
        ("scratch", "Twins"),
        ("two-stage", "Toy"),
        ("two-stage", "Twins"),
    ]
    assert all(0 <= row["n_overlap_free"] <= row["n_all"] for row in found["cells"])


def test_keys_can_be_changed(audit: Call, toy: Path) -> None:
    _, out, _ = audit(str(toy), "--json", "--set", 'transfers=["scratch"]')
    assert [row["dataset"] for row in json.loads(out)["datasets"]] == ["Toy", "Twins"]


def test_a_row_needs_results(audit: Call, toy: Path) -> None:
    status, out, err = audit(str(toy), "--row", "LiF")
    assert (status, out) == (2, "")
    assert "--row LiF" in err
    assert "holds no results" in err
    assert not (toy / "audit").exists()


@pytest.fixture
def finished(toy: Path, tiny: Path) -> Path:
    overrides = ['transfers=["scratch"]', "training.epochs=1", 'heads=["mean-log"]']
    api.run(toy, plugins=[tiny], overrides=overrides)
    return toy


def test_roles_of_results_are_counted(audit: Call, finished: Path) -> None:
    status, out, err = audit(str(finished))
    assert (status, err) == (0, "")
    assert "rows per run by role" in out
    assert "0 test rows, summed over cells and runs, have another role too." in out
    _, out, _ = audit(str(finished), "--json")
    rows = json.loads(out)
    assert [row["test_on"] for row in rows] == ["Toy", "Twins"]
    assert all(row["gradient"] > 0 and row["test and gradient"] == 0 for row in rows)


def test_the_roles_of_a_row_of_results_are_listed(audit: Call, finished: Path) -> None:
    status, out, _ = audit(str(finished), "--row", "LiF", "--json")
    found = json.loads(out)
    assert status == 0
    assert {row["id"] for row in found} == {"LiF"}
    runs = {row["role"]: row["runs"] for row in found if row["role"] in ("gradient", "test")}
    assert sorted(" ".join(runs.values()).split()) in (["1", "2"], ["1"], ["2"])
    _, out, _ = audit(str(finished), "--row", "LiF")
    assert "the row LiF" in out


def test_a_missing_ledger_of_results_is_named(audit: Call, finished: Path) -> None:
    for path in finished.glob("stages/*/ledger.parquet"):
        path.unlink()
    for arguments in ((), ("--row", "LiF")):
        status, out, err = audit(str(finished), *arguments)
        assert (status, out) == (2, "")
        assert "ledger.parquet is missing. Restore the file" in err


def test_missing_data_says_where_to_put_it(audit: Call, toy: Path, tmp_path: Path) -> None:
    arguments = ["--set", 'train_on=["Dataset1"]', "--data-dir", str(tmp_path)]
    status, out, err = audit(str(toy), *arguments)
    assert (status, out) == (2, "")
    for expected in ("Dataset1", str(tmp_path), "--data-dir"):
        assert expected in err


def test_pretrained_weights_are_named_with_their_data(audit: Call, toy: Path, shared: Path) -> None:
    arguments = ["--set", 'backbones=["megnet"]', "--set", 'transfers=["pretrained"]']
    _, out, _ = audit(str(toy), *arguments, "--weights-dir", str(shared / "weights"), "--json")
    (row,) = json.loads(out)["weights"]
    assert row["weights"] == "MEGNet-MP-2018.6.1-Eform"
    assert row["seen"] == "MP-2018.6.1-Eform"
