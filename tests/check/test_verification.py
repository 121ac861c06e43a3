"""`verify` finds one changed digit, one changed prediction, one changed dataset row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from harness import api
from harness.check.verification import Verification
from harness.errors import StoreError
from harness.plugin.cell import CELL
from harness.results.store import Store

BENCHMARK = """
train_on = ["Toy", "Twins"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
baselines = [{ head = "mean-log" }]
runs = 2
metrics = ["mae-log", "mape"]

[training]
epochs = 2
loss = "mae-log"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "toy"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        api.run(folder, plugins=[tiny])
    return folder


@pytest.fixture
def leaderboard(finished: Path, tmp_path: Path) -> Path:
    """A copy of finished results, to be spoiled."""
    return Path(shutil.copytree(finished, tmp_path / "toy"))


@pytest.fixture
def verify(leaderboard: Path, tiny: Path):
    def go(plugin: Path = tiny) -> Verification:
        return api.verify(leaderboard, plugins=[plugin])

    return go


def only(found: Verification) -> str:
    (difference,) = found.differences
    return difference


def spoil_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def spoil_lines(leaderboard: Path, change: Callable[[list[Any]], object]) -> None:
    path = leaderboard / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def record_of(leaderboard: Path, title: str) -> Path:
    """The record of the first stage with that title and a head that is trained."""
    for path in sorted(leaderboard.glob("stages/*/stage.json")):
        record = json.loads(path.read_text())
        if record["title"] == title and record["best_epoch"]:
            return path
    raise AssertionError(title)


def test_untouched_results_agree(verify) -> None:
    found = verify()
    assert found.differences == ()
    assert found.unchecked == ()
    assert found.checked["cells"] == 12
    assert found.checked["scores"] == 12 * 2 * 2 * 2
    assert found.checked["artefacts"] == 7


def test_frozen_results_are_checked_all_the_same(verify, leaderboard: Path) -> None:
    loose = verify()
    api.freeze(leaderboard)
    assert verify() == loose


@pytest.mark.parametrize("name", ["predictions.parquet", "ledger.parquet", "history.parquet"])
def test_a_frozen_file_that_is_damaged_is_one_difference(
    verify, leaderboard: Path, name: str
) -> None:
    api.freeze(leaderboard)
    (leaderboard / name).write_bytes(b"PAR1")
    assert f"{leaderboard / name} is damaged: " in only(verify())


def test_one_prediction_of_frozen_results_is_found(verify, leaderboard: Path) -> None:
    api.freeze(leaderboard)
    path = leaderboard / "predictions.parquet"
    table = pq.read_table(path)
    rows = table.to_pandas()
    rows.loc[0, "prediction"] *= 1.0001
    changed = pa.Table.from_pandas(rows, schema=table.schema, preserve_index=False)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    assert f"{path} is damaged: the rows of {rows['key'][0]} have another digest" in only(verify())


@pytest.mark.parametrize("name", ["table.md", "table.csv", "table-overlap-free.csv"])
def test_one_digit_of_a_table_is_found(verify, leaderboard: Path, name: str) -> None:
    text = (leaderboard / name).read_text()
    place = text.rindex("0.") + 2
    digit = str((int(text[place]) + 1) % 10)
    (leaderboard / name).write_text(text[:place] + digit + text[place + 1 :])
    assert only(verify()).startswith(f"{name}: line ")


def test_one_digit_of_a_result_is_found(verify, leaderboard: Path) -> None:
    path = leaderboard / "results.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    line = json.loads(first)
    line["scores"]["all"]["mape"] += 1e-6
    path.write_text(json.dumps(line) + "\n" + "".join(others))
    found = verify()
    assert any("run 1: mape (all rows) is" in text for text in found.differences)


def test_one_prediction_is_found(verify, leaderboard: Path) -> None:
    path = min((leaderboard / "predictions").glob("*.parquet"))
    rows = pd.read_parquet(path)
    rows.loc[0, "prediction"] *= 1.0001
    rows.to_parquet(path)
    differences = verify().differences
    assert differences
    assert all("the predictions give" in text for text in differences)


def test_one_dataset_row_is_found(verify, tiny: Path, tmp_path: Path) -> None:
    changed = tmp_path / "plugins" / "tiny.py"
    shutil.copytree(tiny.parent, changed.parent)
    text = tiny.read_text()
    assert "+ 0.5,\n" in text
    changed.write_text(text.replace("+ 0.5,\n", "+ (0.51 if cation == 'Rb' else 0.5),\n"))
    differences = verify(changed).differences
    assert any(text.startswith("dataset Toy: 48 rows with digest") for text in differences)
    assert any("does not follow from data and settings" in text for text in differences)


def test_other_settings_are_found(verify, leaderboard: Path) -> None:
    path = leaderboard / "plan.json"
    path.write_text(path.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    assert any("does not follow from" in text for text in verify().differences)


def test_a_missing_file_of_rows_is_found(verify, leaderboard: Path) -> None:
    min((leaderboard / "predictions").glob("*.parquet")).unlink()
    assert any(".parquet is missing" in text for text in verify().differences)


def test_a_missing_run_is_found(verify, leaderboard: Path) -> None:
    path = leaderboard / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert any("runs [2] where [1, 2] are expected" in text for text in verify().differences)


def test_changed_weights_are_found(verify, leaderboard: Path) -> None:
    weights = min(leaderboard.glob("stages/*/weights.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "its weights have another digest" in only(verify())


def test_a_leak_in_a_stored_ledger_is_found(verify, leaderboard: Path) -> None:
    store = Store(leaderboard)
    line = store.read_results()[-1]
    row = store.read_predictions(line.key).iloc[0]
    assert isinstance(line.stage, str)
    path = store.stage_folder(line.stage) / "ledger.parquet"
    ledger = pd.read_parquet(path)
    leak = {"run": row["run"], "part": row["part"], "id": row["id"], "group": "?", "role": "tuning"}
    pd.concat([ledger, pd.DataFrame([leak])]).to_parquet(path, index=False)
    differences = verify().differences
    assert any("also has the role 'tuning'" in text for text in differences)
    assert any("its ledger is not the plan's" in text for text in differences)


def test_what_needs_absent_data_is_named_as_unchecked(leaderboard: Path) -> None:
    found = api.verify(leaderboard)  # without the plugin that brings the datasets
    assert found.differences == ()
    assert len(found.unchecked) == 1
    assert "Unknown dataset 'Toy'" in found.unchecked[0]


def test_artefacts_that_are_not_kept_are_named_as_unchecked(verify, leaderboard: Path) -> None:
    for weights in leaderboard.glob("stages/*/weights.safetensors"):
        weights.unlink()
    found = verify()
    assert found.differences == ()
    assert (found.unchecked, found.not_kept) == ((), ("weights of 7 stages: not kept here",))
    assert found.verdict == "Everything that is kept agrees."


# --- lines of results.jsonl -------------------------------------------------------------------


def test_swapped_transfers_are_found(verify, leaderboard: Path) -> None:
    def swap(lines: list[Any]) -> None:
        one = next(line for line in lines if line["transfer"] == "scratch")
        other = next(line for line in lines if line["transfer"].startswith("two-stage"))
        one["transfer"], other["transfer"] = other["transfer"], one["transfer"]

    spoil_lines(leaderboard, swap)
    found = [text for text in verify().differences if text.startswith("results.jsonl: ")]
    assert len(found) == 2
    assert all("transfer is 'two-stage" in text or "transfer is 'scratch" in text for text in found)


@pytest.mark.parametrize("column", CELL)
def test_another_cell_on_a_line_is_found(verify, leaderboard: Path, column: str) -> None:
    spoil_lines(leaderboard, lambda lines: lines[0].update({column: "elsewhere"}))
    assert any(f"{column} is 'elsewhere', expected" in text for text in verify().differences)


@pytest.mark.parametrize("with_data", [True, False])
@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("train_rows is 5, expected", lambda line: line.update(train_rows=5)),
        ("stage is 'other', expected", lambda line: line.update(stage="other")),
        ("best_epoch is 99, expected", lambda line: line.update(best_epoch=99)),
        ("skipped_updates is 7, expected", lambda line: line.update(skipped_updates=7)),
        ("datasets is {", lambda line: line["datasets"][line["test_on"]].update(digest="0")),
        ("datasets is {", lambda line: line["datasets"][line["test_on"]].update(rows=47)),
    ],
)
def test_what_a_line_says_of_its_stage_is_checked(
    leaderboard: Path, tiny: Path, expected: str, change: Callable[[Any], object], with_data: bool
) -> None:
    spoil_lines(leaderboard, lambda lines: change(lines[-1]))
    found = api.verify(leaderboard, plugins=[tiny] if with_data else [])
    assert any(
        text.startswith("results.jsonl: ") and expected in text for text in found.differences
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda line: line["scores"]["all"].update(mape="small"), r"scores\.all\.mape.*'small'"),
        (lambda line: line.pop("scores"), "the key 'scores' is missing"),
    ],
)
def test_a_line_of_another_form_is_an_error_that_names_it(
    verify, leaderboard: Path, change: Callable[[Any], object], said: str
) -> None:
    spoil_lines(leaderboard, lambda lines: change(lines[2]))
    with pytest.raises(StoreError, match=rf"results\.jsonl, line 3 is damaged: .*{said}"):
        verify()


