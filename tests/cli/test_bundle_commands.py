"""`harness export`, `bundle show`, `predict` and `scan`, as they are typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from harness import load_dataset

POSCAR = """NaCl
5.6
0.0 0.5 0.5
0.5 0.0 0.5
0.5 0.5 0.0
Na Cl
1 1
Direct
0.0 0.0 0.0
0.5 0.5 0.5
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A POSCAR, and a CIF that is broken."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "POSCAR").write_text(POSCAR)
    (folder / "bad.cif").write_text("data_bad\nloop_\n_atom_site_label\nNa\n")
    return folder


def test_export_writes_a_bundle_and_show_shows_it(harness, toy_bundle, tiny, tmp_path) -> None:
    leaderboard, new = str(toy_bundle.parent), str(tmp_path / "new")
    status, out, _ = harness("export", leaderboard, "head=mlp", "-o", new, "--plugin", str(tiny))
    assert status == 0
    shown = harness("bundle", "show", new)
    assert shown == (0, out, "")
    assert "Toy (48 rows)" in out
    assert "Calibrated on" in out
    status, out, _ = harness("bundle", "show", new, "--json")
    assert json.loads(out)["unit"] == "W/(m·K)"
    status, _, err = harness("export", leaderboard, "head=gp", "-o", new, "--plugin", str(tiny))
    assert (status, "No trained ensemble meets head=gp" in err) == (2, True)
    status, _, err = harness("bundle", "show", str(tmp_path))
    assert (status, "is no bundle" in err) == (2, True)


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_predict_prints_a_table_and_writes_a_file(
    suffix, harness, files, toy_bundle, tiny, tmp_path
) -> None:
    table = tmp_path / f"table.{suffix}"
    options = ["--bundle", str(toy_bundle), "--plugin", str(tiny), "-o", str(table)]
    status, out, err = harness("predict", str(files), *options)
    assert (status, err) == (0, "")
    assert "1 could not be predicted" in out
    assert re.search(r"interval is one of 90%; it has held \d+% of the test rows of Toy", out)
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[suffix]
    frame = read(table)
    assert frame["id"].tolist() == ["POSCAR", "bad"]
    assert frame["kappa_mean"].notna().tolist() == [True, False]
    assert frame["reason"].fillna("").astype(bool).tolist() == [False, True]


def test_predict_refuses_what_it_cannot_do(harness, files, toy_bundle, tiny, tmp_path) -> None:
    options = ["--bundle", str(toy_bundle), "--plugin", str(tiny)]
    for arguments, told in (
        ([str(tmp_path / "none.cif")], "does not exist"),
        ([str(files), "-o", "table.xlsx"], "written as one of .csv, .json, .parquet"),
        ([str(files), "-o", str(tmp_path / "no" / "table.csv")], "does not exist: make it"),
        ([str(files), "--level", "90"], "expected 0 < level < 1"),
    ):
        status, _, err = harness("predict", *arguments, *options)
        assert (status, told in err) == (2, True), err
        assert "Traceback" not in err


def test_predict_as_json_has_null_where_there_is_no_number(
    harness, files, toy_bundle, tiny
) -> None:
    options = ["--bundle", str(toy_bundle), "--plugin", str(tiny), "--json"]
    status, out, _ = harness("predict", str(files), *options)
    good, bad = json.loads(out)
    assert status == 0
    assert good["kappa_mean"] > 0
    assert bad["kappa_mean"] is None
    assert bad["reason"]


def test_scan_prints_candidates_and_draws_them(harness, toy_bundle, tiny, tmp_path) -> None:
    table = tmp_path / "scan.parquet"
    options = ["--bundle", str(toy_bundle), "--plugin", str(tiny), "--jobs", "1", "-o", str(table)]
    status, out, err = harness(
        "scan", "Experiment", *options, "--max", "1e9", "--sort", "--top", "3"
    )
    assert (status, err) == (0, "")
    rows = len(load_dataset("Experiment"))
    assert f"{rows} structures; scan.png beside it" in out
    assert f"{rows - 3} further ones are not shown" in out
    assert (tmp_path / "scan.png").read_bytes().startswith(b"\x89PNG")
    status, out, _ = harness("scan", "Experiment", *options, "--max", "1e-9")
    assert f"{rows} of them by an earlier call" in out
    assert "No structure with κ up to 1e-09" in out
    status, out, _ = harness("scan", "Experiment", *options, "--sort", "--json")
    found = json.loads(out)
    kappa = [row["kappa_mean"] for row in found["candidates"]]
    assert kappa == sorted(kappa)
    assert found["candidates_in_all"] == found["rows"] == rows
