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
    assert 'In a benchmark file: train_on = ["mine"]' in out
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
        "  --target-column: column of κ (label, value)",
        "  --unit: unit of κ (W/(m·K), mW/(m·K))",
        "  --temperature: temperature of κ in K, or unknown",
        "  --method: method by which κ was measured or computed, in a few words",
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


def _mapping(crystal: Crystal) -> dict[str, object]:
    return {
        "lattice": crystal.lattice.tolist(),
        "species": list(crystal.species),
        "frac_coords": crystal.frac_coords.tolist(),
    }