def test_a_score_that_is_not_there_is_found(verify, leaderboard: Path) -> None:
    spoil_lines(leaderboard, lambda lines: lines[0]["scores"]["all"].pop("mape"))
    assert any("mape (all rows) is 'nothing'" in text for text in verify().differences)


PROBLEM = {"row": 1, "id": "a", "reason": "b"}


# --- plan.json and benchmark.toml -------------------------------------------------------------


def test_a_cell_that_is_left_out_is_found(verify, leaderboard: Path) -> None:
    spoil_json(leaderboard / "plan.json", lambda plan: plan["cells"].pop())
    assert any("this cell is missing in plan.json" in text for text in verify().differences)


@pytest.mark.parametrize(
    ("field", "value"), [("leak_free", False), ("chain", ["0"]), ("train_on", "Twins")]
)
def test_a_changed_cell_is_found(verify, leaderboard: Path, field: str, value: object) -> None:
    spoil_json(leaderboard / "plan.json", lambda plan: plan["cells"][0].update({field: value}))
    shown = tuple(value) if isinstance(value, list) else value
    expected = f"{field} is {shown!r}, the settings give"
    assert any(expected in text for text in verify().differences)


@pytest.mark.parametrize(("field", "value"), [("rows", 47), ("problems", [PROBLEM])])
def test_a_changed_dataset_of_the_plan_is_found(
    verify, leaderboard: Path, field: str, value: object
) -> None:
    spoil_json(
        leaderboard / "plan.json", lambda plan: plan["datasets"]["Toy"].update({field: value})
    )
    shown = "(Problem(" if field == "problems" else value
    expected = f"dataset Toy: {field} is {shown}"
    assert any(text.startswith(expected) for text in verify().differences)


