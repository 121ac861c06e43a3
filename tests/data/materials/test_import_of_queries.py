"""A query of the Materials Project becomes a dataset of a property: values and structures."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from harness import Locations, load_dataset
from harness.data.materials import project as materials_project
from harness.data.materials.project import iter_summaries

SUMMARY = "materials/summary"
DOCUMENTS: dict[str, dict[str, object]] = {
    "formation-energy": {"formation_energy_per_atom": -0.25},
    "band-gap": {"band_gap": 0.0},
    "bulk-modulus": {"bulk_modulus": {"voigt": 111.0, "reuss": 99.0, "vrh": 105.0}},
    "shear-modulus": {"shear_modulus": {"voigt": 55.0, "reuss": 45.0, "vrh": 50.0}},
}
VALUES = {"formation-energy": -0.25, "band-gap": 0.0, "bulk-modulus": 105, "shear-modulus": 50}


@pytest.fixture
def harness(harness, materials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The command, as everywhere; what it imports lies apart."""
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    return harness


def set_fields(materials, fields: dict[str, object], *but: str) -> None:
    for name, document in materials.materials.items():
        if name not in but:
            document.update(deepcopy(fields))


def do_import(harness, *arguments: str) -> tuple[int, str, str]:
    return harness("datasets", "import", "Mine", *arguments)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_values_and_structures_come_from_the_summary_documents(
    name: str, materials, harness
) -> None:
    set_fields(materials, DOCUMENTS[name])
    status, out, err = do_import(harness, "mp:stable", "--property", name, "--json")
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert (told["rows"], told["rejected"], told["remarks"]) == (29, [], [])
    dataset = load_dataset("Mine")
    assert set(dataset.targets.tolist()) == {VALUES[name]}
    assert dataset.crystals[0].species == load_dataset("Experiment").crystals[0].species
    assert dataset.card.property == name
    assert "Materials Project" in dataset.card.method
    assert dataset.card.notes == (
        "Imported from the Materials Project, version 2026.10.01, asked for mp:stable."
    )


def test_a_material_without_a_value_is_a_row_with_a_reason(materials, harness) -> None:
    set_fields(materials, DOCUMENTS["bulk-modulus"], "mp-1")
    materials.materials["mp-3"]["bulk_modulus"] = None
    materials.materials["mp-5"]["bulk_modulus"]["vrh"] = -7.0
    materials.materials["mp-7"]["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    status, out, _ = do_import(harness, "mp:stable", "--property", "bulk-modulus", "--json")
    assert status == 0
    assert {row["id"]: row["reason"] for row in json.loads(out)["rejected"]} == {
        "mp-1": "no bulk_modulus.vrh",
        "mp-3": "no bulk_modulus.vrh",
        "mp-5": "bulk_modulus.vrh is -7, not a positive number",
        "mp-7": "disordered: a site has partial or mixed occupancy",
    }


def test_a_query_is_spelt_as_that_of_a_scan(materials, harness) -> None:
    set_fields(materials, DOCUMENTS["band-gap"])
    status, _, err = do_import(harness, "mp:elements=Ga+N", "--property", "band-gap")
    assert status == 0, err
    assert load_dataset("Mine").formulas == ("GaN",)
    assert materials.asked(SUMMARY)[0]["elements"] == "Ga,N"


def test_what_was_fetched_is_not_asked_for_again_and_an_import_goes_on(
    materials, harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materials_project, "BATCH", 10)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    set_fields(materials, DOCUMENTS["band-gap"])
    materials.misbehave(SUMMARY, {}, *[{"status": 503}] * 7)
    status, _, err = do_import(harness, "mp:stable", "--property", "band-gap")
    assert status == 2
    assert "page 2 of the query" in err
    materials.requests.clear()
    assert do_import(harness, "mp:stable", "--property", "band-gap")[0] == 0
    assert [request["_page"] for request in materials.asked(SUMMARY)] == ["2", "3"]
    materials.requests.clear()
    assert do_import(harness, "mp:stable", "--property", "band-gap", "--replace")[0] == 0
    assert materials.requests == []


def test_one_cache_keeps_the_values_of_several_properties(materials, service) -> None:
    set_fields(materials, DOCUMENTS["band-gap"] | DOCUMENTS["bulk-modulus"])
    stable = {"is_stable": True}
    for fields in (("band_gap",), ("bulk_modulus.vrh",), ()):
        list(iter_summaries(stable, fields, Locations(), service()))
    materials.requests.clear()
    for field, value in (("band_gap", 0.0), ("bulk_modulus.vrh", 105.0)):
        found = list(iter_summaries(stable, (field,), Locations(offline=True), service()))
        assert {material.values[field] for material in found} == {value}
    assert materials.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--property", "debye-temperature"),
            "no field for Debye temperature. Of these properties",
        ),
        (("--property", "band-gap", "--unit", "meV"), "has band gap in eV. Leave the option out"),
        (("--property", "band-gap", "--unit", "GPa"), "'GPa' is not a unit of band gap. Known: eV"),
        (("--property", "band-gap", "--target-column", "gap"), "leave --targets and the options"),
    ],
)
def test_what_a_query_cannot_give_is_an_error_before_anything_is_asked(
    arguments: tuple[str, ...], message: str, materials, harness
) -> None:
    status, _, err = do_import(harness, "mp:stable", *arguments)
    assert status == 2
    assert message in err.replace("\n", " ")
    assert materials.requests == []
