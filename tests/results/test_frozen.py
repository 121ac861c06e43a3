"""Frozen results: nothing is lost, whatever happens; loose files go before; runs go on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.results.freezing import freeze, loose_files
from harness.results.frozen import TABLES
from harness.results.store import Store

PACKED = {"predictions.parquet", "ledger.parquet", "history.parquet", "stages.jsonl"}
KEY = "0" * 16
OWN = {"plan.json", "results.jsonl"}

numbers = st.floats(allow_nan=False, allow_infinity=False)
entries = st.none() | numbers


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any] | None:
    """What trainers have left so far, and what others might leave."""
    if draw(st.booleans()):
        odd: list[Any] = [None, {"note": ["?"]}, {"score": [], "train_loss": []}]
        return draw(st.sampled_from(odd))
    epochs, members = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def by_member() -> list[list[float | None]]:
        row = st.lists(entries, min_size=members, max_size=members)
        return draw(st.lists(row, min_size=epochs, max_size=epochs))

    history: dict[str, Any] = {"train_loss": by_member(), "score": by_member()}
    if draw(st.booleans()):
        history["lr"] = draw(st.lists(numbers, min_size=epochs, max_size=epochs))
    return history


@st.composite
def rows_of_cells(draw: st.DrawFn) -> list[tuple[list[float], list[float] | None, Any]]:
    cells = []
    for _ in range(draw(st.integers(1, 3))):
        predictions = draw(st.lists(st.floats(), min_size=1, max_size=4))
        spread = [0.5] * len(predictions) if draw(st.booleans()) else None
        cells.append((predictions, spread, draw(histories())))
    return cells


@given(cells=rows_of_cells(), tuned=st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_is_frozen_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, made_up, cells, tuned: bool
) -> None:
    folder = tmp_path_factory.mktemp("made-up")
    rows = [made_up.rows(predictions, spread) for predictions, spread, _ in cells]
    store = made_up.complete(Store.create(folder), rows, [h for *_, h in cells], tuned)
    before = made_up.content(store)
    freeze(store)
    assert loose_files(store) == []
    assert made_up.content(store) == before
    assert made_up.content(Store(folder)) == before
    freeze(store)
    assert made_up.content(store) == before
    shutil.rmtree(folder)


@pytest.fixture
def store(tmp_path: Path, made_up) -> Store:
    """A complete leaderboard of three cells; nothing is frozen yet."""
    rows = [made_up.rows([1.0, np.nan]), made_up.rows([2.0]), made_up.rows([3.0], [0.1])]
    histories = [made_up.HISTORY, None, made_up.HISTORY]
    return made_up.complete(Store.create(tmp_path / "made-up"), rows, histories)


def files(store: Store) -> set[str]:
    paths = (path for path in store.folder.rglob("*") if path.is_file())
    return {path.relative_to(store.folder).as_posix() for path in paths}


def test_few_files_are_left_and_no_empty_folder(store: Store) -> None:
    store.checkpoint_path("old").write_text("left over")
    half = [f"predictions/.{KEY}.ab.parquet", f"stages/.{KEY}.ab/stage.json", ".ledger.ab.parquet"]
    for name in half:  # a process was killed while it wrote them
        (store.folder / name).parent.mkdir(exist_ok=True)
        (store.folder / name).write_text("half")
    freeze(store)
    assert files(store) == OWN | PACKED
    assert all(path.is_file() for path in store.folder.iterdir())


def test_weights_stay_where_they_are(tmp_path: Path, made_up) -> None:
    rows = [made_up.rows([1.0])]
    store = made_up.complete(Store.create(tmp_path), rows, [None], weights=True)
    freeze(store)
    assert store.has_stage(made_up.key(0))
    assert store.read_stage(made_up.key(0))[1].title == "t"


def test_a_table_can_be_read_without_us(store: Store, made_up) -> None:
    freeze(store)
    table = pq.read_table(store.folder / "predictions.parquet").to_pandas()
    assert list(table["key"].unique()) == [made_up.key(n) for n in range(3)]
    history = pq.read_table(store.folder / "history.parquet").to_pandas()
    assert list(history) == ["key", "epoch", "member", "train_loss", "score"]


class Killed(BaseException):
    """Stands for a process that is killed."""


@pytest.mark.parametrize("point", range(1, 16))
def test_killed_at_any_point_nothing_is_lost_and_nothing_is_there_twice(
    store: Store, made_up, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    """Of all that changes the folder (a file put in place, one removed), the n-th is not done."""
    before = made_up.content(store)
    done = 0

    def counted(change):
        def go(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            done += 1
            if done == point:
                raise Killed
            return change(*arguments, **options)

        return go

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(os, "unlink", counted(os.unlink))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            freeze(store)
        except Killed:
            assert made_up.content(Store(store.folder)) == before
        else:
            assert point > 10, "a freeze of three cells changes more than ten files"
    freeze(Store(store.folder))
    assert files(store) == OWN | PACKED
    assert made_up.content(Store(store.folder)) == before


def test_a_run_that_goes_on_adds_to_what_is_frozen(store: Store, made_up) -> None:
    freeze(store)
    before = made_up.content(store)
    rows = [made_up.rows([9.0]), made_up.rows([2.0]), made_up.rows([3.0], [0.1]), made_up.rows([4])]
    histories = [{"train_loss": [[9.0]], "score": [[9.0]]}, None, made_up.HISTORY, made_up.HISTORY]
    made_up.complete(
        Store.create(store.folder), rows, histories
    )  # all once more, the first with another outcome
    after = made_up.content(store)
    first, fourth = made_up.key(0), made_up.key(3)
    assert after[f"rows {first}"] != before[f"rows {first}"], "the loose file goes before"
    assert after[f"record {first}"].history["score"] == [[9.0]]
    freeze(store)
    assert made_up.content(store) == after
    assert files(store) == OWN | PACKED
    assert fourth in store.frozen.keys("predictions.parquet")


def test_a_freeze_packs_what_is_loose_with_what_is_frozen_and_nowhere_else(
    store: Store, made_up
) -> None:
    freeze(store)
    before = made_up.content(store)
    Store.create(store.folder).write_predictions(made_up.key(1), made_up.rows([7.0]))
    freeze(store)
    assert store.read_predictions(made_up.key(1))["prediction"].tolist() == [7.0]
    changed = made_up.content(store)
    assert [name for name in before if before[name] != changed[name]] == [f"rows {made_up.key(1)}"]


def test_a_store_that_is_open_sees_what_another_process_froze(store: Store, made_up) -> None:
    other = Store(store.folder)
    before = made_up.content(other)
    freeze(store)
    assert made_up.content(other) == before


def test_results_that_are_not_complete_are_refused_with_what_is_missing(
    store: Store, made_up
) -> None:
    text = store.results_path.read_text()
    store.results_path.write_text(text.splitlines(keepends=True)[0])
    with pytest.raises(StoreError, match=r"lacks 2 of 3 results .*Finish them with `harness run`"):
        freeze(store)
    store.results_path.write_text(text)
    store.predictions_path(made_up.key(1)).unlink()
    with pytest.raises(StoreError, match=r"cannot be frozen: it lacks 1 things, first the rows of"):
        freeze(store)
    assert not PACKED & files(store)


def test_a_folder_in_which_a_process_is_at_work_is_refused(store: Store) -> None:
    with (
        FileLock(store.folder / "stages" / "a.lock"),
        pytest.raises(StoreError, match=r"A process is at work in .* \(a\.lock is held\)"),
    ):
        freeze(store)
    assert not PACKED & files(store)


def test_nothing_is_removed_where_a_table_does_not_give_back_what_was_packed(
    store: Store, made_up, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, loose = made_up.content(store), loose_files(store)
    monkeypatch.setattr("harness.results.freezing._same_rows", lambda found, expected: False)
    with pytest.raises(StoreError, match="nothing was removed"):
        freeze(store)
    assert loose_files(store) == loose
    assert made_up.content(store) == before


@pytest.mark.parametrize("name", ["predictions.parquet", "ledger.parquet", "stages.jsonl"])
def test_a_frozen_file_that_is_damaged_is_named(store: Store, made_up, name: str) -> None:
    freeze(store)
    (store.folder / name).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=rf"{name} is damaged"):
        made_up.content(Store(store.folder))


@pytest.mark.parametrize(("number", "said"), [(2, "a newer version"), (0, "another version")])
@pytest.mark.parametrize("name", ["predictions.parquet", "stages.jsonl"])
def test_a_frozen_file_of_another_format_says_what_to_do(
    store: Store, made_up, name: str, number: int, said: str
) -> None:
    freeze(store)
    path = store.folder / name
    if path.suffix == ".jsonl":
        path.write_text(f'{{"format": {number}}}\n')
    else:
        table = pq.read_table(path)
        text = f'{{"format": {number}, "keys": {{}}}}'
        pq.write_table(table.replace_schema_metadata({b"harness": text.encode()}), path)
    with pytest.raises(StoreError, match=rf"{name} has the format {number}, of {said}"):
        made_up.content(Store(store.folder))


def test_what_is_neither_loose_nor_frozen_is_named_as_before(store: Store) -> None:
    freeze(store)
    assert not store.has_predictions("b")
    assert not store.has_record("b")
    with pytest.raises(StoreError, match=r"predictions/b\.parquet is missing"):
        store.read_predictions("b")
    with pytest.raises(StoreError, match=r"stages/b/stage\.json is missing"):
        store.stage_record("b")


def test_only_what_there_is_makes_a_file(tmp_path: Path, made_up) -> None:
    store = made_up.complete(Store.create(tmp_path), [made_up.rows([1.0])], [None])
    freeze(store)
    assert files(store) == OWN | PACKED - {"history.parquet"}
    assert set(TABLES) - {path.name for path in tmp_path.iterdir()} == {
        "history.parquet",
        "tuning-ledger.parquet",
    }