def test_settings_that_differ_from_the_file_are_listed(verify, leaderboard: Path) -> None:
    text = BENCHMARK.replace("epochs = 2", "epochs = 200")
    (leaderboard / "benchmark.toml").write_text('title = "New"\n' + text)
    assert verify().differences == (
        "benchmark.toml: title is 'New', the results were made with ''",
        "benchmark.toml: training.epochs is 200, the results were made with 2",
    )


def test_what_the_file_says_of_the_results_may_be_written_afterwards(
    verify, leaderboard: Path
) -> None:
    file = leaderboard / "benchmark.toml"
    file.write_text('finding = "As expected."\norder = 1\n' + file.read_text())
    (table,) = verify().differences
    assert table.endswith("the results give '**What came out.** As expected.'")


def test_a_results_folder_without_its_file_is_verified(verify, leaderboard: Path) -> None:
    (leaderboard / "benchmark.toml").unlink()
    found = verify()
    assert found.differences == ()
    assert found.unchecked == ("benchmark.toml: the results lie here without it",)
    assert found.verdict == "What could be checked agrees; 1 thing was not."


def test_missing_published_cells_leave_the_tables_unchecked(verify, leaderboard: Path) -> None:
    (leaderboard / "benchmark.toml").write_text('published = "absent.csv"\n' + BENCHMARK)
    spoil_json(
        leaderboard / "plan.json", lambda plan: plan["benchmark"].update(published="absent.csv")
    )
    found = verify()
    assert found.differences == ()
    assert "absent.csv, are missing" in found.unchecked[0]


