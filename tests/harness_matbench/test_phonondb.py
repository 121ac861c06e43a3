"""The 103 compounds of PhononDB: structures and κ come from two files, and are paired by id."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from harness import load_dataset
from harness.plugin import DataError
from harness_matbench import phonondb


@pytest.fixture
def published(served, crystals, locations, write_phonondb, monkeypatch):
    """Files with the first ten crystals of `Experiment`, of which the third has no κ."""
    pytest.importorskip("ase", reason="the extra ase is not installed")
    rows = {f"mp-{n}": (crystal, 10.0 * n) for n, crystal in enumerate(crystals[:10], start=1)}
    digests = write_phonondb(served, rows)
    for name in ("STRUCTURES", "CONDUCTIVITIES"):
        file = getattr(phonondb, name)
        monkeypatch.setattr(phonondb, name, replace(file, digest=f"md5:{digests[file.name]}"))
    monkeypatch.setenv("HARNESS_CACHE", str(locations.cache))
    monkeypatch.setenv("HARNESS_OFFLINE", "0")
    return served


def test_structures_are_paired_with_their_kappa_at_300_kelvin(published, crystals) -> None:
    dataset = load_dataset(phonondb.NAME)
    assert dataset.ids == tuple(f"mp-{n}" for n in range(1, 11))
    assert dataset.targets.tolist() == [10.0 * n for n in range(1, 11)]
    for found, wanted in zip(dataset.crystals, crystals, strict=False):
        assert found.species == wanted.species
        np.testing.assert_allclose(found.lattice, wanted.lattice)
        np.testing.assert_allclose(found.frac_coords, wanted.frac_coords, atol=1e-12)


def test_a_structure_without_kappa_is_a_row_with_a_reason(published, monkeypatch) -> None:
    read = phonondb.read_kappa
    monkeypatch.setattr(
        phonondb, "read_kappa", lambda path: {k: v for k, v in read(path).items() if k != "mp-3"}
    )
    (problem,) = load_dataset(phonondb.NAME).problems
    assert (problem.id, problem.reason) == ("mp-3", "no kappa")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"material_id": "mp-1", "temperatures": [200], "kappa_tot_avg": [1]}]', "ValueError"),
        (b'[{"mp_id": "mp-1", "temperatures": [300], "kappa_tot_avg": [1]}]', "material_id"),
        (b'[{"material_id": "mp-1", "temperatures": [300], "kappa_tot_avg": []}]', "IndexError"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_with_the_row(
    content: bytes, told: str, tmp_path
) -> None:
    (tmp_path / "k.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"k\.json, row 1, does not hold .*{told}"):
        phonondb.read_kappa(tmp_path / "k.json")


def test_its_overlap_with_another_dataset_is_counted_by_the_audit(
    published, harness, tmp_path
) -> None:
    benchmark = tmp_path / "b.toml"
    benchmark.write_text(
        f'train_on = ["Rocksalt", "Tetrahedral"]\ntest_on = ["{phonondb.NAME}"]\n'
        'backbones = ["composition"]\nheads = ["nearest"]\nruns = 1\nbaselines = []\n'
    )
    status, out, err = harness("audit", str(benchmark), "--json")
    assert status == 0, err
    (row,) = (
        row
        for row in json.loads(out)["overlap"]
        if (row["level"], row["dataset"], row["other"]) == ("formula", phonondb.NAME, "Tetrahedral")
    )
    assert (row["rows"], row["shared"]) == (10, 10)
