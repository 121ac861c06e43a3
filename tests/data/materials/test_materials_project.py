"""The real client, against a server on 127.0.0.1: batches, patience, resuming, no key shown."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import DataError, Locations, load_dataset
from harness.data.materials import project as materials_project
from harness.data.materials.project import fetch_materials, iter_materials, parse_query

SUMMARY = "materials/summary"
STABLE = {"is_stable": True}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materials_project, "BATCH", 10)


def test_structures_come_by_id_and_are_asked_for_once(materials, service) -> None:
    fetched = fetch_materials(["mp-1", "2", "mp-1", "mp-58"], Locations(), service())
    crystals = load_dataset("Experiment").crystals
    assert list(fetched.found) == ["mp-1", "2", "mp-58"]
    assert fetched.found["2"].species == crystals[1].species
    np.testing.assert_allclose(fetched.found["2"].lattice, crystals[1].lattice, atol=1e-12)
    assert (fetched.moved, fetched.missing) == ({}, {})
    assert fetched.versions == ("2026.10.01",)
    (request,) = materials.asked(SUMMARY)
    assert request["material_ids"] == "mp-1,mp-2,mp-58"

    materials.requests.clear()
    again = fetch_materials(["mp-2"], Locations(offline=True), service())
    assert again.found["mp-2"].digest == fetched.found["2"].digest
    assert materials.requests == []


def test_ids_that_moved_were_withdrawn_or_do_not_exist_are_told_apart(materials, service) -> None:
    materials.materials["mp-5"]["deprecated"] = True
    materials.materials["mp-6"]["structure"] = None
    asked = ["mp-1007", "mp-5", "mp-6", "mp-99999", "Fe2O3", "mp-1a"]
    for _ in range(2):  # the second time from the cache, but for what is not there
        fetched = fetch_materials(asked, Locations(), service())
        assert set(fetched.found) == {"mp-1007", "mp-5"}
        assert fetched.moved == {"mp-1007": "mp-7"}
        assert fetched.deprecated == {"mp-5"}
        assert fetched.missing == {
            "mp-6": "structure: expected an object, found NoneType",
            "mp-99999": "the Materials Project has no such id, and none that it moved to",
            "Fe2O3": "not an id of the Materials Project: expected one as mp-149",
            "mp-1a": "not an id of the Materials Project: expected one as mp-149",
        }


@pytest.mark.usefixtures("small_batches")
def test_a_fetch_that_broke_off_goes_on_with_the_batch_it_stopped_at(materials, service) -> None:
    ids = [f"mp-{number}" for number in range(1, 59)]
    materials.misbehave(SUMMARY, {}, {}, *[{"status": 500}] * 7)
    with pytest.raises(DataError, match=r"7 times: HTTP 500.*goes on from there"):
        fetch_materials(ids, Locations(), service())
    materials.requests.clear()
    assert len(fetch_materials(ids, Locations(), service()).found) == 58
    assert len(materials.asked(SUMMARY)) == 4  # of six batches, two were there


@pytest.mark.usefixtures("small_batches")
def test_a_query_is_paged_and_goes_on_with_the_page_it_stopped_at(materials, service) -> None:
    first = list(islice(iter_materials(STABLE, Locations(), service()), 12))
    assert [r["_page"] for r in materials.asked(SUMMARY)] == ["1", "2"]
    materials.requests.clear()

    rest = dict(iter_materials(STABLE, Locations(), service()))
    assert [r["_page"] for r in materials.asked(SUMMARY)] == ["3"]
    assert set(rest) == {f"mp-{number}" for number in range(1, 59, 2)}
    assert list(rest)[:12] == [material_id for material_id, _ in first]

    materials.requests.clear()
    whole = dict(iter_materials(STABLE, Locations(offline=True), service()))
    assert list(whole) == list(rest)
    assert materials.requests == []


@pytest.mark.usefixtures("small_batches")
def test_an_unfinished_query_begins_anew_when_the_database_has_a_new_version(
    materials, service
) -> None:
    list(islice(iter_materials(STABLE, Locations(), service()), 12))
    materials.requests.clear()
    materials.version = "2026.11.01"
    del materials.materials["mp-1"]
    assert "mp-1" not in dict(iter_materials(STABLE, Locations(), service()))
    assert [r["_page"] for r in materials.asked(SUMMARY)] == ["1", "2", "3"]


def test_a_material_without_a_usable_structure_is_told_and_does_not_stop_the_query(
    materials, service
) -> None:
    materials.materials["mp-3"]["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    told: list[tuple[str, str]] = []
    found = iter_materials(STABLE, Locations(), service(), unusable=lambda *what: told.append(what))
    assert len(list(found)) == 28
    assert told == [("mp-3", "disordered: a site has partial or mixed occupancy")]


@pytest.mark.parametrize(
    ("name", "misbehaviours", "waited"),
    [
        ("too many requests", [{"status": 429, "headers": {"Retry-After": "7"}}], [7.0]),
        ("server errors", [{"status": 500}, {"status": 503}, {"status": 502}], [1.0, 2.0, 4.0]),
        ("a cut connection", [{"cut": True}], [1.0]),
    ],
)
def test_what_passes_is_waited_for(name, misbehaviours, waited, materials, service, pauses) -> None:
    materials.misbehave(SUMMARY, *misbehaviours)
    assert set(fetch_materials(["mp-1"], Locations(), service()).found) == {"mp-1"}
    assert pauses == waited
    # the client does not repeat by itself what is repeated here
    assert len(materials.asked(SUMMARY)) == len(misbehaviours) + 1


@pytest.mark.parametrize("status", [401, 429, 503])
def test_an_error_about_ids_with_422_in_them_is_not_taken_for_a_long_address(
    status: int, materials, service, pauses
) -> None:
    materials.misbehave(SUMMARY, {"status": status})
    with suppress(DataError):  # of a refused key
        fetch_materials(["mp-1", "mp-4221", "mp-4140"], Locations(), service())
    asked = [r["material_ids"] for r in materials.asked(SUMMARY) if r["deprecated"] == "False"]
    assert asked == ["mp-1,mp-4140,mp-4221"] * (1 if status == 401 else 2)
    assert pauses == ([] if status == 401 else [1.0])


@pytest.mark.parametrize("path", ["heartbeat", SUMMARY])
def test_a_server_that_stays_silent_is_asked_again(path, materials, service, pauses) -> None:
    released = threading.Event()
    materials.misbehave(path, {"silent": released})
    found = fetch_materials(["mp-1"], Locations(), service(timeout=0.3)).found
    released.set()
    assert set(found) == {"mp-1"}
    assert pauses == [1.0]


def test_a_server_that_asks_for_a_long_pause_is_left_alone(materials, service, pauses) -> None:
    materials.misbehave(SUMMARY, {"status": 429, "headers": {"Retry-After": "4000"}})
    with pytest.raises(DataError, match=r"HTTP 429; it asks to come back in 4000 s"):
        fetch_materials(["mp-1"], Locations(), service())
    assert pauses == []


def test_no_server_at_all_is_said(service, materials, pauses) -> None:
    closed = service(timeout=5.0)
    materials.shutdown()
    materials.server_close()
    with pytest.raises(DataError, match=r"did not answer when asked for its heartbeat, 7 times"):
        fetch_materials(["mp-1"], Locations(), closed)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def test_a_closed_service_is_not_taken_for_a_wrong_key(materials, service) -> None:
    materials.misbehave("heartbeat", {"status": 403})
    with pytest.raises(DataError, match=r"lets nobody in from here \(HTTP 403\); no key was sent"):
        fetch_materials(["mp-1"], Locations(), service())


def test_without_the_client_the_extra_is_named(materials, service, monkeypatch) -> None:
    for package in ("mp_api", "emmet"):
        for module in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"mp-api.*pip install 'paraisite-harness\[mp\]'"):
        fetch_materials(["mp-1"], Locations(), service())
    assert materials.requests == []


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_refused_key_is_said_and_never_shown(
    materials, service, monkeypatch, caplog, capfd, tmp_path
) -> None:

    wrong = materials.key[::-1]
    monkeypatch.setenv("MP_API_KEY", wrong)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DataError, match=r"refuses the key \(HTTP 401\).*MP_API_KEY") as refusal:
        fetch_materials(["mp-1"], Locations(), service())
    echo = f'{{"detail": "key {wrong}"}}'
    failing = [{"status": 500, "body": echo}] * 7
    materials.misbehave(SUMMARY, *failing, {"status": 400, "body": echo})
    messages = [str(refusal.value)]
    for _ in range(2):
        with pytest.raises(DataError) as refusal:
            fetch_materials(["mp-1"], Locations(), service())
        messages.append(str(refusal.value))
    assert wrong in {key for _, _, key in materials.requests}
    said = "".join(messages) + caplog.text + "".join(capfd.readouterr())
    assert wrong not in said
    assert wrong.encode() not in everything_in(tmp_path)


def test_the_key_is_not_kept_with_what_was_fetched(materials, service, tmp_path) -> None:

    fetch_materials(["mp-1"], Locations(), service())
    content = everything_in(tmp_path)
    assert b"mp-1" in content
    assert materials.key.encode() not in content


@pytest.mark.parametrize(
    ("key", "message"), [("", "is missing"), ("short", "is malformed: 32 characters")]
)
def test_a_missing_or_malformed_key_is_an_error_that_says_where_to_get_one(
    key: str, message: str, materials, service, monkeypatch
) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.setenv("MP_API_KEY", key)
    monkeypatch.delitem(SETTINGS, "PMG_MAPI_KEY", raising=False)
    with pytest.raises(DataError, match=message) as refusal:
        fetch_materials(["mp-1"], Locations(), service())
    assert "next-gen.materialsproject.org/api" in str(refusal.value)
    assert "short" not in str(refusal.value)


def test_the_key_of_pymatgens_settings_is_used(materials, service, monkeypatch) -> None:
    from pymatgen.core import SETTINGS

    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", materials.key)
    assert set(fetch_materials(["mp-1"], Locations(), service()).found) == {"mp-1"}


def test_offline_asks_nothing(materials, service) -> None:
    with pytest.raises(DataError, match=r"offline \(\$HARNESS_OFFLINE\)"):
        fetch_materials(["mp-1"], Locations(offline=True), service())
    assert materials.requests == []


def test_an_unknown_name_in_a_query_is_refused_with_a_suggestion(materials, service) -> None:
    with pytest.raises(DataError, match=r"asked for 'is_stabel'. Did you mean 'is_stable'"):
        list(iter_materials({"is_stabel": True}, Locations(), service()))
    with pytest.raises(
        DataError, match=r"asked for page 1 of the query: 'hardness' is not a valid"
    ):
        list(iter_materials({"has_props": ["hardness"]}, Locations(), service()))
    assert materials.asked(SUMMARY) == []


def test_a_damaged_cache_is_named_with_the_remedy(materials, service, tmp_path) -> None:
    fetch_materials(["mp-1"], Locations(), service())
    (path,) = tmp_path.rglob("*.sqlite")
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"materials\.sqlite, cannot be used.*remove it"):
        fetch_materials(["mp-1"], Locations(), service())


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("stable", {"is_stable": True}),
        ("stable, num_sites=1..20", {"is_stable": True, "num_sites": [1, 20]}),
        ("elements=Si+O,is_metal=false", {"elements": ["Si", "O"], "is_metal": False}),
        ("band_gap=0.5..2,formula=SiO2", {"band_gap": [0.5, 2], "formula": "SiO2"}),
    ],
)
def test_queries_are_read_from_text(text: str, query: dict[str, Any]) -> None:
    assert parse_query(text) == query


@pytest.mark.parametrize("text", ["", "stabel", "num_sites=", "num_sites=1..many"])
def test_text_that_is_no_query_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"expected|Expected"):
        parse_query(text)
