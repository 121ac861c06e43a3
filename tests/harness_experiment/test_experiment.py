"""The embedded dataset: structures are what their prototypes say, and bad tables are refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from harness.data.dataset import Dataset, build_dataset
from harness.plugin import Crystal, DataError, Locations, shipped
from harness.plugin.dataset import Card
from harness_experiment import PARTS, register_datasets
from harness_experiment.prototypes import PROTOTYPES
from harness_experiment.table import load_rows
from harness_properties import KAPPA

pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")

NOWHERE = Locations(data=(), weights=(), cache=Path("nowhere"), offline=True)


@pytest.fixture(scope="module")
def parts() -> dict[str, Dataset]:
    return {
        spec.name: build_dataset(spec.name, spec.read_card(), KAPPA, spec.load(NOWHERE))
        for spec in register_datasets()
        if spec.load
    }


@pytest.fixture(scope="module")
def crystals(parts: dict[str, Dataset]) -> dict[str, Crystal]:
    return {
        row_id: crystal
        for part in parts.values()
        for row_id, crystal in zip(part.ids, part.crystals, strict=True)
    }


def bonds(crystal: Crystal, first: str, second: str, count: int) -> list[float]:
    """The shortest distances (Å) from one atom of an element to atoms of another."""
    structure = crystal.to_pymatgen()
    centre = next(site for site in structure if site.specie.symbol == first)
    neighbours = structure.get_neighbors(centre, 4.5)
    lengths = sorted(n.nn_distance for n in neighbours if n.specie.symbol == second)
    return [float(length) for length in lengths[:count]]


def test_experiment_is_the_concatenation_of_its_parts() -> None:
    specs = {spec.name: spec for spec in register_datasets()}
    assert specs["Experiment"].parts == ("Tetrahedral", "Rocksalt", "OtherPrototypes")
    assert specs["Experiment"].load is None


def test_every_line_of_the_table_is_in_exactly_one_part(parts: dict[str, Dataset]) -> None:
    with shipped("datasets/experiment.csv").open(encoding="utf-8", newline="") as file:
        table = [(line["formula"], float(line["kappa"])) for line in csv.DictReader(file)]
    found = [
        (row_id.split("-")[0], kappa)
        for part in parts.values()
        for row_id, kappa in zip(part.ids, part.targets, strict=True)
    ]
    assert sorted(found) == sorted(table)
    assert not any(part.problems for part in parts.values())
    assert sorted(name for names in PARTS.values() for name in names) == sorted(PROTOTYPES)


def test_the_shipped_table_is_the_reference(shared: Path) -> None:
    reference = shared / "reference" / "experiment.csv"
    assert shipped("datasets/experiment.csv").read_bytes() == reference.read_bytes()


def test_cards_state_rows_and_how_many_values_were_checked(parts: dict[str, Dataset]) -> None:
    whole = Card.read(shipped("datasets/Experiment.toml"))
    checked = {"Tetrahedral": "4 of the 27", "Rocksalt": "none of the 20"}
    checked |= {"OtherPrototypes": "2 of the 11"}
    for name, dataset in parts.items():
        rows = load_rows(PARTS[name], NOWHERE)
        assert dataset.card.rows == len(dataset) == len(rows)
        assert checked[name] in dataset.card.notes
        count = sum(row["checked"] == "yes" for row in rows)
        assert checked[name].split()[0] == (str(count) if count else "none")
    assert whole.rows == sum(len(dataset) for dataset in parts.values()) == 58
    assert "6 of the 58" in whole.notes
    assert "compiled from the literature" in whole.notes


def test_spglib_finds_every_space_group_again_and_no_smaller_cell() -> None:
    import spglib

    rows = load_rows(tuple(PROTOTYPES), NOWHERE)
    assert len(rows) == 58
    for row in rows:
        numbers = [sorted(set(row["species"])).index(symbol) for symbol in row["species"]]
        cell = (row["lattice"], row["frac_coords"], numbers)
        assert spglib.get_symmetry_dataset(cell).number == int(row["space_group"]), row["id"]
        assert len(spglib.find_primitive(cell)[2]) == len(numbers), row["id"]


@pytest.mark.parametrize(
    ("row_id", "first", "second", "lengths"),
    [
        ("C-diamond", "C", "C", [1.545] * 4),
        ("Si-diamond", "Si", "Si", [2.352] * 4),
        ("GaAs-zincblende", "Ga", "As", [2.448] * 4),
        ("GaN-wurtzite", "Ga", "N", [1.948] * 3 + [1.955]),
        ("NaCl-rocksalt", "Na", "Cl", [2.82] * 6),
        ("CsBr-CsCl-type", "Cs", "Br", [3.715] * 8),
        ("CaF2-fluorite", "Ca", "F", [2.366] * 8),
        ("CaF2-fluorite", "F", "Ca", [2.366] * 4),
        ("SrTiO3-cubic-perovskite", "Ti", "O", [1.953] * 6),
        ("SrTiO3-cubic-perovskite", "Sr", "O", [2.761] * 12),
        ("MgAl2O4-spinel", "Mg", "O", [1.918] * 4),
        ("MgAl2O4-spinel", "Al", "O", [1.929] * 6),
        ("Al2O3-corundum", "Al", "O", [1.854] * 3 + [1.973] * 3),
        ("CoSb3-skutterudite", "Co", "Sb", [2.527] * 6),
        ("CoSb3-skutterudite", "Sb", "Sb", [2.856, 2.983]),
    ],
)
def test_bond_lengths_and_coordination_are_those_of_the_literature(
    crystals: dict[str, Crystal], row_id: str, first: str, second: str, lengths: list[float]
) -> None:
    found = bonds(crystals[row_id], first, second, len(lengths) + 1)
    assert found[: len(lengths)] == pytest.approx(lengths, abs=1.5e-3)
    # the shell ends here: the next such neighbour, if any within 4.5 Å, is clearly farther
    assert all(length > lengths[-1] + 0.2 for length in found[len(lengths) :])


def test_no_bond_is_far_from_the_sum_of_the_covalent_radii(crystals: dict[str, Crystal]) -> None:
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius

    radius = CovalentRadius.radius
    for row_id, crystal in crystals.items():
        structure = crystal.to_pymatgen()
        for site in structure:
            nearest = min(structure.get_neighbors(site, 4.5), key=lambda n: n.nn_distance)
            expected = radius[site.specie.symbol] + radius[nearest.specie.symbol]
            # eightfold coordinated halides are the farthest above it (TlCl: 1.34)
            assert 0.85 < nearest.nn_distance / expected < 1.35, row_id


@pytest.mark.slow
@pytest.mark.parametrize("prototype", sorted(PROTOTYPES))
def test_pymatgen_builds_the_same_crystals(prototype: str) -> None:
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Lattice, Structure

    symbol = {"diamond": "Fd-3m:2", "spinel": "Fd-3m:2", "zincblende": "F-43m"}
    symbol |= {"wurtzite": "P6_3mc", "rocksalt": "Fm-3m", "fluorite": "Fm-3m", "corundum": "R-3c"}
    symbol |= {"CsCl-type": "Pm-3m", "cubic perovskite": "Pm-3m", "skutterudite": "Im-3"}
    recipe = PROTOTYPES[prototype]
    values = {"a": 5.0, "c": 9.0, "u": 0.27, "y": 0.33, "z": 0.16}
    elements = ["Na", "Al", "O"][: len(recipe.counts)]
    lattice = Lattice.hexagonal(5.0, 9.0) if recipe.hexagonal else Lattice.cubic(5.0)
    sites = [[values[c] if isinstance(c, str) else c for c in site] for site in recipe.sites]
    expected = Structure.from_spacegroup(symbol[prototype], lattice, elements, sites)
    found = recipe.build(elements, values).to_pymatgen()
    matcher = StructureMatcher(ltol=1e-4, stol=1e-4, angle_tol=1e-3, scale=False)
    assert matcher.fit(found, expected)


def test_loading_twice_gives_the_same_numbers() -> None:
    first, second = (load_rows(PARTS["OtherPrototypes"], NOWHERE) for _ in range(2))
    assert first == second
    coords = np.concatenate([row["frac_coords"] for row in first])
    assert ((coords >= 0) & (coords < 1)).all()


HEADER = "formula,prototype,space_group,a,c,u,kappa,checked,source,note\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("NaCl,rocksallt,225,5.64,,,7,no,,", r"line 2 \(NaCl\), column 'prototype'.*'rocksalt'"),
        ("NaCl,rocksalt,225,,,,7,no,,", r"line 2 \(NaCl\), column 'a': expected a positive num"),
        ("NaCl,rocksalt,225,nan,,,7,no,,", r"column 'a'.*found 'nan'"),
        ("GaN,wurtzite,186,3.189,,0.377,213,no,,", r"\(GaN\), column 'c'.*found ''"),
        ("MgAl2O4,spinel,227,8.083,,,16,no,,", r"\(MgAl2O4\), column 'u'"),
        ("CoSb3,skutterudite,204,9.04,,,10,no,,none", r"column 'note': expected the free site"),
        ("NaCl,rocksalt,225,5.64,,,much,no,,", r"column 'kappa'.*found 'much'"),
        ("CaF2,rocksalt,225,5.4,,,9,no,,", r"column 'formula': 'CaF2' does not fit.*ratio 1:1"),
        ("nacl,rocksalt,225,5.4,,,9,no,,", r"column 'formula': 'nacl' does not fit"),
        ("NaCl,rocksalt,225,5.64", r"line 2 \(NaCl\): expected 10 cells, found 4"),
        ("MgAl2O4,spinel,227,8.083,,0.125,16,no,,", r"line 2 \(MgAl2O4\): .*sites coincide"),
        ("GaN,wurtzite,186,3.189,5.185,1,213,no,,", r"\(GaN\): .*sites coincide"),
    ],
)
def test_a_bad_line_is_named_with_its_column(tmp_path: Path, line: str, message: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(HEADER + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_rows(tuple(PROTOTYPES), NOWHERE, path=table)


def test_a_misspelt_prototype_is_no_way_out_of_a_part(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text(HEADER + "NaCl,rocksallt,225,5.64,,,7,no,,\n", encoding="utf-8")
    with pytest.raises(DataError, match="rocksallt"):
        load_rows(("diamond",), NOWHERE, path=table)


def test_another_header_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("formula,kappa\nSi,150\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: expected the columns formula, prototype"):
        load_rows(("diamond",), NOWHERE, path=table)
