"""A whole run: stops, kills and company change nothing about the table in the end."""

from __future__ import annotations

import multiprocessing
import os
import random
import runpy
import signal
import threading
import tomllib
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.apps.predict import predicting
from harness.errors import (
    BenchmarkError,
    BundleError,
    FailedCellsWarning,
    HarnessError,
    PluginError,
    StoreError,
    WeightsError,
)
from harness.planning import planner
from harness.planning.benchmark import Benchmark
from harness.plugin.hookspecs import hookimpl
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store
from harness.scoring.scores import score_run
from harness.training import plan_executor
from harness.training.stop_signal import StopSignal

BENCHMARK = """
train_on = ["Toy", "Twins"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = []
heads = [{ name = "mlp", hidden = [16] }]
transfers = ["scratch", { name = "two-stage", source = "Source", source_start = "random" }]
runs = 2
metrics = ["mae-log", "mape"]

[training]
epochs = 3
loss = "mae-log"
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    return folder


@pytest.fixture
def run(toy: Path, tiny: Path):
    def go(out: Path | None = None, **options: Any) -> Leaderboard:
        return api.run(toy, out=out, plugins=[tiny], **options)

    return go


class Diary:
    """An observer that writes down what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @hookimpl
    def stage_started(self, event: Any) -> None:
        self.lines.append(f"start {event.title}")

    @hookimpl
    def epoch_finished(self, event: Any) -> None:
        self.lines.append(f"epoch {event.epoch} of {event.title}, {event.fraction:.2f} of all")

    @hookimpl
    def stage_finished(self, event: Any) -> None:
        self.lines.append(f"end {event.title}")

    @hookimpl
    def cell_finished(self, event: Any) -> None:
        self.lines.append(f"cell {event.train_on} {event.test_on}")


def table_of(folder: Path) -> str:
    return (folder / "table.csv").read_text()


def test_a_run_fills_every_cell_and_tells_observers(run, toy: Path) -> None:
    diary = Diary()
    leaderboard = run(observers=[diary])
    assert len(leaderboard.summary()) == 8
    assert (leaderboard.summary()["runs"] == 2).all()
    assert diary.lines.count("end Source (random)") == 1
    assert "epoch 3 of Twins (after Source), 1.00 of all" in diary.lines
    assert sum(line.startswith("cell") for line in diary.lines) == 8
    assert (toy / "table.md").read_text().startswith("# toy")


