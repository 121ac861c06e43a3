"""Records: written and read back whole; other formats, unknown keys and hostile text are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.errors import StoreError
from harness.plugin.cell import CELL
from harness.results.records import FROM_OTHERS, PlanFile, PlannedCell, ResultLine, StageRecord
from harness.results.store import Store

ROOT = Path(__file__).resolve().parents[2]
LEADERBOARDS = sorted(path.parent for path in ROOT.glob("leaderboards/*/plan.json"))
KEY = "0" * 16
COLUMNS = dict.fromkeys(CELL, "x")
CELL_JSON = {"key": KEY, **COLUMNS, "leak_free": True, "weights": None, "chain": [KEY]}
BENCHMARK_JSON = {
    "name": "b",
    "title": "",
    "summary": "",
    "runs": 2,
    "seed": 0,
    "metrics": ["mape"],
    "test_on": ["D"],
    "training": {},
    "training_on": {},
    "rows": {"D": 3},
}
PLAN_JSON = {
    "benchmark": BENCHMARK_JSON,
    "datasets": {"D": {"digest": "0" * 64, "rows": 3, "problems": []}},
    "not_applicable": [],
    "cells": [CELL_JSON],
}


@pytest.mark.parametrize("folder", LEADERBOARDS, ids=lambda folder: folder.name)
def test_committed_results_are_read_without_a_format_and_would_be_written_as_they_are(
    folder: Path,
) -> None:
    store = Store(folder)
    stored = json.loads((folder / "plan.json").read_text())
    for cell in stored["cells"]:
        cell.setdefault("tuning", "default")
    assert store.read_plan().as_json() == stored
    texts = (folder / "results.jsonl").read_text().splitlines()
    for text, line in zip(texts, store.read_results(), strict=True):
        assert line.as_json() == {"tuning": "default", **json.loads(text)}
    for key in store.read_plan().stages:
        assert store.stage_record(key).artefact_sha256
        assert store.has_ledger(key)


def test_the_columns_of_a_record_are_those_of_a_cell() -> None:
    for record in (PlannedCell, ResultLine):
        assert [name for name in record.model_fields if name in CELL] == list(CELL)


def test_a_run_is_predicted_by_its_member_of_the_last_stage_unless_the_cell_says_otherwise() -> (
    None
):
    plain = PlannedCell.read(json.dumps(CELL_JSON))
    assert plain.sources_of(3) == ((KEY, 2),)
    several = [[[KEY, 4], [KEY, 0]], [[KEY, 1]]]
    tuned = PlannedCell.read(json.dumps({**CELL_JSON, "sources": several}))
    assert tuned.sources_of(1) == ((KEY, 4), (KEY, 0))
    assert tuned.sources_of(2) == ((KEY, 1),)
    assert tuned.as_json()["sources"] == several
    assert "sources" not in plain.as_json()


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        PlannedCell.read(json.dumps(CELL_JSON)).key = "other"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (2, "has the format 2, of a newer version of the harness; .* format 1. Upgrade it"),
        (0, "has the format 0, of another version .* Read it with the version that wrote it"),
        ("new", "has the format 'new', of another version"),
    ],
)
@pytest.mark.parametrize("name", ["plan.json", "results.jsonl", "stages/a/stage.json"])
def test_another_format_is_an_error_that_says_what_to_do(
    tmp_path: Path, name: str, number: object, said: str
) -> None:
    store = Store.create(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps({"format": number, "another": "world"}) + "\n")
    read = {
        "plan.json": store.read_plan,
        "results.jsonl": store.read_results,
        "stages/a/stage.json": lambda: store.stage_record("a"),
    }
    with pytest.raises(StoreError, match=f"{name}.* {said}"):
        read[name]()


def test_an_unknown_key_is_passed_over_in_own_files_and_refused_in_those_of_others() -> None:
    text = json.dumps({**PLAN_JSON, "cells": [{**CELL_JSON, "note": "x"}]})
    assert "note" not in PlanFile.read(text).cells[0].as_json()
    with pytest.raises(ValidationError, match="note"):
        PlanFile.read_from_others(text)


@pytest.mark.parametrize(
    ("field", "value"), [("key", "../x"), ("head", "<script>"), ("chain", ["k"]), ("head", "a\nb")]
)
def test_text_that_could_be_more_than_a_name_is_refused_from_others(
    field: str, value: object
) -> None:
    text = json.dumps({**CELL_JSON, field: value})
    assert PlannedCell.read(text)
    with pytest.raises(ValidationError, match="expected text of the form"):
        PlannedCell.model_validate_json(text, context=FROM_OTHERS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cells": [{**CELL_JSON, "leak_free": 1}]}, r"cells\.0\.leak_free: expected true or"),
        ({"cells": []}, "cells: expected at least one entry"),
        ({"benchmark": {"name": "b"}}, "benchmark: lacks title, summary, runs, seed, metrics"),
        (
            {"benchmark": {**BENCHMARK_JSON, "seed": "x"}},
            "benchmark: seed = 'x': expected a whole number",
        ),
        ({"datasets": {"D": {"rows": 3}}}, r"the key 'datasets\.D\.digest' is missing"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PlanFile.read(json.dumps({**PLAN_JSON, **change}))


def test_a_record_says_of_a_member_what_it_knows() -> None:
    record = StageRecord.model_construct(best_epoch=[3, 5], history=None)
    assert [record.of_member("best_epoch", n) for n in (0, 1, 2)] == [3, 5, None]
    assert record.of_member("history", 0) is None
