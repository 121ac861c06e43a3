"""`harness datasets import` asks on a terminal, and says what is missing elsewhere."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from harness import Crystal, load_dataset
from harness.data.neutral import read_neutral


class Terminal(io.StringIO):
    """Standard input with somebody typing."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three crystals as CIF files, and κ of four in a CSV whose columns are called as nowhere."""
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    source = tmp_path / "crystals"
    source.mkdir()
    dataset = load_dataset("Rocksalt").take(range(3))
    lines = ["label,value"]
    for row_id, kappa, crystal in zip(dataset.ids, dataset.targets, dataset.crystals, strict=True):
        crystal.to_pymatgen().to(str(source / f"{row_id}.cif"))
        lines.append(f"{row_id},{1000 * kappa}")
    (source / "kappa.csv").write_text("\n".join([*lines, "gone,5000"]))
    return source


OPTIONS = (
    *("--id-column", "label", "--target-column", "value", "--unit", "mW/(m·K)"),
    *("--temperature", "300", "--method", "measured"),
)


def test_options_say_it_all(folder: Path, harness) -> None:
    status, out, err = harness("datasets", "import", "mine", str(folder), *OPTIONS)
    assert status == 0, err
    assert "harness init mine-first --dataset mine" in out
    assert 'train_on = ["mine"]' in out
    assert "kappa.csv, line 5" in out
    assert "no structure of that name" in out
    assert load_dataset("mine").targets == pytest.approx(load_dataset("Rocksalt").targets[:3])
    _, out, _ = harness("datasets", "list", "--json")
    assert {"name": "mine", "plugin": "imported"}.items() <= next(
        row.items() for row in json.loads(out) if row["name"] == "mine"
    )
    status, out, _ = harness("datasets", "remove", "mine")
    assert (status, out.startswith("Removed mine")) == (0, True)


def test_without_a_terminal_what_is_missing_is_an_error_that_names_the_options(
    folder: Path, harness
) -> None:
    status, out, err = harness("datasets", "import", "mine", str(folder))
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        f"error: {folder / 'kappa.csv'} does not say all that is needed. Give:",
        "  --id-column: column that names the rows (label, value)",
        "  --target-column: column of lattice thermal conductivity κ (label, value)",
        "  --unit: unit of lattice thermal conductivity κ (W/(m·K), mW/(m·K))",
        "  --temperature: temperature of lattice thermal conductivity κ in K, or unknown",
        "  --method: method by which it was measured or computed, in a few words",
    ]


