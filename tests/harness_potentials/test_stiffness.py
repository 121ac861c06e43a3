"""Stiffness as something to learn first: computed once, from AFLOW's crystals."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from harness import DataError, load_dataset
from harness.plugin import Locations

pytestmark = pytest.mark.skipif(
    find_spec("chgnet") is None, reason="the extra `chgnet` is not installed"
)
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
ROWS = {"MgO": (4.212, ("Mg", "O"), 60.0), "NaCl": (5.64, ("Na", "Cl"), 7.0)}


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    lines = [
        {
            "id": name,
            "formula": name,
            "kappa": kappa,
            "lattice": (a * FCC).tolist(),
            "species": list(pair),
            "frac_coords": [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]],
        }
        for name, (a, pair, kappa) in ROWS.items()
    ]
    with gzip.open(tmp_path / "AFLOW.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return Locations(data=(tmp_path,), cache=tmp_path / "cache", offline=False)


def test_who_only_looks_at_results_is_not_made_to_wait_for_energies(locations: Locations) -> None:
    offline = replace(locations, offline=True)
    with pytest.raises(DataError, match=r"2 crystals .* `harness datasets fetch AFLOW-14-bulk-mod"):
        load_dataset("AFLOW-14-bulk-modulus", locations=offline)
    assert load_dataset("AFLOW-14", locations=offline).ids == ("MgO", "NaCl")


@pytest.mark.slow
def test_what_was_computed_once_is_there_for_every_property_of_it(locations: Locations) -> None:
    moduli = load_dataset("AFLOW-14-bulk-modulus", locations=locations)
    assert (moduli.property.name, moduli.ids) == ("bulk-modulus", ("MgO", "NaCl"))
    assert moduli.targets[0] > 3 * moduli.targets[1]
    assert all(float(f"{target:.4g}") == target for target in moduli.targets)
    offline = replace(locations, offline=True)
    debye = load_dataset("AFLOW-14-debye-temperature", locations=offline)
    assert debye.targets[0] > 2 * debye.targets[1]
    assert load_dataset("AFLOW-14-bulk-modulus", locations=offline).digest == moduli.digest