# --- stages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("training", {"epochs": 300}), ("training", None), ("weights_digest", "0"), ("runs", [1, 1])],
)
def test_a_changed_record_is_found(verify, leaderboard: Path, field: str, value: object) -> None:
    spoil_json(record_of(leaderboard, "Toy (random)"), lambda record: record.update({field: value}))
    expected = f"(Toy (random)): {field} is {value!r}, the plan gives"
    assert any(expected in text for text in verify().differences)


def test_a_changed_digest_in_a_record_is_found_with_and_without_data(
    verify, leaderboard: Path
) -> None:
    path = record_of(leaderboard, "Toy (random)")
    spoil_json(path, lambda record: record.update(dataset_digest="0"))
    assert "dataset_digest is '0', the plan gives" in only(verify())
    assert "dataset_digest is '0', plan.json has" in only(api.verify(leaderboard))


@pytest.mark.parametrize("name", ["predictions/*.parquet", "stages/*/ledger.parquet"])
@pytest.mark.parametrize("size", [0, 40])
def test_truncated_rows_are_one_difference(verify, leaderboard: Path, name: str, size: int) -> None:
    path = min(leaderboard.glob(name))
    path.write_bytes(path.read_bytes()[:size])
    assert f"{path} is damaged: " in only(verify())


@pytest.mark.parametrize("name", ["ledger.parquet", "stage.json"])
def test_a_missing_file_of_a_stage_is_one_difference(verify, leaderboard: Path, name: str) -> None:
    path = min(leaderboard.glob(f"stages/*/{name}"))
    path.unlink()
    assert only(verify()).startswith(f"{path} is missing.")


@pytest.mark.parametrize("text", ["", '{"title": ', "[]", "\xff"])
def test_a_damaged_record_is_one_difference(verify, leaderboard: Path, text: str) -> None:
    path = min(leaderboard.glob("stages/*/stage.json"))
    path.write_bytes(text.encode("latin-1"))
    assert only(verify()).startswith(f"{path} is damaged: ")


@pytest.mark.parametrize("text", ["", '{"benchmark": {', "[]", '{"benchmark": {}, "cells": []}'])
def test_a_damaged_plan_is_an_error_that_names_it(verify, leaderboard: Path, text: str) -> None:
    (leaderboard / "plan.json").write_text(text)
    with pytest.raises(StoreError, match=r"plan\.json is damaged: "):
        verify()


def test_a_broken_line_is_an_error_that_names_it(verify, leaderboard: Path) -> None:
    path = leaderboard / "results.jsonl"
    first, second, *others = path.read_text().splitlines(keepends=True)
    path.write_text(first + second[:50] + "\n" + "".join(others))
    with pytest.raises(StoreError, match=r"results\.jsonl, line 2 is damaged: "):
        verify()


def test_findings_come_in_the_same_order(verify, leaderboard: Path) -> None:
    for path in leaderboard.glob("stages/*/ledger.parquet"):
        path.unlink()
    assert verify() == verify()


def test_verifying_writes_nothing(verify, leaderboard: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in leaderboard.rglob("*")}
    verify()
    assert {path: path.stat().st_mtime_ns for path in leaderboard.rglob("*")} == before


def test_no_results_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "benchmark.toml").write_text(BENCHMARK)
    with pytest.raises(StoreError, match="holds no results yet"):
        api.verify(tmp_path)


# --- what belongs to nothing ------------------------------------------------------------------


def test_lines_of_no_cell_are_found(verify, leaderboard: Path) -> None:
    spoil_lines(leaderboard, lambda lines: lines.append({**lines[0], "key": "0" * 16, "run": 1}))
    assert "1 of its lines are of 0000000000000000, which is no cell of the plan" in only(verify())


def test_a_metric_that_the_benchmark_does_not_have_is_found(verify, leaderboard: Path) -> None:
    spoil_lines(leaderboard, lambda lines: lines[0]["scores"]["all"].update(luck=0.0))
    assert "luck (all rows) is 0.0, and no metric of the benchmark" in only(verify())


@pytest.mark.parametrize("name", ["note", "scores.some", "datasets.Toy.url"])
def test_a_field_of_a_line_that_no_record_has_is_found(
    verify, leaderboard: Path, name: str
) -> None:
    def add(lines: list[Any]) -> None:
        *places, last = name.split(".")
        found = lines[2]
        for place in places:
            found = found[place]
        found[last] = {"luck": 1} if last == "some" else 1

    spoil_lines(leaderboard, add)
    differences = verify().differences
    assert any(name.rpartition(".")[2] in text for text in differences)


