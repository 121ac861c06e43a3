"""A benchmark lists its plugin files: who has run it needs no `--plugin`, others run nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness import api
from harness.apps.submissions import exchange
from harness.errors import BenchmarkError, PluginError
from harness.planning.benchmark import Benchmark
from harness.registry.known_files import remember
from harness.results.store import Store

PLUGIN = """
from pathlib import Path
import numpy as np
from harness.plugin import MetricSpec, hookimpl

with (Path(__file__).parent / "executed").open("a") as file:
    file.write("x")

def worst(target, prediction):
    return float(np.max(np.abs(np.log10(target) - np.log10(prediction))))

@hookimpl
def register_metrics():
    return [MetricSpec("worst", "Worst error", "decades", False, worst)]
"""

BENCHMARK = """
plugins = ["../code/my_metric.py"]
train_on = ["Experiment"]
test_on = ["Experiment"]
backbones = ["composition"]
heads = ["ridge"]
baselines = []
metrics = ["worst", "mae-log"]
runs = 2
"""


def write(folder: Path) -> Path:
    """Writes a benchmark folder, and beside it the code that it lists."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "my_metric.py").write_text(PLUGIN)
    (folder / "mine").mkdir()
    (folder / "mine" / "benchmark.toml").write_text(BENCHMARK)
    return folder / "mine"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A benchmark that nobody has run."""
    return write(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was run; not to be changed."""
    folder = write(tmp_path_factory.mktemp("own"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        api.run(folder)
    return folder


def was_executed(folder: Path) -> bool:
    return any(folder.parent.rglob("executed"))


def as_sent(done: Path, folder: Path) -> Path:
    """The same files as somebody else has sent them: nobody has run them here."""
    shutil.copytree(done.parent, folder)
    (folder / "code" / "executed").unlink()
    return folder / done.name


def test_who_has_run_a_benchmark_needs_no_plugin_option(
    done: Path, harness, tmp_path: Path
) -> None:
    for command in (
        ["run", str(done), "-q"],
        ["table", str(done)],
        ["verify", str(done)],
        ["compare", str(done), str(done)],
        ["plot", "heatmap", str(done), "-o", str(tmp_path / "heat.svg")],
        ["site", str(done), "-o", str(tmp_path / "site")],
        ["export", str(done), "train_on=Experiment", "-o", str(tmp_path / "bundle")],
    ):
        status, _, said = harness(*command)
        assert status == 0, (command, said)


def test_a_file_given_by_hand_too_is_loaded_once(done: Path, harness) -> None:
    given = str(done.parent / "code" / "my_metric.py")
    assert harness("table", str(done), "--plugin", given)[0] == 0


def test_the_plan_remembers_what_was_loaded(done: Path) -> None:
    plan = Store(done).read_plan()
    assert plan.settings["plugins"] == ["../code/my_metric.py"]
    assert list(plan.plugins) == ["my_metric.py"]
    assert str(done.parent) not in (done / "plan.json").read_text(), "no path of this machine"


def test_a_changed_file_is_a_difference(done: Path, tmp_path: Path) -> None:
    code = tmp_path / "my_metric.py"
    code.write_text(PLUGIN + "\nmore = 1\n")
    found = api.verify(as_sent(done, tmp_path / "again"), plugins=[code])
    assert any("plugin file my_metric.py: its digest" in line for line in found.differences)


@pytest.mark.parametrize("command", ["table", "verify", "site", "compare", "plot", "export"])
def test_to_look_at_results_of_others_executes_nothing(
    done: Path, harness, tmp_path: Path, command: str
) -> None:
    theirs = as_sent(done, tmp_path / "theirs")
    arguments = {
        "compare": [str(theirs), str(theirs)],
        "plot": ["heatmap", str(theirs), "-o", str(tmp_path / "x.svg")],
        "site": [str(theirs), "-o", str(tmp_path / "site")],
        "export": [str(theirs), "train_on=Experiment", "-o", str(tmp_path / "bundle")],
    }.get(command, [str(theirs)])
    status, _, said = harness(command, *arguments)
    assert not was_executed(theirs)
    assert status != 0
    if command != "verify":  # which lists what it could not check
        assert "my_metric.py" in said and "has not been run here" in said


def test_a_file_that_was_changed_since_it_was_run_is_not_loaded(
    done: Path, harness, tmp_path: Path
) -> None:
    mine = as_sent(done, tmp_path / "again")
    code = mine.parent / "code" / "my_metric.py"
    remember([code])
    assert harness("table", str(mine))[0] == 0 and was_executed(mine)
    (mine.parent / "code" / "executed").unlink()
    code.write_text(PLUGIN + "\nmore = 1\n")
    status, _, said = harness("table", str(mine))
    assert status == 2 and "has not been run here as it is now" in said
    assert not was_executed(mine)


def test_a_submission_executes_nothing_whatever_it_lists(done: Path, tmp_path: Path) -> None:
    card = tmp_path / "eve.toml"
    texts = {"name": "eve", "title": "Eve", "summary": "Hers.", "licence": "CC0-1.0"}
    lines = [f'{key} = "{text}"' for key, text in texts.items()]
    card.write_text("\n".join([*lines, 'authors = ["eve"]']))
    exchange.pack_submission(done, card, tmp_path / "eve")
    theirs = tmp_path / "eve"
    assert "my_metric.py" in (theirs / "plan.json").read_text()
    shutil.copy(done.parent / "code" / "my_metric.py", theirs)
    (theirs / "benchmark.toml").write_text(BENCHMARK.replace("../code/", ""))
    found = exchange.check_submission(theirs)
    assert found.differences
    assert not was_executed(theirs)


def test_an_unknown_name_says_how_its_file_is_named(mine: Path) -> None:
    text = BENCHMARK.replace('plugins = ["../code/my_metric.py"]\n', "")
    (mine / "benchmark.toml").write_text(text)
    with pytest.raises(PluginError, match=r"under `plugins` in the benchmark file, or give --plug"):
        api.run(mine)


def test_a_listed_file_that_is_not_there_is_named(mine: Path) -> None:
    (mine.parent / "code" / "my_metric.py").unlink()
    with pytest.raises(PluginError, match=r"code/my_metric\.py"):
        api.run(mine)


@pytest.mark.parametrize("name", ["/tmp/x.py", "x.toml", "a\nb.py"])
def test_only_python_files_beside_the_benchmark_are_listed(mine: Path, name: str) -> None:
    (mine / "benchmark.toml").write_text(
        BENCHMARK.replace("../code/my_metric.py", name.replace("\n", "\\n"))
    )
    with pytest.raises(BenchmarkError, match="expected Python files, relative to the benchmark"):
        Benchmark.load(mine)
