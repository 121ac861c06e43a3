"""Matbench's tasks are datasets by name: fetched, verified, converted, and nothing of it is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import harness_matbench
from harness import Registry, load_dataset
from harness.apps.testing.runner import run_cases
from harness.apps.testing.selection import cases_of
from harness.plugin import DataError, Locations
from harness_matbench import files, tasks
from harness_matbench.files import PublishedFile

TASKS = {task.name: task for task in tasks.TASKS}
SPECS = {spec.name: spec for spec in harness_matbench.register_datasets()}
VALUES = {
    "matbench_log_kvrh": (2.0, 100.0),
    "matbench_log_gvrh": (0.0, 1.0),
    "matbench_mp_e_form": (-1.25, -1.25),
    "matbench_mp_gap": (0.0, 0.0),
    "matbench_phonons": (98.5, 98.5),
    "matbench_dielectric": (1.75, 1.75),
    "matbench_jdft2d": (63.5, 63.5),
    "matbench_perovskites": (2.16, 2.16),
}
"""A value in a task's file, and what it is in the property's unit."""


@pytest.fixture
def published(served, crystals, write_frame, monkeypatch):
    """A file of two rows for each task; returns their names by task."""
    digests = {}
    for name, task in TASKS.items():
        path = served / f"{name}.json.gz"
        digests[name] = write_frame(path, task.column, crystals[:2], [VALUES[name][0]] * 2)
    monkeypatch.setattr(
        tasks,
        "published_file",
        lambda name: PublishedFile(
            f"{name}.json.gz", f"https://invalid.invalid/{name}", f"sha256:{digests[name]}"
        ),
    )
    return served


def load(name: str, locations: Locations):
    return list(SPECS[name].load(locations))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_fetched_verified_and_converted(
    name, published, crystals, locations, monkeypatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(locations.cache))
    monkeypatch.setenv("HARNESS_OFFLINE", "0")
    dataset = load_dataset(name)
    assert dataset.problems == ()
    assert dataset.targets == pytest.approx([VALUES[name][1]] * 2)
    assert dataset.property.name == TASKS[name].property_name
    assert dataset.crystals[1].species == crystals[1].species
    np.testing.assert_array_equal(dataset.crystals[1].lattice, crystals[1].lattice)


@pytest.mark.parametrize("name", ["matbench_log_kvrh", "matbench_perovskites"])
def test_a_task_that_is_there_passes_the_cases_of_datasets(name, published, locations) -> None:
    cases = cases_of("dataset", SPECS[name], {}, Registry(), locations)
    results = list(run_cases(cases, SPECS[name]))
    assert [r for r in results if r.outcome in ("failed", "error")] == []
    assert sum(r.outcome == "passed" for r in results) >= 9


def test_rows_are_called_as_in_matbench() -> None:
    assert TASKS["matbench_log_kvrh"].name_row("0", 1) == "mb-log-kvrh-00001"
    assert TASKS["matbench_phonons"].name_row("914", 915) == "mb-phonons-0915"
    assert TASKS["matbench_phonons"].name_row("mb-phonons-0007", 7) == "mb-phonons-0007"


def test_what_was_fetched_is_not_fetched_again(published, locations) -> None:
    rows = load("matbench_phonons", locations)
    shutil.rmtree(published)
    assert load("matbench_phonons", locations) == rows
    kept = [path.name for path in (locations.cache / "datasets").iterdir()]
    assert kept == ["matbench_phonons.json.gz"]


def test_a_file_of_the_user_needs_no_network(published, locations) -> None:
    shutil.move(published / "matbench_phonons.json.gz", locations.data[0])
    assert len(load("matbench_phonons", locations)) == 2
    assert not locations.cache.exists()


def test_a_file_that_is_another_is_refused_unread(published, locations) -> None:
    file = "matbench_phonons.json.gz"
    (published / file).write_bytes((published / file).read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"came from http.* is not the published file .*thrown"):
        load("matbench_phonons", locations)
    assert list((locations.cache / "datasets").iterdir()) == []
    shutil.copy(published / file, locations.data[0])
    with pytest.raises(DataError, match=r"phonons.json.gz is not the published file: its digest"):
        load("matbench_phonons", locations)


def test_a_file_that_is_nowhere_is_one_error_with_the_remedies(published, locations) -> None:
    (published / "matbench_phonons.json.gz").unlink()
    with pytest.raises(DataError, match="could not be fetched: HTTP 404") as error:
        load("matbench_phonons", locations)
    assert "\n" not in str(error.value)
    for part in (str(locations.data[0]), "--data-dir", "harness datasets fetch matbench_phonons"):
        assert part in str(error.value)


def test_offline_never_reaches_for_the_network(published, tmp_path: Path) -> None:
    offline = Locations(data=(), weights=(), cache=tmp_path / "cache", offline=True)
    with pytest.raises(DataError, match="HARNESS_OFFLINE"):
        load("matbench_mp_gap", offline)
    assert not offline.cache.exists()


def test_a_file_with_other_columns_is_refused(
    crystals, locations, write_frame, monkeypatch
) -> None:
    path = locations.data[0] / "matbench_phonons.json.gz"
    digest = write_frame(path, "peak", crystals[:1], [1.0])
    file = PublishedFile(path.name, "", f"sha256:{digest}")
    monkeypatch.setattr(tasks, "published_file", lambda name: file)
    with pytest.raises(DataError, match=r"columns structure, peak: expected .* last phdos peak"):
        load("matbench_phonons", locations)


def test_a_missing_value_is_a_row_with_a_reason(
    crystals, locations, write_frame, monkeypatch
) -> None:
    path = locations.data[0] / "matbench_log_kvrh.json.gz"
    digest = write_frame(path, "log10(K_VRH)", crystals[:2], [None, 2.0])
    file = PublishedFile(path.name, "", f"sha256:{digest}")
    monkeypatch.setattr(tasks, "published_file", lambda name: file)
    dataset = load_dataset("matbench_log_kvrh", data_dir=path.parent)
    assert dataset.targets == pytest.approx([100.0])
    assert [problem.reason for problem in dataset.problems] == ["no log10(K_VRH)"]


# --- what matminer says of the files ------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_addresses_digests_columns_and_sizes_are_those_of_matminer(name: str) -> None:
    pytest.importorskip("matminer", reason="the extra matbench is not installed")
    facts = json.loads(tasks.find_metadata().read_text(encoding="utf-8"))[name]
    file = tasks.published_file(name)
    assert (file.url, file.digest) == (facts["url"], f"sha256:{facts['hash']}")
    assert file.name == f"{name}.json.gz"
    task = TASKS[name]
    assert set(facts["columns"]) == {"structure", task.column}
    assert task.rows == facts["num_entries"]


def test_every_structure_task_that_asks_for_a_number_is_offered() -> None:
    pytest.importorskip("matminer", reason="the extra matbench is not installed")
    known = json.loads(tasks.find_metadata().read_text(encoding="utf-8"))
    of_structures = {
        name
        for name, facts in known.items()
        if name.startswith("matbench_") and "structure" in facts["columns"]
    }
    assert of_structures - set(TASKS) == {"matbench_mp_is_metal"}


def test_without_matminer_the_error_names_the_extra(locations, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"matminer, which is not installed: .*\[matbench\]"):
        load("matbench_phonons", locations)


def test_metadata_that_say_nothing_of_a_task_are_an_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "find_metadata", lambda: tmp_path / "metadata.json")
    for content in ("{}", "[]", '{"matbench_phonons": {"url": ""}}'):
        (tmp_path / "metadata.json").write_text(content)
        with pytest.raises(DataError, match="say nothing of 'matbench_phonons'"):
            tasks.published_file("matbench_phonons")


def test_a_file_is_fetched_from_its_own_address_unless_there_is_a_mirror(monkeypatch) -> None:
    file = PublishedFile("a.json.gz", "https://invalid.invalid/a", "sha256:0")
    assert file.address == "https://invalid.invalid/a"
    monkeypatch.setenv(files.MIRROR, "http://127.0.0.1:1/mirror/")
    assert file.address == "http://127.0.0.1:1/mirror/a.json.gz"


def test_every_property_of_a_task_is_registered_and_has_its_unit() -> None:
    registry = Registry()
    for task in tasks.TASKS:
        assert registry.properties[task.property_name].factor(task.unit) > 0
    for spec in harness_matbench.register_properties():
        assert registry.properties.owner(spec.name) == "matbench"