@pytest.mark.parametrize("name", ["plan.json", "stages/*/stage.json"])
def test_a_field_of_a_file_that_no_record_has_is_found(
    verify, leaderboard: Path, name: str
) -> None:
    path = next(iter(sorted(leaderboard.glob(name))))
    spoil_json(path, lambda content: content.update(approved=True))
    assert f"{path.relative_to(leaderboard)}: approved is nothing that a record" in only(verify())


def test_a_field_of_a_frozen_record_is_found(verify, leaderboard: Path) -> None:
    api.freeze(leaderboard)
    path = leaderboard / "stages.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps({**json.loads(first), "approved": 1}) + "\n", *others]))
    assert "stages.jsonl, line 1: approved is nothing that a record holds" in only(verify())


def test_a_run_that_is_true_is_refused(verify, leaderboard: Path) -> None:
    spoil_lines(leaderboard, lambda lines: lines[0].update(run=True))
    with pytest.raises(StoreError, match=r"results\.jsonl, line 1"):
        verify()


def test_another_best_epoch_is_found_though_line_and_record_agree(
    verify, leaderboard: Path
) -> None:
    path = record_of(leaderboard, "Toy (random)")
    key, best = path.parent.name, json.loads(path.read_text())["best_epoch"]
    other = [3 - best[0], *best[1:]]
    spoil_json(path, lambda record: record.update(best_epoch=other))

    def change(lines: list[Any]) -> None:
        for line in lines:
            if line["stage"] == key and line["run"] == 1:
                line["best_epoch"] = other[0]

    spoil_lines(leaderboard, change)
    assert f"best_epoch is {other!r}, its history gives {best!r}" in only(verify())


# --- made again -------------------------------------------------------------------------------


@pytest.fixture
def verify_again(leaderboard: Path, tiny: Path):
    def go(**levels: Any) -> Verification:
        return api.verify(leaderboard, plugins=[tiny], **levels)

    return go


def test_the_level_says_what_was_made_again(verify_again) -> None:
    assert verify_again().level == "all scores from the stored predictions."
    found = verify_again(deep=True, retrain=2)
    assert found.differences == found.unchecked == ()
    assert found.level == (
        "all scores from the stored predictions; 12 of 12 cells predicted again from their "
        "weights; 2 of 7 stages trained again."
    )


def test_deep_finds_weights_that_were_changed_together_with_their_digest(
    verify_again, leaderboard: Path
) -> None:
    path = record_of(leaderboard, "Toy (random)")
    weights = path.with_name("weights.safetensors")
    tensors = {name: tensor * 1.1 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights)
    digest = sha256(weights.read_bytes()).hexdigest()
    spoil_json(path, lambda record: record.update(artefact_sha256=digest))
    assert verify_again().differences == ()
    differences = verify_again(deep=True).differences
    assert differences
    assert all("the kept weights give other predictions" in text for text in differences)


def test_deep_leaves_out_cells_whose_weights_are_not_kept(verify_again, leaderboard: Path) -> None:
    record_of(leaderboard, "Toy (random)").with_name("weights.safetensors").unlink()
    found = verify_again(deep=True)
    assert found.differences == ()
    assert "10 of 12 cells predicted again" in found.level


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("skipped_updates", lambda value: [5, *value[1:]]),
        ("member_epochs", lambda value: value + 1),
        ("history", lambda value: {**value, "train_loss": value["train_loss"][::-1]}),
    ],
)
def test_training_again_finds_what_nothing_else_could(
    verify_again, leaderboard: Path, field: str, change: Callable[[Any], Any]
) -> None:
    path = record_of(leaderboard, "Toy (random)")
    spoil_json(path, lambda record: record.update({field: change(record[field])}))
    found = verify_again(retrain=7)
    assert any(f"trained again: {field}" in text for text in found.differences) or any(
        "trained again: the history" in text for text in found.differences
    )


def test_stages_are_trained_again_without_the_weights_of_any(
    verify_again, leaderboard: Path
) -> None:
    api.freeze(leaderboard)
    shutil.rmtree(leaderboard / "stages", ignore_errors=True)
    found = verify_again(deep=True, retrain=7)
    assert found.differences == found.unchecked == ()
    assert "0 of 12 cells" in found.level
    assert "7 of 7 stages" in found.level
