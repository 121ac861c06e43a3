"""Submissions: whole, as they were packed, every number from its rows; merged side by side."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import api
from harness.apps.submissions import exchange
from harness.errors import BenchmarkError, StoreError
from harness.report import submissions
from harness.report.merging import merge
from harness.report.pivot import Layout, pivot
from harness.report.submissions import Submission, copy_whole, facts_of, read_card
from harness.results.store import Store
from harness.scoring.scores import score_stored
from tests.conftest import CARD

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{{ name = "mlp", hidden = [8] }}]
baselines = [{{ backbone = "tiny", head = "nearest" }}]
runs = 2
seed = {seed}
metrics = ["mae-log", "mape"]

[training]
epochs = {epochs}
loss = "mae-log"
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Callable[..., Path]:
    """Runs the toy benchmark once per setting; returns its folder."""
    folder = tmp_path_factory.mktemp("results")

    def run(epochs: int = 1, seed: int = 0) -> Path:
        here = folder / f"toy-{epochs}-{seed}"
        if not here.is_dir():
            here.mkdir()
            (here / "benchmark.toml").write_text(BENCHMARK.format(epochs=epochs, seed=seed))
            api.run(here, plugins=[tiny])
        return here

    return run


@pytest.fixture
def packed(results: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Packs toy results under a name; returns the folder."""

    def pack(name: str = "ada", **settings: int) -> Path:
        card = tmp_path / f"{name}.toml"
        card.write_text(CARD.format(name=name))
        exchange.pack_submission(results(**settings), card, tmp_path / name)
        return tmp_path / name

    return pack


def check(folder: Path, tiny: Path) -> exchange.SubmissionCheck:
    return exchange.check_submission(folder, plugins=[tiny])


def sign(folder: Path) -> None:
    """Writes a manifest that fits the files again, as somebody who means to deceive would."""
    path = folder / "submission.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {
        name: facts_of(folder / name).as_json()
        for name in manifest["files"]
        if (folder / name).is_file()
    }
    path.write_text(json.dumps(manifest))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_line(folder: Path, change: Callable[[Any], Any]) -> None:
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    change(lines[0])
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text)


