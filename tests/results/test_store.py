"""The store: atomic artefacts, torn lines cut off, no line twice, clear errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from harness.errors import StoreError
from harness.results.row_tables import file_of_rows
from harness.results.store import ScoredCell, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "results")


def test_a_stage_comes_back_as_it_was_written(store: Store, made_up) -> None:
    weights = {"backbone.weight": torch.arange(6.0).reshape(2, 3)}
    assert not store.has_stage("a")
    store.write_stage("a", weights, made_up.facts(), made_up.LEDGER)
    tensors, record = store.read_stage("a")
    assert store.has_stage("a")
    assert record.title == "t"
    pd.testing.assert_frame_equal(store.read_ledger("a"), made_up.LEDGER)
    assert torch.equal(tensors["backbone.weight"], weights["backbone.weight"])


def test_a_stage_that_fails_to_be_written_leaves_nothing(store: Store, made_up) -> None:
    with pytest.raises(TypeError):
        store.write_stage(
            "a", {"w": torch.zeros(1)}, made_up.facts(model={"not json": object()}), made_up.LEDGER
        )
    assert not list((store.folder / "stages").iterdir())


def test_leftovers_of_a_killed_process_are_cleared(store: Store, made_up) -> None:
    (store.folder / "stages" / ".a.unfinished-killed" / "new").mkdir(parents=True)
    store.write_stage("a", {"w": torch.zeros(1)}, made_up.facts(), made_up.LEDGER)
    assert [path.name for path in (store.folder / "stages").iterdir()] == ["a"]


def test_a_stage_is_taken_by_one_holder_at_a_time(store: Store) -> None:
    with store.try_stage("a") as first, Store(store.folder).try_stage("a") as second:
        assert (first, second) == (True, False)
    with store.try_stage("a") as again:
        assert again


def test_a_torn_line_is_ignored_and_cut_off(store: Store, made_up) -> None:
    store.append_results([made_up.line(1)])
    with store.results_path.open("a") as file:
        file.write('{"key": "k", "ru')
    assert len(store.read_results()) == 1
    store.append_results([made_up.line(2)])
    assert [found.run for found in store.read_results()] == [1, 2]
    assert store.results_path.read_text().count("\n") == 2


def test_no_line_is_written_twice(store: Store, made_up) -> None:
    store.append_results([made_up.line(1), made_up.line(2)])
    store.append_results([made_up.line(2), made_up.line(3)])
    assert [found.run for found in store.read_results()] == [1, 2, 3]
    assert store.scored() == {"k": {1, 2, 3}}


def test_predictions_come_back(store: Store) -> None:
    frame = pd.DataFrame({"run": [1, 1], "part": "D", "id": ["a", "b"], "role": "test"})
    frame = frame.assign(target=1.0, prediction=[1.0, float("nan")], overlap=False)
    store.write_predictions("k", frame)
    pd.testing.assert_frame_equal(store.read_predictions("k"), frame)


def test_scored_cells_are_written_together_and_come_back(store: Store, made_up) -> None:
    frames = {made_up.key(n): made_up.rows([n + 0.5, float("nan")]) for n in range(3)}
    cells = [
        ScoredCell(
            key,
            file_of_rows(key, rows),
            made_up.LEDGER if n else None,
            [made_up.line(1, cell=key)],
        )
        for n, (key, rows) in enumerate(frames.items())
    ]
    store.write_scored(cells)
    for key, rows in frames.items():
        pd.testing.assert_frame_equal(store.read_predictions(key), rows)
        assert store.has_tuning_ledger(key) == (key != made_up.key(0))
    assert [line.key for line in store.read_results()] == list(frames)
    assert store.scored() == Store(store.folder).scored() == {key: {1} for key in frames}


def test_rows_given_as_columns_make_the_file_that_a_frame_makes(store: Store) -> None:
    columns: dict[str, Any] = {
        "run": np.array([1, 2], dtype=np.int32),
        "part": ["D", "D"],
        "id": ["a", "b"],
        "target": np.array([1.0, math.nan]),
        "overlap": np.array([True, False]),
    }
    contents = set()
    for rows in (columns, columns, pd.DataFrame(columns)):
        store.write_predictions("k", rows)
        contents.add(store.predictions_path("k").read_bytes())
    assert len(contents) == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write results to .*file.*--results"):
        Store.create(tmp_path / "file" / "results")


def test_writing_to_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"Cannot write results to .*absent"):
        Store(tmp_path / "absent").write_text("table.md", "")


def test_a_folder_without_results_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"holds no results yet.*harness run"):
        store.read_plan()


def test_dry_runs_below_a_folder_without_results_are_named(store: Store) -> None:
    dry = Store.create(store.folder / "limit-20")
    dry.write_text("plan.json", "{}")
    with pytest.raises(StoreError, match=r"Did you mean --results .*results/limit-20\?"):
        store.read_plan()


def test_opening_makes_no_folder(tmp_path: Path) -> None:
    assert Store(tmp_path / "results").read_results() == []
    assert list(tmp_path.iterdir()) == []


def test_a_line_takes_the_place_of_another(store: Store, made_up) -> None:
    store.append_results([made_up.line(1), made_up.line(2)])
    store.replace_results([made_up.line(1, 0.25)])
    scores = [(found.run, found.scores["all"]["mape"]) for found in store.read_results()]
    assert scores == [(1, 0.25), (2, 0.5)]


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"key": "k"}', '{"key": "k", "run": "1"}'])
def test_a_broken_line_is_named(store: Store, text: str, made_up) -> None:
    store.append_results([made_up.line(1)])
    store.results_path.write_text(store.results_path.read_text() + text + "\n")
    with pytest.raises(StoreError, match=r"results\.jsonl, line 2 is damaged: .*Restore the file"):
        store.read_results()


def test_missing_and_damaged_files_are_named(store: Store, made_up) -> None:
    with pytest.raises(StoreError, match=r"k\.parquet is missing"):
        store.read_predictions("k")
    store.predictions_path("k").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"k\.parquet is damaged"):
        store.read_predictions("k")
    made_up.LEDGER.to_parquet(store.predictions_path("k"))
    with pytest.raises(StoreError, match=r"k\.parquet is damaged: .*lacks target, prediction"):
        store.read_predictions("k")
    with pytest.raises(StoreError, match=r"ledger\.parquet is missing"):
        store.read_ledger("a")
    with pytest.raises(StoreError, match=r"stage\.json is missing"):
        store.stage_record("a")


def test_what_killed_writers_have_left_is_gone_when_a_folder_is_opened_again(
    tmp_path: Path,
) -> None:
    Store.create(tmp_path)
    places = [tmp_path, *(tmp_path / sub for sub in ("stages", "predictions", "tuning"))]
    places += [tmp_path / "stages" / "0123456789abcdef"]
    for folder in places:
        (folder / ".table.csv.unfinished-killed").mkdir(parents=True)
        (folder / ".table.csv.unfinished-killed" / "lock").touch()
    Store.create(tmp_path)
    assert not list(tmp_path.rglob(".*"))
