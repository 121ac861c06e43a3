"""A run whose group is not in a dataset is n/a there: it stops nothing, and everything says so."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from harness import api
from harness.apps.submissions import exchange
from harness.errors import BenchmarkError, DataError
from harness.report.merging import merge
from harness.report.pivot import pivot
from harness.results.store import Store
from tests.conftest import CARD

BENCHMARK = """
train_on = ["Toy", "Source"]
test_on = ["Toy", "Source"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
protocols = [{ name = "leave-one-out", by = "element", groups = ["Li", "Be", "F", "Cl"] }]
baselines = [{ head = "mean-log" }]
runs = 4
metrics = ["mae-log", "mape"]

[training]
epochs = 2
loss = "mae-log"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "left-out"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        api.run(folder, plugins=[tiny])
    return folder


def test_no_stage_sees_what_its_run_leaves_out_in_any_dataset(finished: Path, tiny: Path) -> None:
    planned = api.prepare(finished, registry=api.registry_of(finished, plugins=[tiny]))
    (names,) = planned.run_names.values()
    assert names == ("Li", "Be", "F", "Cl")
    for stage in planned.stages:
        for member in stage.members:
            for row in (*member.train, *member.validation, *member.scaler_rows):
                assert names[member.run - 1] not in stage.dataset.crystals[row].species


def test_a_run_without_test_rows_is_no_result_and_no_failure(finished: Path) -> None:
    plan = Store(finished).read_plan()
    assert {cell.test_on: cell.runs for cell in plan.cells} == {"Toy": (1, 3, 4), "Source": ()}
    assert len(Store(finished).complete_results(plan)) == len(plan.cells) // 2 * 7


def test_tables_count_it_and_name_what_is_left_out(finished: Path) -> None:
    text = (finished / "table.md").read_text()
    assert ", 1 n/a" in text
    assert "of 4 runs" not in text
    assert "run by run: 1 Li, 2 Be, 3 F, 4 Cl" in text
    assert "corrected resampled t-test over the groups left out" in text


def pack(results: Path, name: str, into: Path) -> Path:
    card = into / f"{name}.toml"
    card.write_text(CARD.format(name=name))
    exchange.pack_submission(results, card, into / name)
    return into / name


def test_a_table_of_several_people_says_what_theirs_say(
    finished: Path, tiny: Path, tmp_path: Path, metrics
) -> None:
    said = "leave-one-out(by=element, groups=Li-Be-F-Cl): what is left out for test, run by run: "
    here = tmp_path / "other"
    here.mkdir()
    (here / "benchmark.toml").write_text(re.sub("\nprotocols = .*", "", BENCHMARK))
    api.run(here, plugins=[tiny])
    ada, bob = pack(finished, "ada", tmp_path), pack(finished, "bob", tmp_path)
    both = merge([ada, bob], "both")
    assert [note for note in both.notes if "left out" in note] == [said + "1 Li, 2 Be, 3 F, 4 Cl"]
    three = merge([ada, bob, pack(here, "eve", tmp_path)], "three")
    (note,) = [note for note in pivot(three, metrics).notes if "left out" in note]
    assert note == f"ada, bob: {said}1 Li, 2 Be, 3 F, 4 Cl"
    entries = pivot(both, metrics).entries.values()
    assert {entry.cell["test_on"]: entry.not_applicable for entry in entries} == {
        "Toy": 1,
        "Source": 0,
    }


def test_a_table_of_several_people_counts_rows_that_could_not_be_encoded(
    tiny: Path, tmp_path: Path
) -> None:
    here, plugins = tmp_path / "shy", [tiny, tiny.with_name("frozen.py")]
    here.mkdir()
    text = BENCHMARK.replace('["tiny"]', '["shy"]').replace('["scratch", {', '["fixed"] # {')
    (here / "benchmark.toml").write_text(text)
    leaderboard = api.run(here, plugins=plugins)
    merged = merge([pack(here, name, tmp_path) for name in ("ada", "bob")], "both")
    assert merged.unusable == leaderboard.unusable == {"Toy": 1, "Source": 1}


def test_the_results_verify_with_and_without_the_models(finished: Path, tiny: Path) -> None:
    found = api.verify(finished, plugins=[tiny])
    assert found.differences == ()
    assert found.checked["results"] > 0


def test_a_missing_run_is_told_from_one_that_is_not_applicable(
    finished: Path, tiny: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "left-out"))
    path = copy / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lost = next(i for i, line in enumerate(lines) if json.loads(line)["test_on"] == "Toy")
    path.write_text("".join(lines[:lost] + lines[lost + 1 :]))
    found = api.verify(copy, plugins=[tiny])
    assert any("where [1, 3, 4] are expected" in line for line in found.differences)


def test_the_command_line_shows_it(finished: Path, tiny: Path, harness, tmp_path: Path) -> None:
    plugin = ("--plugin", str(tiny))
    code, out, _ = harness("run", str(finished), *plugin, "--plan")
    assert code == 0
    assert "what each run tests: 1 Li, 2 Be, 3 F, 4 Cl" in " ".join(out.split())
    assert "has no test rows in Toy in run 2" in " ".join(out.split())
    code, out, _ = harness("table", str(finished), *plugin)
    assert code == 0
    assert "1 n/a" in out
    sides = (
        "--a",
        "transfer=scratch",
        "--b",
        "transfer=two-stage(source=Source, source_start=random)",
    )
    assert harness("compare", str(finished), str(finished), *plugin, *sides)[0] == 0
    assert harness("audit", str(finished), *plugin)[0] == 0
    assert harness("site", str(finished), "-o", str(tmp_path / "site"))[0] == 0
    page = next((tmp_path / "site" / "left-out" / "cells").glob("*.html")).read_text()
    rows = re.findall("<tr>(.*?)</tr>", page, re.DOTALL)
    told = [re.sub("<[^>]*>", " ", row).split()[:2] for row in rows]
    assert ["1", "Li"] in told
    assert ["3", "F"] in told


def test_a_bundle_holds_every_run_that_is_scored_anywhere(
    finished: Path, tiny: Path, harness, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    which = ("transfer=scratch,train_on=Toy", "-o", str(bundle), "--plugin", str(tiny))
    assert harness("export", str(finished), *which)[0] == 0
    record = json.loads((bundle / "bundle.json").read_text())
    sizes = {cell["cell"]["test_on"]: cell["rows"] for cell in record["cells"]}
    plan, store = Store(finished).read_plan(), Store(finished)
    stored = {
        cell.test_on: len(store.read_predictions(cell.key))
        for cell in plan.cells
        if cell.transfer == "scratch" and cell.train_on == "Toy"
    }
    assert sizes == stored
    assert len(record["runs"]) == 4


def test_a_dataset_that_no_run_tests_is_refused(finished: Path, tiny: Path) -> None:
    registry = api.registry_of(finished, plugins=[tiny])
    only = "protocols=[{name='leave-one-out', groups=['Be', 'Mg']}]"
    with pytest.raises(DataError, match="No run has test rows in 'Toy'"):
        api.prepare(finished, registry=registry, overrides=[only, "runs=2"])
    with pytest.raises(BenchmarkError, match="every run leaves out another element"):
        api.prepare(finished, registry=registry, overrides=["runs=9"])