def first(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def test_what_was_packed_agrees(packed, tiny: Path) -> None:
    folder = packed()
    found = check(folder, tiny)
    assert found.differences == ()
    assert found.unchecked == ()
    assert found.checked["scores"] == 4 * 2 * 2 * 2, "cells × runs × metrics × subsets"
    assert not list(folder.rglob("*.safetensors"))
    assert Submission.read(folder).card.authors == ["ada"]


def test_frozen_results_are_packed_as_any_others(
    results, packed, tiny: Path, tmp_path: Path
) -> None:
    loose = packed()
    shutil.copytree(results(), tmp_path / "frozen")
    api.freeze(tmp_path / "frozen")
    exchange.pack_submission(tmp_path / "frozen", tmp_path / "ada.toml", tmp_path / "from-frozen")
    assert check(tmp_path / "from-frozen", tiny).differences == ()
    one, other = (Submission.read(tmp_path / name).manifest for name in (loose, "from-frozen"))
    assert one.files == other.files, "to the last byte"


def test_a_submission_is_not_frozen(packed) -> None:
    with pytest.raises(StoreError, match="is a submission, which stays as it was signed"):
        api.freeze(packed())


def test_without_the_plugin_the_rest_is_checked(packed) -> None:
    found = exchange.check_submission(packed())
    assert found.differences == ()
    assert "Toy" in found.unchecked[0]
    assert found.checked["scores"] > 0


def add_code(folder: Path) -> None:
    (folder / "plugin.py").write_text("raise SystemExit('executed')")


def add_listed_code(folder: Path) -> None:
    add_code(folder)
    edit(folder / "submission.json", lambda m: m["files"].update({"plugin.py": {
        "sha256": "0" * 64, "bytes": 1}}))  # fmt: skip


def name_a_file_outside(folder: Path) -> None:
    edit(folder / "submission.json", lambda m: m["files"].update({"../secret": {
        "sha256": "0" * 64, "bytes": 1}}))  # fmt: skip


def add_a_link(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    path.rename(folder.parent / "elsewhere.parquet")
    path.symlink_to(folder.parent / "elsewhere.parquet")


def change_a_byte(folder: Path) -> None:
    path = first(folder, "stages/*/stage.json")
    path.write_text(path.read_text() + " ")


def lose_a_file(folder: Path) -> None:
    first(folder, "stages/*/ledger.parquet").unlink()


def lose_a_file_quietly(folder: Path) -> None:
    lose_a_file(folder)
    sign(folder)


def add_a_key_to_a_line(folder: Path) -> None:
    edit_line(folder, lambda line: line.update(note="best model"))
    sign(folder)


def add_a_key_to_the_plan(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan.update(note="x"))
    sign(folder)


def add_a_key_to_a_cell(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["cells"][0].update(note="x"))
    sign(folder)


def add_a_setting(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["benchmark"].update(cheat=True))
    sign(folder)


def add_a_key_to_a_record(folder: Path) -> None:
    edit(first(folder, "stages/*/stage.json"), lambda record: record.update(note="x"))
    sign(folder)


def send_a_key_elsewhere(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["cells"][0].update(key="../../../etc/passwd"))
    sign(folder)


def add_a_script(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["cells"][0].update(head="<script>alert(1)"))
    sign(folder)


def add_a_script_to_the_rows(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["benchmark"]["rows"].update({"<script>": 1}))
    sign(folder)


def add_a_column(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    pd.read_parquet(path).assign(note="x").to_parquet(path)
    sign(folder)


def change_a_type(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    pd.read_parquet(path).astype({"prediction": str}).to_parquet(path)
    sign(folder)


def send_something_else(folder: Path) -> None:
    first(folder, "predictions/*.parquet").write_bytes(b"\x80\x04.")
    sign(folder)


def better_a_score(folder: Path) -> None:
    edit_line(folder, lambda line: line["scores"]["all"].update({"mape": 0.01}))
    sign(folder)


def better_a_prediction(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    rows = pd.read_parquet(path)
    rows.loc[0, "prediction"] = rows.loc[0, "target"]
    rows.to_parquet(path)
    sign(folder)


def better_a_target(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    rows = pd.read_parquet(path)
    rows.assign(target=rows["prediction"]).to_parquet(path)
    sign(folder)


def leave_out_a_run(folder: Path) -> None:
    path = folder / "results.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines()[1:]))
    sign(folder)


def say_a_run_twice(folder: Path) -> None:
    path = folder / "results.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    sign(folder)


def call_it_a_dry_run(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["benchmark"].update(limit=5))
    sign(folder)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (add_code, "plugin.py does not belong in a submission"),
        (add_listed_code, "plugin.py does not belong in a submission"),
        (name_a_file_outside, "'../secret' does not belong in a submission"),
        (add_a_link, "is a link"),
        (change_a_byte, "sha256 or size"),
        (lose_a_file, "but not in the folder"),
        (lose_a_file_quietly, "ledger.parquet is missing"),
        (add_a_key_to_a_line, "results.jsonl, line 1: unknown key 'note'"),
        (add_a_key_to_the_plan, "plan.json: unknown key 'note'"),
        (add_a_key_to_a_cell, "plan.json: unknown key 'cells.0.note'"),
        (add_a_setting, "plan.json, benchmark: unknown key 'cheat'"),
        (add_a_key_to_a_record, "stage.json: unknown key 'note'"),
        (send_a_key_elsewhere, "plan.json: cells.0.key"),
        (add_a_script, "plan.json: cells.0.head"),
        (add_a_script_to_the_rows, "rows are not those of its datasets"),
        (add_a_column, "unknown column 'note'"),
        (change_a_type, "column prediction is"),
        (send_something_else, "is no Parquet file"),
        (better_a_score, "mape (all rows) is 0.01, the predictions give"),
        (better_a_prediction, "the predictions give"),
        (better_a_target, "has another target or overlap than the data"),
        (leave_out_a_run, "lacks 1 of 8 results"),
        (say_a_run_twice, "has 1 lines that are in no cell of plan.json, or twice"),
        (call_it_a_dry_run, "a dry run (limit) cannot be submitted"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_was_tampered_with_is_found(
    packed, tiny: Path, harm: Callable[[Path], None], said: str
) -> None:
    folder = packed()
    harm(folder)
    found = check(folder, tiny)
    assert any(said in line for line in found.differences), found


def test_a_folder_that_is_no_submission_says_how_to_make_one(results, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no submission: .* `harness submission pack` makes one"):
        Submission.read(results())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'ada", "not valid|Unterminated|Illegal|Expected"),
        ('name = "a b"', "name: "),
        ('name = "ada"\ntitle = "<b>x"', "title: "),
        ('name = "ada"\ntitel = "x"', "unknown key 'titel'. Did you mean 'title'"),
    ],
)
def test_a_card_that_is_wrong_says_so_with_an_example(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "method.toml").write_text(text)
    with pytest.raises(StoreError, match=said) as caught:
        read_card(tmp_path / "method.toml")
    assert "For example:" in str(caught.value)


def test_nothing_is_packed_without_a_card_or_over_a_folder(results, packed, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="card of the method, is missing"):
        exchange.pack_submission(results(), tmp_path / "absent.toml", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    folder = packed()
    with pytest.raises(StoreError, match="exists already"):
        exchange.pack_submission(results(), tmp_path / "ada.toml", folder)


def test_unfinished_results_are_not_packed(results, packed, tmp_path: Path) -> None:
    packed()
    shutil.copytree(results(), tmp_path / "part")
    path = tmp_path / "part" / "results.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(StoreError, match="lacks 7 of 8 results"):
        exchange.pack_submission(tmp_path / "part", tmp_path / "ada.toml", tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ada", "ada.toml", "part"]


# --- what is meant to break a check -------------------------------------------------------------


def nest_deeply(folder: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    path = folder / "plan.json"
    path.write_text(path.read_text().replace('"title": ""', f'"title": {deep}', 1))
    assert deep in path.read_text()


def nest_a_line(folder: Path) -> None:
    (folder / "results.jsonl").write_text('{"a":' * 5_000 + "1" + "}" * 5_000 + "\n")


def count_beyond_everything(folder: Path) -> None:
    edit_line(folder, lambda line: line.update(train_rows=10**400))


def score_beyond_everything(folder: Path) -> None:
    edit_line(folder, lambda line: line["scores"]["all"].update(mape=10**400))


def write_a_number_of_5000_digits(folder: Path) -> None:
    path = folder / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', f'"seed": {"1" * 5_000}', 1))


def run_a_billion_times(folder: Path) -> None:
    edit(folder / "plan.json", lambda plan: plan["benchmark"].update(runs=10**9))


def send_half_a_letter(folder: Path) -> None:
    path = folder / "plan.json"
    path.write_text(path.read_text().replace('"title": ""', '"title": "\\ud800"', 1))


def _source(folder: Path, sources: Any) -> None:
    edit(folder / "plan.json", lambda plan: plan["cells"][0].update(sources=sources))


def name_no_source(folder: Path) -> None:
    _source(folder, [[], []])


def name_a_source_elsewhere(folder: Path) -> None:
    _source(folder, [[["0" * 16, 0]], [["0" * 16, 0]]])


def name_a_source_before_the_first(folder: Path) -> None:
    chain = json.loads((folder / "plan.json").read_text())["cells"][0]["chain"]
    _source(folder, [[[chain[-1], -1]], [[chain[-1], 10**9]]])


def name_too_many_sources(folder: Path) -> None:
    chain = json.loads((folder / "plan.json").read_text())["cells"][0]["chain"]
    _source(folder, [[[chain[-1], 0]]] * 5)


def scale_by_words(folder: Path) -> None:
    edit(first(folder, "stages/*/stage.json"), lambda record: record.update(scalers=[{"x": 1.0}]))


def cut_a_table(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    path.write_bytes(path.read_bytes()[:-50] + path.read_bytes()[-8:])


def spoil_a_table(folder: Path) -> None:
    path = first(folder, "predictions/*.parquet")
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(bytes(content))


def _write_table(folder: Path, frame: pd.DataFrame, note: bytes | None = None) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({b"pandas": note} if note else None)
    pq.write_table(table, first(folder, "predictions/*.parquet"), compression="zstd")


def _rows(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(first(folder, "predictions/*.parquet"))


def tell_pandas_nonsense(folder: Path) -> None:
    _write_table(folder, _rows(folder), b"{")


def hide_a_column_from_pandas(folder: Path) -> None:
    _write_table(folder, _rows(folder), b'{"index_columns": ["run"], "columns": []}')


def send_a_bomb_of_rows(folder: Path) -> None:
    _write_table(folder, pd.concat([_rows(folder).head(1)] * 1_001))


def send_a_bomb_of_letters(folder: Path) -> None:
    _write_table(folder, pd.concat([_rows(folder).assign(id="x" * 100_000)] * 50))


def leave_out_a_name(folder: Path) -> None:
    _write_table(folder, _rows(folder).assign(id=None).astype({"id": "string"}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (nest_deeply, "plan.json: it is nested too deeply"),
        (nest_a_line, "results.jsonl, line 1: it is nested too deeply"),
        (count_beyond_everything, "results.jsonl, line 1: it holds an integer beyond 64 bits"),
        (score_beyond_everything, "results.jsonl, line 1: it holds an integer beyond 64 bits"),
        (write_a_number_of_5000_digits, "an integer of more than 4,300 digits"),
        (run_a_billion_times, "runs: expected less than or equal to 10000"),
        (send_half_a_letter, "half a letter"),
        (name_no_source, "run 1: sources are to be members of its stages"),
        (name_a_source_elsewhere, "run 1: sources are to be members of its stages"),
        (name_a_source_before_the_first, "run 1: sources are to be members of its stages"),
        (name_too_many_sources, "sources of 5 runs, not 2"),
        (scale_by_words, "scalers"),
        (cut_a_table, "is no Parquet file"),
        (spoil_a_table, "cannot be read"),
        (tell_pandas_nonsense, "malformed"),
        (hide_a_column_from_pandas, "malformed"),
        (send_a_bomb_of_rows, "has 1001 rows; at most 1000"),
        (send_a_bomb_of_letters, "id holds a text of more than 1000 bytes"),
        (leave_out_a_name, "id is missing in some row"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_meant_to_break_a_check_is_refused(
    packed,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: Callable[[Path], None],
    said: str,
) -> None:
    monkeypatch.setattr(submissions, "ROWS_AT_MOST", 1_000)
    folder = packed()
    harm(folder)
    sign(folder)
    found = check(folder, tiny)
    assert any(said in line for line in found.differences), found
    assert all(len(line) < 1_000 for line in found.differences)


def test_a_file_larger_than_it_says_is_not_read(packed, tiny: Path) -> None:
    folder = packed()
    with (folder / "plan.json").open("r+b") as file:
        file.truncate(2**42)  # sparse: nothing is written
    assert "plan.json: its sha256 or size" in check(folder, tiny).differences[0]


def test_a_pipe_is_not_waited_for(packed, tiny: Path) -> None:
    folder = packed()
    os.mkfifo(folder / "pipe")
    assert "pipe is no plain file" in check(folder, tiny).differences
    (folder / "submission.json").unlink()
    os.mkfifo(folder / "submission.json")
    with pytest.raises(StoreError, match="is no submission"):
        check(folder, tiny)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"format": 1, "files": ' + "1" * 5_000 + "}",
        "\udcff",
        '"\\ud800"',
        "9" * 4_000,
    ],
    ids=["deep", "digits", "no UTF-8", "half a letter", "a number"],
)
def test_a_manifest_that_is_none_says_so(packed, text: str) -> None:
    folder = packed()
    (folder / "submission.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StoreError) as caught:
        Submission.read(folder)
    assert "submission.json" in str(caught.value)
    assert len(str(caught.value)) < 1_000


# --- models that are not installed here -------------------------------------------------------

UNKNOWN = "supernet"


def _renamed(content: Any) -> Any:
    """Calls the trained backbone by a name that no plugin offers; the baselines keep theirs."""
    if isinstance(content, list):
        return [_renamed(item) for item in content]
    if not isinstance(content, dict):
        return content
    named = {key: _renamed(value) for key, value in content.items()}
    if content.get("backbone") == "tiny" and content.get("transfer") == "scratch":
        named["backbone"] = UNKNOWN
    if "backbones" in content:
        named["backbones"] = [{"name": UNKNOWN}]
    return named


def call_it_supernet(folder: Path) -> None:
    for path in (folder / "plan.json", *folder.glob("stages/*/stage.json")):
        path.write_text(json.dumps(_renamed(json.loads(path.read_text()))))
    lines = (folder / "results.jsonl").read_text().splitlines()
    text = "".join(json.dumps(_renamed(json.loads(line))) + "\n" for line in lines)
    (folder / "results.jsonl").write_text(text)
    sign(folder)


def forge(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], metrics: Any) -> None:
    """Changes the rows of the unknown model's cells, and all scores so that they fit."""
    path = folder / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    keys = {line["key"] for line in lines if line["backbone"] == UNKNOWN}
    for key in keys:
        file = folder / f"predictions/{key}.parquet"
        change(pd.read_parquet(file)).reset_index(drop=True).to_parquet(file)
    for line in lines:
        if line["key"] in keys:
            rows = pd.read_parquet(folder / f"predictions/{line['key']}.parquet")
            shown = {name: metrics[name] for name in ("mae-log", "mape")}
            line["scores"] = json.loads(json.dumps(score_stored(shown, rows, line["run"])))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sign(folder)


def three_rows_of_one(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby("run").head(3).assign(target=1.0, prediction=1.0)


def invented_ids(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(id=[f"row-{n}" for n in range(len(rows))], prediction=rows["target"])


def another_part(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(part="Source")


def no_overlap(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(overlap=~rows["overlap"])


def a_row_twice(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([rows, rows.head(1)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (three_rows_of_one, "has another target or overlap than the data"),
        (invented_ids, "is no test row of this run"),
        (another_part, "is no test row of this run"),
        (no_overlap, "has another target or overlap than the data"),
        (a_row_twice, "is there twice"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unknown_model_does_not_hide_other_rows(
    packed, tiny: Path, metrics, change: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    folder = packed()
    call_it_supernet(folder)
    forge(folder, change, metrics)
    assert any(said in line for line in check(folder, tiny).differences)


def train_on_test_rows(folder: Path) -> None:
    rows = pd.read_parquet(first(folder, "predictions/*.parquet"))
    for path in folder.glob("stages/*/ledger.parquet"):
        ledger = pd.read_parquet(path)
        ledger.loc[ledger.index[0], "id"] = rows.loc[rows["run"] == 1, "id"].iloc[0]
        ledger.to_parquet(path)


def train_on_more_rows(folder: Path) -> None:
    for path in folder.glob("stages/*/stage.json"):
        edit(path, lambda record: record.update(train_rows=[30] * len(record["train_rows"])))


def call_it_larger(folder: Path) -> None:
    def change(plan: Any) -> None:
        plan["datasets"]["Toy"]["rows"] = plan["benchmark"]["rows"]["Toy"] = 4000

    edit(folder / "plan.json", change)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (train_on_test_rows, "in the data"),
        (train_on_more_rows, "30 train_rows, the ledger has"),
        (call_it_larger, "4000 rows in plan.json, the data give 48"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unknown_model_does_not_hide_other_splits(
    packed, tiny: Path, harm: Callable[[Path], None], said: str
) -> None:
    folder = packed()
    call_it_supernet(folder)
    harm(folder)
    sign(folder)
    assert any(said in line for line in check(folder, tiny).differences)


def test_honest_results_of_an_unknown_model_agree(packed, tiny: Path) -> None:
    folder = packed()
    call_it_supernet(folder)
    found = check(folder, tiny)
    assert found.differences == ()
    assert len(found.compared) == 4
    assert found.unchecked[0].startswith("settings: Unknown backbone 'supernet'")


# --- many people --------------------------------------------------------------------------------


def test_equal_results_of_two_people_stand_once_with_both_names(packed, metrics) -> None:
    leaderboard = merge([packed("ada"), packed("bob")], "many")
    table = pivot(leaderboard, metrics)
    assert {entry.cell["submission"] for entry in table.entries.values()} == {"ada = bob"}
    assert len(table.entries) == 4
    (note,) = table.notes
    assert note == (
        "ada, bob submitted 4 cells of the same configuration, with equal scores in all runs"
    )


def test_results_that_differ_are_shown_side_by_side(packed, metrics) -> None:
    ada, bob = packed("ada"), packed("bob")
    edit_line(bob, lambda line: line["scores"]["all"].update({"mae-log": 9.0}))
    leaderboard = merge([ada, bob], "many")
    named = {entry.cell["submission"] for entry in pivot(leaderboard, metrics).entries.values()}
    assert named == {"ada = bob", "ada ≈ bob", "bob ≈ ada"}
    assert leaderboard.notes[0].endswith("3 with equal scores in all runs, 1 that differ (runs 1)")


def test_other_settings_are_another_configuration(packed, metrics) -> None:
    leaderboard = merge([packed("ada"), packed("bob", epochs=2)], "many")
    shown = pivot(leaderboard, metrics, Layout(only={"transfer": ["scratch"]}))
    assert {entry.cell["submission"] for entry in shown.entries.values()} == {"ada", "bob"}
    assert "1 epochs" in leaderboard.settings["summary"]
    assert "2 epochs" in leaderboard.settings["summary"]
    baselines = pivot(leaderboard, metrics, Layout(only={"transfer": ["baseline"]}))
    assert {entry.cell["submission"] for entry in baselines.entries.values()} == {"ada = bob"}


def test_one_persons_cells_are_found_among_shared_ones(packed, metrics) -> None:
    leaderboard = merge([packed("ada"), packed("bob")], "many")
    assert pivot(leaderboard, metrics, Layout(only={"submission": ["bob"]})).entries


def test_other_test_rows_do_not_stand_in_one_table(packed) -> None:
    ada, bob = packed("ada"), packed("bob", seed=1)
    with pytest.raises(BenchmarkError, match="root seed"):
        merge([ada, bob], "many")


def test_other_data_by_the_same_name_do_not_stand_in_one_table(packed) -> None:
    ada, bob = packed("ada"), packed("bob")
    edit(bob / "plan.json", lambda plan: plan["datasets"]["Toy"].update(digest="0" * 64))
    with pytest.raises(BenchmarkError, match="other rows in the dataset 'Toy'"):
        merge([ada, bob], "many")


# --- what a check has shown ---------------------------------------------------------------------


def merged(folders: list[Path], into: Path, tiny: Path) -> Any:
    checks = {folder: check(folder, tiny) for folder in folders}
    return exchange.merge_submissions(folders, into, checks=checks)


def trust_of(table: Any) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for entry in table.entries.values():
        found.setdefault(entry.cell["transfer"], set()).add(entry.trust)
    return found


def test_baselines_are_fitted_again_and_others_recomputed(packed, tiny: Path, metrics) -> None:
    folder = packed()
    found = check(folder, tiny)
    assert sorted(found.trust.values()) == ["recomputed"] * 2 + ["reproduced"] * 2
    assert "2 cells reproduced, 2 recomputed." in found.verdict
    assert "made-up predictions would pass just so" in found.verdict
    table = pivot(merged([folder], folder.parent / "many", tiny), metrics)
    assert trust_of(table) == {"baseline": {"reproduced"}, "scratch": {"recomputed"}}


def test_a_baseline_with_other_predictions_is_found(packed, tiny: Path, metrics) -> None:
    folder = packed()
    call_it_supernet(folder)
    plan = json.loads((folder / "plan.json").read_text())
    key = next(cell["key"] for cell in plan["cells"] if cell["transfer"] == "baseline")
    path = folder / f"predictions/{key}.parquet"
    rows = pd.read_parquet(path)
    rows.assign(prediction=rows["prediction"] * 1.01).to_parquet(path)
    lines = [json.loads(text) for text in (folder / "results.jsonl").read_text().splitlines()]
    for line in lines:
        if line["key"] == key:
            shown = {name: metrics[name] for name in ("mae-log", "mape")}
            line["scores"] = score_stored(shown, pd.read_parquet(path), line["run"])
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    sign(folder)
    assert any("the baseline gives" in line for line in check(folder, tiny).differences)


def test_what_could_not_be_checked_stands_as_unchecked_and_is_never_best(
    packed, tiny: Path, metrics, tmp_path: Path
) -> None:
    eve, ada = packed("eve", epochs=2), packed("ada")
    exchange.merge_submissions([ada], tmp_path / "many", checks={ada: check(ada, tiny)})
    nobody_knows = exchange.check_submission(eve)  # without the data
    assert set(nobody_knows.trust.values()) == {"unchecked"}
    exchange.merge_submissions([eve], tmp_path / "many", checks={eve: nobody_knows})
    table = pivot(api.open_leaderboard(tmp_path / "many"), metrics)
    unchecked = [entry for entry in table.entries.values() if entry.trust == "unchecked"]
    assert {entry.cell["submission"] for entry in unchecked} == {"eve"}
    assert not any(entry.best or entry.undecided for entry in unchecked)
    page = (tmp_path / "many" / "table.md").read_text()
    assert ", unchecked" in page
    assert "unchecked: only claimed: data or protocol were not known" in page
    assert "  - unchecked: data, settings and splits: Unknown dataset 'Toy'" in page
    assert ",unchecked\n" in (tmp_path / "many" / "table.csv").read_text()


def test_a_claim_that_would_be_the_best_is_not(packed, tiny: Path, metrics) -> None:
    eve, ada = packed("eve"), packed("ada", epochs=2)
    call_it_supernet(eve)
    forge(eve, lambda rows: rows.assign(prediction=rows["target"]), metrics)
    leaderboard = merge([eve, ada], "many")
    assert not any(entry.best for entry in pivot(leaderboard, metrics).entries.values())


def test_nothing_is_known_of_a_submission_that_has_changed(packed, tiny: Path, metrics) -> None:
    folder = packed()
    many = folder.parent / "many"
    merged([folder], many, tiny)
    edit_line(many / "submissions" / "ada", lambda line: line["scores"]["all"].update(mape=0.01))
    table = pivot(api.open_leaderboard(many), metrics)
    assert trust_of(table) == {"baseline": {"unchecked"}, "scratch": {"unchecked"}}


def test_equal_scores_are_as_good_as_the_best_checked(packed, tiny: Path, metrics) -> None:
    ada, bob = packed("ada"), packed("bob")
    leaderboard = exchange.merge_submissions(
        [ada, bob], ada.parent / "many", checks={bob: check(bob, tiny)}
    )
    assert trust_of(pivot(leaderboard, metrics))["baseline"] == {"reproduced"}


def test_a_submission_with_differences_is_not_merged(packed, tiny: Path) -> None:
    folder = packed()
    better_a_score(folder)
    with pytest.raises(StoreError, match=r"cannot be merged: .*mape"):
        merged([folder], folder.parent / "many", tiny)
    assert not (folder.parent / "many").exists()


def test_checks_that_are_damaged_say_what_to_do(packed, tiny: Path) -> None:
    folder = packed()
    merged([folder], folder.parent / "many", tiny)
    (folder.parent / "many" / "checks.json").write_text("{")
    with pytest.raises(StoreError, match="Remove it, and its leaderboard counts as unchecked"):
        api.open_leaderboard(folder.parent / "many")


def test_a_submission_that_is_not_whole_is_not_copied(packed, tmp_path: Path) -> None:
    ada = packed("ada")
    (ada / "results.jsonl").unlink()
    with pytest.raises(StoreError, match=r"results\.jsonl is missing"):
        copy_whole(ada, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_copy_that_was_killed_is_no_submission(packed, tmp_path: Path) -> None:
    many = tmp_path / "many"
    exchange.merge_submissions([packed("ada")], many)
    (many / "submissions" / ".bob.unfinished-killed" / "new").mkdir(parents=True)
    assert len(api.open_leaderboard(many).cells) == 4
    assert [path.name for path in (many / "submissions").iterdir()] == ["ada"]


def test_a_leaderboard_of_many_grows(packed, tmp_path: Path, metrics) -> None:
    many = tmp_path / "many"
    exchange.merge_submissions([packed("ada")], many)
    leaderboard = exchange.merge_submissions([packed("bob", epochs=2)], many)
    assert sorted(path.name for path in (many / "submissions").iterdir()) == ["ada", "bob"]
    assert "- **ada**: A small network" in (many / "table.md").read_text()
    assert len(api.open_leaderboard(many).cells) == len(leaderboard.cells) == 8
    again = exchange.merge_submissions([tmp_path / "ada"], many)
    assert again.summary().equals(leaderboard.summary()), "the same once more changes nothing"
    shutil.rmtree(tmp_path / "ada")
    with pytest.raises(StoreError, match="exists already: change `name`"):
        exchange.merge_submissions([packed("ada", epochs=2)], many)
    with pytest.raises(StoreError, match="Did you mean one of its submissions"):
        Store(many).read_plan()
