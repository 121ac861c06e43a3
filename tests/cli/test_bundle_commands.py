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


# --- several bundles --------------------------------------------------------------------------


@pytest.fixture
def both(toy_bundle, energy_bundle, tiny) -> list[str]:
    """Options that name a bundle of κ and one of energies."""
    return ["-b", str(toy_bundle), "-b", f"energies={energy_bundle}", "--plugin", str(tiny)]


def test_show_names_the_property_and_its_unit(harness, energy_bundle, toy_bundle) -> None:
    _, out, _ = harness("bundle", "show", str(energy_bundle))
    assert re.search(r"property +formation-energy *\n +unit +eV/atom", out)
    for bundle, name in ((energy_bundle, "formation-energy"), (toy_bundle, "thermal-conductivity")):
        _, out, _ = harness("bundle", "show", str(bundle), "--json")
        assert json.loads(out)["property_name"] == name


def test_predict_shows_a_linear_property_in_its_unit(harness, files, energy_bundle, tiny) -> None:
    options = ["-b", str(energy_bundle), "--plugin", str(tiny)]
    status, out, err = harness("predict", str(files), *options)
    assert (status, err) == (0, "")
    assert f"E_f in eV/atom, by {energy_bundle}" in out
    assert re.search(r"formula +E_f +std +interval +distance", out)
    _, out, _ = harness("predict", str(files), *options, "--json")
    (good, _) = json.loads(out)
    mean = good["formation_energy_per_atom_mean"]
    assert good["low"] + good["high"] == pytest.approx(2 * mean)
    assert "std_over_mean" not in good


def test_predict_prints_one_table_of_several_bundles(harness, files, both, tmp_path) -> None:
    table = tmp_path / "table.csv"
    status, out, err = harness("predict", str(files), *both, "-o", str(table))
    assert (status, err) == (0, "")
    assert "κ in W/(m·K), E_f in eV/atom, by " in out
    assert re.search(r"formula +κ +κ interval +E_f +E_f interval +remarks", out)
    for label in ("κ", "E_f"):
        assert f"{label}: Rows: 2; 0 with a warning, 1 could not be predicted." in out
        assert re.search(rf"{label}: The interval is one of 90%; it has held \d+% of the test", out)
    frame = pd.read_csv(table)
    assert frame["kappa_mean"].notna().tolist() == [True, False]
    assert frame["formation_energy_per_atom_mean"].notna().tolist() == [True, False]
    assert (frame["kappa_reason"][1:] == frame["formation_energy_per_atom_reason"][1:]).all()
    status, out, _ = harness("predict", str(files), *both, "--json")
    assert list(json.loads(out)[0]) == frame.columns.tolist()


def test_two_bundles_of_one_property_need_names(harness, files, toy_bundle, tiny) -> None:
    options = ["--plugin", str(tiny), "--json"]
    twice = ["-b", str(toy_bundle), "-b", str(toy_bundle)]
    status, _, err = harness("predict", str(files), *twice, *options)
    assert (status, "--bundle first=FOLDER" in err) == (2, True)
    named = ["-b", f"one={toy_bundle}", "-b", f"two={toy_bundle}"]
    status, out, _ = harness("predict", str(files), *named, *options)
    (good, _) = json.loads(out)
    assert status == 0
    assert good["one_kappa_mean"] == good["two_kappa_mean"]


@pytest.mark.parametrize("command", ["predict", "scan"])
def test_a_bundle_of_another_property_is_refused(
    command, harness, files, both, toy_bundle, tmp_path
) -> None:
    target = ["-o", str(tmp_path / "new.parquet")]
    status, out, err = harness(command, str(files), *both, *target, "--property", "band-gap")
    assert (status, out) == (2, "")
    assert f"The bundle {toy_bundle} predicts lattice thermal conductivity" in err
    assert "not band gap (band-gap)" in err
    assert not list(tmp_path.glob("new*"))


def test_scan_prints_candidates_of_several_properties(harness, both, tmp_path) -> None:
    table = tmp_path / "scan.parquet"
    options = [*both, "--jobs", "1", "-o", str(table)]
    bounds = ["--max", "1e9", "--max", "energies=1e9", "--sort-by", "formation-energy"]
    status, out, err = harness("scan", "Toy", *options, *bounds, "--top", "3")
    assert (status, err) == (0, "")
    assert re.search(r"κ: \d+ predictions without a warning", out)
    assert re.search(r"E_f: \d+ predictions without a warning", out)
    assert (
        "48 structures with κ up to 1e+09 W/(m·K) and E_f up to 1e+09 eV/atom, the lowest E" in out
    )
    _, out, _ = harness("scan", "Toy", *options, *bounds, "--json")
    found = json.loads(out)
    energies = [row["formation_energy_per_atom_mean"] for row in found["candidates"]]
    assert energies == sorted(energies)
    assert set(found["bundles"]) == {"kappa", "formation_energy_per_atom"}
    assert set(found["bundles"]["kappa"]) == {"failed", "applicable", "reasons"}


