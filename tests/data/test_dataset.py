"""Datasets: rows that cannot be used are reported by row and reason; the digest is of content."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.dataset import build_dataset, join_datasets
from harness.errors import DataError
from harness.plugin.crystal import Crystal, reduced_formula
from harness.plugin.dataset import Card, DatasetSpec
from harness_properties import KAPPA

CARD = Card(title="test", unit="W/(m·K)")


def raw(row_id: str = "a", **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": row_id,
        "kappa": 7.1,
        "lattice": (np.eye(3) * 5.64).tolist(),
        "species": ["Na", "Cl"],
        "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
    }
    return {**row, **changes}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kappa": None}, "no kappa"),
        ({"kappa": float("nan")}, "no kappa"),
        ({"kappa": 0.0}, "kappa is 0, not a positive number"),
        ({"kappa": -1.5}, "kappa is -1.5, not a positive number"),
        ({"kappa": float("inf")}, "kappa is inf, not a positive number"),
        ({"kappa": "high"}, "kappa is 'high', not a number"),
        ({"species": ["Na", "Xx"]}, "unknown element 'Xx'"),
        ({"species": ["Na", {"Cl": 0.5, "Br": 0.5}]}, "disordered"),
        ({"species": []}, "no sites"),
        ({"frac_coords": [[0, 0, 0]]}, "shapes"),
        ({"frac_coords": [[0, 0, 0], [0.5, 0.5, float("nan")]]}, "not a finite number"),
        ({"lattice": np.zeros((3, 3)).tolist()}, "span no volume"),
        ({"id": ""}, "no id"),
    ],
)
def test_an_unusable_row_is_reported_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    dataset = build_dataset("D", CARD, KAPPA, [raw("good"), raw("bad") | changes])
    assert dataset.ids == ("good",)
    (problem,) = dataset.problems
    assert problem.row == 2
    assert reason in problem.reason


def test_a_missing_key_and_a_duplicate_id_are_reported() -> None:
    without_lattice = raw("b")
    del without_lattice["lattice"]
    dataset = build_dataset("D", CARD, KAPPA, [raw("a"), raw("a"), without_lattice])
    assert [(p.row, p.reason) for p in dataset.problems] == [
        (2, "duplicate id"),
        (3, "no lattice"),
    ]


def test_a_structure_may_be_as_pymatgen_writes_it() -> None:
    plain = build_dataset("D", CARD, KAPPA, [raw()])
    structure = plain.crystals[0].to_pymatgen().as_dict()
    mixed = deepcopy(structure)
    mixed["sites"][0]["species"] = [{"element": "Na", "occu": 0.5}, {"element": "K", "occu": 0.5}]
    other = {**structure, "sites": [{"species": "K", "abc": [0, 0, 0]}]}
    rows = [
        {"id": row_id, "kappa": 7.1, "structure": found}
        for row_id, found in (("a", structure), ("b", mixed), ("c", "NaCl"), ("d", other))
    ]
    dataset = build_dataset("D", CARD, KAPPA, rows)
    assert dataset.digest == plain.digest
    assert [(p.id, p.reason) for p in dataset.problems] == [
        ("b", "disordered: a site has partial or mixed occupancy"),
        ("c", "structure: expected an object, found str"),
        ("d", "structure: the species of a site are no objects"),
    ]


def test_units_are_converted() -> None:
    card = Card(title="test", unit="mW/(m·K)")
    assert build_dataset("D", card, KAPPA, [raw(kappa=7100)]).targets[0] == pytest.approx(7.1)


def test_a_unit_of_another_property_is_refused() -> None:
    card = Card(title="t", unit="eV/atom")
    with pytest.raises(DataError, match=r"card of the dataset 'D': 'eV/atom' .*W/\(m·K\)"):
        build_dataset("D", card, KAPPA, [raw()])


def test_an_unknown_key_of_a_card_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text('title = "t"\nunit = "W/(m·K)"\nlicense = "MIT"\n')
    with pytest.raises(DataError, match="license"):
        Card.read(path)


def test_a_plugin_gives_a_card_or_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text('title = "test"\nunit = "W/(m·K)"\n')
    assert DatasetSpec("D", CARD).read_card() is CARD
    assert DatasetSpec("D", path).read_card() == CARD


def test_the_digest_depends_on_content_alone() -> None:
    first = build_dataset("D", CARD, KAPPA, [raw("a"), raw("b")])
    again = build_dataset("D", CARD, KAPPA, [raw("a"), raw("b")])
    changed = build_dataset("D", CARD, KAPPA, [raw("a"), raw("b", kappa=7.2)])
    moved = build_dataset(
        "D", CARD, KAPPA, [raw("a"), raw("b", frac_coords=[[0, 0, 0], [0.5, 0.5, 0.4]])]
    )
    assert first.digest == again.digest
    assert len({first.digest, changed.digest, moved.digest}) == 3


def test_a_composite_keeps_the_origin_of_its_rows() -> None:
    one, two = (
        build_dataset("One", CARD, KAPPA, [raw("a")]),
        build_dataset("Two", CARD, KAPPA, [raw("a")]),
    )
    both = join_datasets("Both", CARD, [one, two])
    assert both.parts == ("One", "Two")
    assert both.positions_of("Two").tolist() == [1]


def test_a_limit_spreads_over_the_dataset() -> None:
    dataset = build_dataset("D", CARD, KAPPA, [raw(str(i)) for i in range(10)])
    assert dataset.limited(4).ids == ("0", "3", "6", "9")
    assert dataset.limited(99) is dataset


def test_rows_with_elements_a_backbone_does_not_know_become_problems() -> None:
    dataset = build_dataset("D", CARD, KAPPA, [raw("a"), raw("b", species=["K", "Cl"])])
    known = dataset.knowing_only(frozenset({"Na", "Cl"}), "tinynet")
    assert known.ids == ("a",)
    assert known.problems[0].reason == "tinynet does not know K"


def test_a_problem_names_the_row_of_the_file_whatever_was_left_out_before() -> None:
    rows = [raw("no-kappa", kappa=None), raw("a"), raw("b", species=["K", "Cl"])]
    dataset = build_dataset("D", CARD, KAPPA, rows).take([1])
    (_, problem) = dataset.knowing_only(frozenset({"Na", "Cl"}), "tinynet").problems
    assert (problem.row, problem.id) == (3, "b")
    both = join_datasets("Both", CARD, [build_dataset("One", CARD, KAPPA, [raw("c")]), dataset])
    assert both.numbers == (1, 3)


@pytest.mark.parametrize(
    ("species", "formula"),
    [(["Na", "Cl"], "ClNa"), (["O", "O"], "O"), (["Al"] * 4 + ["O"] * 6, "Al2O3")],
)
def test_reduced_formulas(species: list[str], formula: str) -> None:
    assert reduced_formula(species) == formula


def test_a_crystal_survives_pymatgen() -> None:
    crystal = Crystal(np.eye(3) * 4.2, ("Cs", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    back = Crystal.from_pymatgen(crystal.to_pymatgen())
    assert back.digest == crystal.digest
