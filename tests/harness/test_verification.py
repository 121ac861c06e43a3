"""`verify` finds one changed digit, one changed prediction, one changed dataset row."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from harness import api
from harness.errors import StoreError
from harness.store import Store
from harness.verification import Verification

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
def board(finished: Path, tmp_path: Path) -> Path:
    """A copy of finished results, to be spoiled."""
    return Path(shutil.copytree(finished, tmp_path / "toy"))


@pytest.fixture
def verify(board: Path, tiny: Path):
    def go(plugin: Path = tiny) -> Verification:
        return api.verify(board, plugins=[plugin])

    return go


def only(found: Verification) -> str:
    (difference,) = found.differences
    return difference


def test_untouched_results_agree(verify) -> None:
    found = verify()
    assert found.differences == ()
    assert found.unchecked == ()
    assert found.checked["cells"] == 12
    assert found.checked["scores"] == 12 * 2 * 2 * 2
    assert found.checked["artefacts"] == 7


@pytest.mark.parametrize("name", ["table.md", "table.csv", "table-overlap-free.csv"])
def test_one_digit_of_a_table_is_found(verify, board: Path, name: str) -> None:
    text = (board / name).read_text()
    place = text.rindex("0.") + 2
    digit = str((int(text[place]) + 1) % 10)
    (board / name).write_text(text[:place] + digit + text[place + 1 :])
    assert only(verify()).startswith(f"{name}: line ")


def test_one_digit_of_a_result_is_found(verify, board: Path) -> None:
    path = board / "results.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    line = json.loads(first)
    line["scores"]["all"]["mape"] += 1e-6
    path.write_text(json.dumps(line) + "\n" + "".join(others))
    found = verify()
    assert any("run 1: mape (all rows) is" in text for text in found.differences)


def test_one_prediction_is_found(verify, board: Path) -> None:
    path = sorted((board / "predictions").glob("*.parquet"))[0]
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


def test_other_settings_are_found(verify, board: Path) -> None:
    path = board / "plan.json"
    path.write_text(path.read_text().replace('"lr": 0.001', '"lr": 0.002'))
    assert any("does not follow from" in text for text in verify().differences)


def test_a_missing_file_of_rows_is_found(verify, board: Path) -> None:
    sorted((board / "predictions").glob("*.parquet"))[0].unlink()
    assert any("its predictions are missing" in text for text in verify().differences)


def test_a_missing_run_is_found(verify, board: Path) -> None:
    path = board / "results.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert any("runs [2] where [1, 2] are expected" in text for text in verify().differences)


def test_changed_weights_are_found(verify, board: Path) -> None:
    weights = sorted(board.glob("stages/*/weights.safetensors"))[0]
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "its weights have another digest" in only(verify())


def test_a_leak_in_a_stored_ledger_is_found(verify, board: Path) -> None:
    store = Store(board)
    line = store.read_results()[-1]
    row = store.read_predictions(line["key"]).iloc[0]
    path = store.stage_folder(line["stage"]) / "ledger.parquet"
    ledger = pd.read_parquet(path)
    leak = {"run": row["run"], "part": row["part"], "id": row["id"], "group": "?", "role": "tuning"}
    pd.concat([ledger, pd.DataFrame([leak])]).to_parquet(path, index=False)
    differences = verify().differences
    assert any("also has the role 'tuning'" in text for text in differences)
    assert any("its ledger is not the plan's" in text for text in differences)


def test_what_needs_absent_data_is_named_as_unchecked(board: Path) -> None:
    found = api.verify(board)  # without the plugin that brings the datasets
    assert found.differences == ()
    assert len(found.unchecked) == 1
    assert "Unknown dataset 'Toy'" in found.unchecked[0]


def test_artefacts_that_are_not_kept_are_named_as_unchecked(verify, board: Path) -> None:
    for weights in board.glob("stages/*/weights.safetensors"):
        weights.unlink()
    found = verify()
    assert found.differences == ()
    assert found.unchecked == ("weights of 7 stages: not kept here",)


def test_no_results_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "benchmark.toml").write_text(BENCHMARK)
    with pytest.raises(StoreError, match="holds no results yet"):
        api.verify(tmp_path)