def test_the_same_run_twice_is_bit_identical(run, tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two")
    lines = [
        sorted((tmp_path / x / "results.jsonl").read_text().splitlines()) for x in ("one", "two")
    ]
    assert lines[0] == lines[1]


def test_what_is_on_disk_is_not_done_again(run) -> None:
    run()
    diary = Diary()
    run(observers=[diary])
    assert diary.lines == []


def test_scores_alone_are_enough_when_artefacts_are_gone(run, toy: Path) -> None:
    """As in a checkout, where results are committed and artefacts are not."""
    run()
    before = table_of(toy)
    for path in sorted((toy / "stages").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    diary = Diary()
    run(observers=[diary])
    assert diary.lines == []
    assert table_of(toy) == before


def test_every_result_names_its_datasets(run, toy: Path) -> None:
    run()
    (source_line, *_) = [
        line for line in Store(toy).read_results() if line.transfer.startswith("two-stage")
    ]
    assert source_line.datasets["Source"].rows == 192
    assert len(source_line.datasets["Source"].digest) == 64


def test_other_settings_do_not_mix_with_earlier_results(run) -> None:
    first = run()
    second = run(overrides=["training.epochs=2"])
    assert len(second.runs) == len(first.runs)
    assert not second.runs.equals(first.runs)


def test_a_run_with_other_settings_waits_until_the_folder_is_free(run, tmp_path: Path) -> None:
    """Two at once would write over each other's plan, and show each other's numbers."""
    refused: list[StoreError] = []

    class Rival:
        @hookimpl
        def stage_started(self, event: Any) -> None:
            with pytest.raises(StoreError) as error:
                run(tmp_path / "shared", overrides=["training.epochs=2"])
            refused.append(error.value)

    mine = run(tmp_path / "shared", observers=[Rival()])
    assert mine.runs.equals(run(tmp_path / "alone").runs)
    assert "training.epochs is 3 there and 2 here" in str(refused[0])
    later = run(tmp_path / "shared", overrides=["training.epochs=2"])
    assert later.settings["training"]["epochs"] == 2


def test_a_metric_that_is_added_later_is_scored_from_the_stored_rows(run) -> None:
    run()
    diary = Diary()
    leaderboard = run(overrides=['metrics=["mae-log", "spearman"]'], observers=[diary])
    assert diary.lines == [], "nothing is trained or predicted again"
    assert leaderboard.summary()["spearman"].notna().all()


COUNTING = """
import os
from functools import wraps
from harness.planning import planner
from harness.planning.benchmark import Benchmark

def counted(function, what):
    @wraps(function)
    def count(*arguments):
        with open({log!r}, "a") as log:
            log.write(f"{{os.getpid()}} {{what}}\\n")
        return function(*arguments)
    return count

if not hasattr(planner.resolve, "__wrapped__"):
    Benchmark.load = counted(Benchmark.load, "reads")
    planner.resolve = counted(planner.resolve, "resolves")
"""
SEARCH = """
[tuning]
trials = 1
ensemble = 0
"""


@pytest.mark.parametrize(
    ("call", "search", "jobs"),
    [
        pytest.param(api.run, "", 1, id="run"),
        pytest.param(api.run, SEARCH, 1, id="run with a search"),
        pytest.param(api.tune, SEARCH, 1, id="tune"),
        pytest.param(api.run, SEARCH, 2, id="two processes", marks=pytest.mark.slow),
    ],
)
def test_the_file_is_read_once_and_its_names_are_looked_up_once_in_every_process(
    toy: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, call: Any, search: str, jobs: int
) -> None:
    (toy / "benchmark.toml").write_text(BENCHMARK + search)
    log, plugin = toy / "log", toy / "counting.py"
    plugin.write_text(COUNTING.format(log=str(log)))
    monkeypatch.setattr(Benchmark, "load", Benchmark.load)  # so that what it counts is undone
    monkeypatch.setattr(planner, "resolve", vars(planner)["resolve"])
    runpy.run_path(str(plugin))
    call(toy, plugins=[tiny, plugin], jobs=jobs, overrides=["runs=1", "training.epochs=1"])
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [process for process, did in lines if did == "reads"] == [str(os.getpid())]
    processes = [process for process, did in lines if did == "resolves"]
    assert len(processes) == len(set(processes)) == 2 * jobs - 1, "one helps with each"


ONE_WAY = """
import torch
from harness.plugin import HeadSpec, hookimpl

class OneWay(torch.nn.Module):
    def __init__(self, width, members):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(members, width))
        self.register_buffer("start", torch.ones(members, width))

    def forward(self, embeddings):
        moved = (self.weight != self.start).any(dim=-1)
        return (embeddings * self.weight[:, None]).mean(dim=-1) / (~moved)[:, None]

@hookimpl
def register_heads():
    return [HeadSpec("one-way", "", make=lambda s, width, seeds: OneWay(width, len(seeds)))]
"""


def test_a_run_without_a_finite_epoch_has_failed_and_is_no_result(toy: Path, tiny: Path) -> None:
    """What it holds are the weights that it began with; they must not be scored as trained."""
    (toy / "one_way.py").write_text(ONE_WAY)
    plugins = [tiny, toy / "one_way.py"]
    changes = ["runs=1", 'heads=["one-way"]', 'train_on=["Toy"]']
    with pytest.warns(FailedCellsWarning, match="predictions are not finite"):
        summary = api.run(toy, plugins=plugins, overrides=changes).summary()
    assert len(summary) == 4
    assert summary["mae-log"].isna().all()
    assert (summary["failed"] > 0).all()
    assert "predictions are not finite" in (toy / "table.md").read_text()
    (toy / "benchmark.toml").write_text(
        BENCHMARK.replace('{ name = "mlp", hidden = [16] }', '"one-way"')
    )
    with pytest.raises(BundleError, match="some predictions are not finite"):
        predicting.export(toy, "transfer=scratch,train_on=Toy", toy / "bundle", plugins=plugins)


MENDED_LATER = """
from pathlib import Path
import numpy as np
from harness.plugin import HeadSpec, hookimpl

def fit(settings, rows):
    if not (Path(__file__).parent / "mended").exists():
        raise ArithmeticError("no luck")
    return lambda embeddings: np.ones(len(embeddings))

@hookimpl
def register_heads():
    return [HeadSpec("sick", "", fit=fit)]
"""


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_fails_costs_no_other_cell_and_is_tried_again(
    toy: Path, tiny: Path, harness: Any, jobs: int
) -> None:
    (toy / "sick.py").write_text(MENDED_LATER)
    command = ["run", str(toy), "--plugin", str(tiny), "--plugin", str(toy / "sick.py")]
    command += ["--set", 'heads=["sick", "nearest"]', "--set", 'transfers=["scratch"]']
    command += ["--jobs", str(jobs)]
    status, out, err = harness(*command)
    assert status == 3
    assert "4 of 8 cells failed" in err
    reason = f"ArithmeticError: no luck ({toy / 'sick.py'}, line 8, in fit)"
    assert all(reason in text for text in (err, out, (toy / "table.md").read_text()))
    cells = Leaderboard.read(Store(toy)).summary().groupby("head")["runs"].sum()
    assert cells.to_dict() == {"sick": 0, "nearest": 8}
    (toy / "mended").touch()
    status, out, err = harness(*command)
    assert status == 0
    assert "failed" not in out + err


def test_a_metric_that_fails_costs_the_cells_alone(toy: Path, tiny: Path, harness: Any) -> None:
    (toy / "metric.py").write_text(
        "from harness.plugin import MetricSpec, hookimpl\n\n"
        "@hookimpl\ndef register_metrics():\n"
        "    return [MetricSpec('bad', '', '', False, lambda target, prediction: 1 / 0)]\n"
    )
    with pytest.warns(FailedCellsWarning, match="ZeroDivisionError"):
        leaderboard = api.run(
            toy,
            plugins=[tiny, toy / "metric.py"],
            overrides=['metrics=["mae-log", "bad"]', 'heads=["nearest"]', 'transfers=["scratch"]'],
        )
    assert len(leaderboard.failed) == 4


def test_a_benchmark_made_in_python_runs(tiny: Path, tmp_path: Path) -> None:
    benchmark = Benchmark.model_validate(tomllib.loads(BENCHMARK) | {"name": "mine"})
    leaderboard = api.run(benchmark, out=tmp_path, plugins=[tiny])
    assert (leaderboard.summary()["runs"] == 2).all()


def test_a_file_of_another_name_has_results_of_its_own(run, toy: Path) -> None:
    other = toy / "short.toml"
    other.write_text(BENCHMARK.replace("epochs = 3", "epochs = 1"))
    assert api.default_out(other) == toy / "short"
    assert api.default_out(toy) == toy


def test_published_cells_that_are_missing_are_named_before_training(run) -> None:
    diary = Diary()
    with pytest.raises(BenchmarkError, match=r"nope.csv, are missing"):
        run(overrides=['published="nope.csv"'], observers=[diary])
    assert diary.lines == []


def test_a_dry_run_keeps_to_a_folder_of_its_own(run, toy: Path) -> None:
    run(limit=30)
    assert (toy / "limit-30" / "table.csv").is_file()
    assert not (toy / "table.csv").exists()


@pytest.mark.parametrize("problem", [RuntimeError, SystemExit])
def test_an_observer_that_raises_is_reported_and_costs_nothing(
    run, problem: type[BaseException]
) -> None:
    class Broken:
        @hookimpl
        def cell_finished(self, event: Any) -> None:
            raise problem("I am not well")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        leaderboard = run(observers=[Broken()])
    assert (leaderboard.summary()["runs"] == 2).all()
    assert any("I am not well" in str(warning.message) for warning in caught)


class Impatient:
    """Does something at the end of the second epoch of a stage."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    @hookimpl
    def epoch_finished(self, event: Any) -> None:
        if event.title == "Toy (after Source)" and event.epoch == 2:
            self.act()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_run_after_the_epoch_from_which_it_then_goes_on(
    run, toy: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(observers=[Impatient(partial(signal.raise_signal, getattr(signal, name)))])
    diary = Diary()
    run(observers=[diary])
    assert diary.lines[0] == "start Toy (after Source)"
    assert diary.lines[1].startswith("epoch 3 of")
    run(tmp_path / "undisturbed")
    assert table_of(toy) == table_of(tmp_path / "undisturbed")


def test_an_observer_may_ask_for_the_end_of_a_run(run, toy: Path) -> None:
    stop = StopSignal()
    with pytest.raises(KeyboardInterrupt):
        run(observers=[Impatient(stop.set)], stop=stop)
    diary = Diary()
    run(observers=[diary])
    assert diary.lines[1].startswith("epoch 3 of")


@pytest.mark.parametrize(("seconds", "results"), [(0.0, 2), (60.0, 4)])
def test_a_run_stops_between_cells_of_heads_in_closed_form(
    run, toy: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, results: int
) -> None:
    """Cells of a stage wait a second for one another, and are told once they are written."""
    monkeypatch.setattr(plan_executor, "WRITING_SECONDS", seconds)

    class Content:
        @hookimpl
        def cell_finished(self, event: Any) -> None:
            stop.set()

    stop = StopSignal()
    with pytest.raises(KeyboardInterrupt):
        run(
            observers=[Content()],
            stop=stop,
            overrides=['heads=["nearest"]', 'transfers=["scratch"]'],
        )
    assert len(Store(toy).read_results()) == results, "two runs of each cell"


@pytest.mark.parametrize("problem", [ZeroDivisionError("a bug"), KeyboardInterrupt()], ids=repr)
def test_cells_that_wait_to_be_written_are_written_where_the_next_one_ends_the_run(
    run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: BaseException
) -> None:
    closed = {"overrides": ['heads=["nearest"]', 'transfers=["scratch"]']}
    fail_at_second_cell(monkeypatch, problem)
    with pytest.raises(type(problem)):
        run(**closed)
    assert len(Store(toy).read_results()) == 2, "two runs of the first cell"
    monkeypatch.undo()
    run(**closed)
    run(tmp_path / "undisturbed", **closed)
    assert table_of(toy) == table_of(tmp_path / "undisturbed")


def test_a_cell_that_fails_takes_no_other_with_it(
    run, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_at_second_cell(monkeypatch, PluginError("no such luck"))
    with pytest.warns(FailedCellsWarning, match="1 of 4 cells failed: no such luck"):
        run(overrides=['heads=["nearest"]', 'transfers=["scratch"]'])
    assert len(Store(toy).read_results()) == 6, "two runs of three cells"


def fail_at_second_cell(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> None:
    begun: list[object] = []

    def failing(*arguments: Any) -> Any:
        begun.append(arguments)
        if len(begun) == 3:  # the first run of the second cell
            raise problem
        return score_run(*arguments)

    monkeypatch.setattr(plan_executor, "score_run", failing)


def test_a_stage_goes_on_from_its_checkpoint(
    run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killer:
        @hookimpl
        def epoch_finished(self, event: Any) -> None:
            if event.title.startswith("Toy (after") and event.epoch == 2:
                raise MemoryError  # ends the run as a kill does: nothing is flushed

    monkeypatch.setattr("harness.training.stage_trainer.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("harness.training.run_context.RunContext.tell", _tell_and_let_it_raise)
    with pytest.raises(MemoryError):
        run(observers=[Killer()])
    monkeypatch.undo()
    diary = Diary()
    run(observers=[diary])
    assert diary.lines[0] == "start Toy (after Source)"
    assert diary.lines[1].startswith("epoch 3 of")
    run(tmp_path / "undisturbed")
    assert table_of(toy) == table_of(tmp_path / "undisturbed")


def _tell_and_let_it_raise(context: Any, hook: str, event: object) -> None:
    getattr(context.registry.manager.hook, hook)(event=event)


# --- other processes ----------------------------------------------------------------------------


def _run_in_child(folder: Path, tiny: Path, out: Path) -> None:
    api.run(folder, out=out, plugins=[tiny])


@pytest.fixture(scope="module")
def forkserver() -> Any:
    """A context whose children have torch and the harness loaded already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["harness.api", "harness.training.plan_executor", "pandas", "scipy.stats"]
    )
    return context


def _start(context: Any, *arguments: Any) -> BaseProcess:
    process = context.Process(target=_run_in_child, args=arguments)
    process.start()
    return process


@pytest.mark.slow
def test_kill_9_at_random_points_changes_nothing(
    run, toy: Path, tiny: Path, tmp_path: Path, forkserver: Any
) -> None:
    run(tmp_path / "undisturbed")
    disturbed = tmp_path / "disturbed"
    moments = random.Random(20)
    for _ in range(12):
        process = _start(forkserver, toy, tiny, disturbed)
        timer = threading.Timer(moments.uniform(0.1, 1.5), os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        process.join()
        timer.cancel()
        if process.exitcode == 0:
            break
    run(disturbed)
    assert table_of(disturbed) == table_of(tmp_path / "undisturbed")


class Mortal:
    """An observer that kills its own process, as kill -9 does, at the n-th thing it hears of."""

    def __init__(self, n: int) -> None:
        self.left = n

    def _hear(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    @hookimpl
    def stage_started(self, event: Any) -> None:
        self._hear()

    @hookimpl
    def epoch_finished(self, event: Any) -> None:
        self._hear()

    @hookimpl
    def stage_finished(self, event: Any) -> None:
        self._hear()

    @hookimpl
    def cell_finished(self, event: Any) -> None:
        self._hear()


def _run_quickstart(out: Path, dies_at: int | None) -> None:
    observers = [Mortal(dies_at)] if dies_at else []
    api.run("quickstart", out=out, overrides=["training.epochs=5"], observers=observers)


@pytest.mark.slow
def test_kill_9_changes_nothing_on_the_quickstart(tmp_path: Path, forkserver: Any) -> None:
    """MEGNet on the embedded data, three runs: killed at random events, then at random moments."""
    _run_quickstart(tmp_path / "undisturbed", None)
    disturbed = tmp_path / "disturbed"
    chance = random.Random(3)

    def attempt(dies_at: int | None, seconds: float | None) -> int:
        process = forkserver.Process(target=_run_quickstart, args=(disturbed, dies_at))
        process.start()
        if seconds is not None:
            process.join(seconds)
            process.kill()
        process.join()
        return int(process.exitcode)

    for _ in range(6):
        assert attempt(chance.randint(1, 12), None) == -signal.SIGKILL
    for _ in range(4):
        attempt(None, chance.uniform(0.5, 6.0))
    _run_quickstart(disturbed, None)
    assert table_of(disturbed) == table_of(tmp_path / "undisturbed")


def test_two_processes_share_one_benchmark(
    run, toy: Path, tiny: Path, tmp_path: Path, forkserver: Any
) -> None:
    run(tmp_path / "alone")
    shared_out = tmp_path / "shared"
    processes = [_start(forkserver, toy, tiny, shared_out) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert table_of(shared_out) == table_of(tmp_path / "alone")
    assert len(Store(shared_out).read_results()) == 16


def test_jobs_share_the_work_and_change_nothing(run, toy: Path, tmp_path: Path) -> None:
    alone, shared = Diary(), Diary()
    run(tmp_path / "alone", observers=[alone])
    run(tmp_path / "shared", observers=[shared], jobs=2)
    assert table_of(tmp_path / "shared") == table_of(tmp_path / "alone")
    for kind in ("start", "end", "cell"):
        heard = [
            sorted(line for line in diary.lines if line.startswith(kind))
            for diary in (alone, shared)
        ]
        assert heard[0] == heard[1], "observers hear of the work of both processes"


def test_jobs_stop_when_the_first_process_is_interrupted(run, toy: Path) -> None:
    class Hasty:
        @hookimpl
        def epoch_finished(self, event: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(observers=[Hasty()], jobs=2, overrides=["training.epochs=100000"])
    assert not multiprocessing.active_children()


# --- errors that a user will meet ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ('train_on=["Toyy"]', PluginError, r"Unknown dataset 'Toyy'. Did you mean 'Toy'"),
        ('backbones=["tinny"]', PluginError, r"Unknown backbone 'tinny'. Did you mean 'tiny'"),
        ('heads=["mpl"]', PluginError, r"Unknown head 'mpl'. Did you mean 'mlp'"),
        ('transfers=["scrath"]', PluginError, r"Unknown transfer 'scrath'. Did you mean 'scratch'"),
        ('protocols=["strickt"]', PluginError, r"Unknown protocol.*Did you mean 'strict'"),
        ('metrics=["mapp"]', PluginError, r"Unknown metric 'mapp'. Did you mean 'mape'"),
        ('heads=[{name="mlp", hiden=[3]}]', BenchmarkError, r"head 'mlp'.*'hiden'.*mean 'hidden'"),
        ('transfers=["two-stage"]', BenchmarkError, r"transfer 'two-stage'.*'source' is missing"),
        ('transfers=["pretrained"]', WeightsError, r"no pretrained weights.*random"),
        ('train_on=["WrongUnit"]', HarnessError, r"'eV/atom' is not a unit of lattice thermal"),
        ('train_on=["Nothing"]', HarnessError, r"'Nothing' has no usable row"),
        ('train_on=["Two"]', HarnessError, r"'Two' cannot be split"),
        ('device="cuda"', HarnessError, r"cuda"),
    ],
)
def test_errors_name_the_thing_and_the_remedy(
    run, change: str, kind: type[Exception], message: str
) -> None:
    import torch

    if "cuda" in change and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(kind, match=message):
        run(overrides=[change])


def test_unusable_rows_are_fatal_on_request(run) -> None:
    with pytest.raises(HarnessError, match=r"12 unusable rows in Nothing:\n  row 1 \(LiF\)"):
        run(overrides=['train_on=["Nothing"]'], strict_data=True)