def test_what_names_no_bundle_or_no_number_is_refused_before_a_scan(
    harness, both, tmp_path
) -> None:
    options = [*both, "-o", str(tmp_path / "scan.parquet")]
    for arguments, told in (
        (["--max", "kapa=1"], "Did you mean 'kappa'"),
        (["--max", "kappa=low"], "--max 'kappa=low': expected a number"),
        (["--sort-by", "band_gap"], "expected one of kappa, formation_energy_per_atom"),
    ):
        status, _, err = harness("scan", "Toy", *options, *arguments)
        assert (status, told in err) == (2, True), err
    assert not list(tmp_path.iterdir())


# --- where no bundle is named -----------------------------------------------------------------


@pytest.fixture
def default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a default bundle of the user's would lie."""
    monkeypatch.setenv("HARNESS_BUNDLES", str(tmp_path / "bundles"))
    return tmp_path / "bundles" / "default"


def test_predict_says_first_which_bundle_answers_and_how_to_get_a_better_one(
    harness, files, default
) -> None:
    status, out, err = harness("predict", str(files))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("Bundle: that of the harness")
    assert "58 simple crystals with measured κ" in lines[0]
    assert re.search(r"^Test rows: MAE log₁₀ κ .*: 0\.\d\d \(0\.\d\d\) on Experiment", lines[1])
    assert "knows simple crystals only" in lines[2]
    assert "harness bundle make paraisite" in lines[3]
    assert re.search(r"κ +std +interval +centre", out)
    status, out, err = harness("predict", str(files), "--json")
    assert status == 0
    assert json.loads(out)[0]["kappa_mean"] > 0
    assert err.startswith("Bundle: that of the harness")


def test_a_chosen_bundle_answers_and_the_shipped_one_can_be_had_back(
    harness, files, default, toy_bundle, tiny
) -> None:
    plugin = ["--plugin", str(tiny)]
    status, out, _ = harness("bundle", "use", str(toy_bundle), *plugin)
    assert (status, out.startswith("Bundle: your default, tiny")) == (0, True)
    _, out, _ = harness("predict", str(files), *plugin)
    assert out.startswith("Bundle: your default, tiny")
    _, out, _ = harness("bundle", "show")
    assert f"Bundle {default}" in out
    status, _, err = harness("predict", str(files))  # the plugin it needs is not named
    assert (status, "`harness bundle use shipped` goes back" in err) == (2, True)
    status, out, _ = harness("bundle", "use", "shipped")
    assert (status, out.startswith("Bundle: that of the harness")) == (0, True)
    assert not default.exists()


def test_scan_asks_the_default_bundle_too(harness, files, default, tmp_path) -> None:
    table = tmp_path / "scan.parquet"
    status, out, _ = harness("scan", str(files), "-o", str(table), "--jobs", "1", "--quiet")
    assert status == 0
    assert out.startswith("Bundle: that of the harness")
    assert pd.read_parquet(table)["kappa_mean"].notna().tolist() == [True, False]


def test_doctor_names_the_default_bundle(harness, default) -> None:
    _, out, _ = harness("doctor", "--json")
    (state,) = [row["state"] for row in json.loads(out) if row["what"] == "bundle"]
    assert state.endswith("shipped/simple-crystals")


def test_make_is_stopped_by_an_unknown_recipe(harness, default) -> None:
    status, _, err = harness("bundle", "make", "parasite")
    assert (status, "Did you mean 'paraisite'" in err) == (2, True)


# --- the best of several ------------------------------------------------------------------------


def test_the_best_needs_models_with_the_same_validation_rows(harness, tmp_path) -> None:
    benchmark = tmp_path / "mine.toml"
    benchmark.write_text(
        'train_on = ["Rocksalt", "Tetrahedral"]\ntest_on = ["Rocksalt"]\n'
        'backbones = ["descriptors"]\nheads = ["ridge", "mean-log"]\nbaselines = []\nruns = 2\n'
    )
    assert harness("run", str(benchmark), "--jobs", "1", "--quiet")[0] == 0
    new = str(tmp_path / "new")
    status, _, err = harness("export", str(benchmark), "--best", "-o", new)
    assert (status, "train_on=Rocksalt,protocol=strict" in err) == (2, True)
    status, out, _ = harness("export", str(benchmark), "train_on=Rocksalt", "--best", "-o", new)
    assert (status, "ridge" in out) == (0, True)