def test_on_a_terminal_it_is_asked_for_again_where_the_answer_makes_no_sense(
    folder: Path, harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["kappa", "label", "value", "eV", "mW/(m·K)", "hot", "", "laser flash"]
    monkeypatch.setattr(sys, "stdin", Terminal("\n".join(typed) + "\n"))
    status, out, err = harness("datasets", "import", "mine", str(folder))
    assert status == 0, err
    assert "--unit 'eV': expected one of W/(m·K), mW/(m·K)" in out + err
    card = load_dataset("mine").card
    assert (card.unit, card.temperature_kelvin, card.method) == ("mW/(m·K)", 300, "laser flash")


def test_an_imported_dataset_is_trained_on_like_any_other(
    folder: Path, harness, tmp_path: Path
) -> None:
    lines = folder.parent / "rows.jsonl"
    rows = [
        {"id": f"r{n}", "kappa": 100.0 + n, **_mapping(crystal)}
        for n, crystal in enumerate(load_dataset("Experiment").crystals)
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert harness("datasets", "import", "mine", str(lines), *OPTIONS[4:])[0] == 0
    benchmark = tmp_path / "b.toml"
    benchmark.write_text(
        'train_on = ["mine"]\ntest_on = ["mine", "Rocksalt"]\nbackbones = ["composition"]\n'
        'heads = ["nearest"]\ntransfers = ["scratch"]\nprotocols = ["strict"]\nruns = 2\n'
        "baselines = []\n"
    )
    status, out, err = harness("run", str(benchmark))
    assert status == 0, err
    status, out, err = harness("verify", str(benchmark))
    assert status == 0, out
    assert "Everything agrees." in out
    stored = list(read_neutral(tmp_path / "imports/mine/rows.jsonl.gz"))
    assert len(stored) == 58


# --- other properties ---------------------------------------------------------------------------


def write_values(folder: Path, heading: str, *values: float) -> list[str]:
    """Writes a CSV with values of the three crystals; returns the arguments of an import."""
    names = sorted(path.stem for path in folder.glob("*.cif"))
    lines = (f"{name},{value}" for name, value in zip(names, values, strict=True))
    table = folder.parent / "values.csv"
    table.write_text("\n".join((f"id,{heading}", *lines)))
    return ["datasets", "import", "mine", str(folder), "--targets", str(table)]


def test_a_value_that_a_log_scale_cannot_have_is_a_row_with_a_reason(folder: Path, harness) -> None:
    given = write_values(folder, "K_VRH", 800, 0, -3)
    said = ("--property", "bulk-modulus", "--unit", "kbar", "--method", "DFT")
    status, out, err = harness(*given, *said, "--json")
    assert status == 0, err
    told = json.loads(out)
    assert (told["property"], told["K range, GPa"]) == ("bulk-modulus", "80 … 80")
    assert "temperature, K" not in told  # nobody asks at which temperature a modulus holds
    assert [row["reason"] for row in told["rejected"]] == [
        "K_VRH is 0, not a positive number",
        "K_VRH is -3, not a positive number",
    ]


def test_zero_and_negative_values_of_a_linear_property_are_values(folder: Path, harness) -> None:
    given = write_values(folder, "e_form", -1500, 0, 250)
    said = ("--property", "formation-energy", "--unit", "meV/atom", "--method", "DFT")
    status, out, err = harness(*given, *said)
    assert status == 0, err
    assert "E_f range, eV/atom" in out
    assert load_dataset("mine").targets == pytest.approx([-1.5, 0.0, 0.25])
    _, out, _ = harness("datasets", "show", "mine", "--json")
    told = json.loads(out)
    assert told["property"] == "formation-energy"
    assert told["E_f range, eV/atom"] == "-1.5 … 0.25"
    assert told["problems"] == []
    _, out, _ = harness("datasets", "list", "--json")
    (row,) = (row for row in json.loads(out) if row["name"] == "mine")
    assert row["property"] == "formation-energy"


def test_a_unit_of_another_property_is_an_error_that_names_those_of_this_one(
    folder: Path, harness
) -> None:
    given = write_values(folder, "K_VRH", 80, 90, 100)
    said = ("--property", "bulk-modulus", "--unit", "eV", "--method", "DFT")
    status, _, err = harness(*given, *said)
    assert status == 2
    assert "--unit 'eV': expected one of GPa, MPa, kbar, Pa, eV/Å³" in err
    assert "unit of bulk modulus K" in err


def test_an_unknown_property_is_an_error_with_a_suggestion(folder: Path, harness) -> None:
    status, _, err = harness("datasets", "import", "mine", str(folder), "--property", "band_gap")
    assert status == 2
    assert "'band_gap'" in err
    assert "band-gap" in err


def test_only_of_what_depends_on_it_the_temperature_is_asked_for(
    folder: Path, harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write_values(folder, "gap", 0.0, 1.1, 5.5)
    monkeypatch.setattr(sys, "stdin", Terminal("eV\nPBE\n"))
    status, out, err = harness(*given, "--property", "band-gap")
    assert status == 0, err
    assert "Unit of band gap E_g (eV, meV)" in out + err
    assert "emperature" not in out + err
    card = load_dataset("mine").card
    assert (card.unit, card.method, card.temperature_kelvin) == ("eV", "PBE", None)


def _mapping(crystal: Crystal) -> dict[str, object]:
    return {
        "lattice": crystal.lattice.tolist(),
        "species": list(crystal.species),
        "frac_coords": crystal.frac_coords.tolist(),
    }
