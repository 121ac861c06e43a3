"""Stages that an executor trains leave what local ones leave; what fails there is told here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.errors import ExecutorError, FailedCellsWarning
from harness.plugin import ExecutorRequest, hookimpl
from harness.registry.registry import Registry
from harness.remote import code_digests, dispatcher, executor_session
from harness.remote.code_digests import check_code
from harness.results.store import Store
from harness.testing import ExecutorCases
from harness.training.stop_signal import StopSignal
from tests.conftest import TOY

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
TWO_STAGES = """transfers = [
    "scratch", { name = "two-stage", source = "Source", source_start = "random" }
]"""
POOL = ExecutorRequest("pool", workers=2)


class TestPool(ExecutorCases):
    @pytest.fixture
    def executor(self):
        registry = Registry([PLUGINS / "pool.py"])
        with executor_session.executor_of(POOL, registry) as executor:
            yield executor


def run(folder: Path, text: str = TOY, plugins: tuple[str, ...] = (), **options: Any) -> Any:
    folder.mkdir(exist_ok=True)
    source = folder / "toy.toml"
    source.write_text(text)
    files = [PLUGINS / name for name in ("tiny.py", "pool.py", *plugins)]
    return api.run(source, out=folder / "results", plugins=files, **options)


def results(folder: Path) -> dict[str, Any]:
    store = Store(folder / "results")
    return {
        f"{line.key} {line.run}": (line.scores, store.read_predictions(line.key).to_csv())
        for line in store.read_results()
    }


@pytest.mark.parametrize(
    "stages", ["", pytest.param(TWO_STAGES, marks=pytest.mark.slow)], ids=["one", "two"]
)
def test_an_executor_leaves_the_results_of_local_processes(tmp_path, stages):
    text = TOY.replace("runs = 3", f"{stages}\nruns = 3")
    run(tmp_path / "local", text)
    run(tmp_path / "there", text, executor=POOL)
    assert results(tmp_path / "there") == results(tmp_path / "local")
    weights = [
        sorted(
            (path.parent.name, path.read_bytes())
            for path in (tmp_path / name / "results" / "stages").glob("*/weights.safetensors")
        )
        for name in ("local", "there")
    ]
    assert weights[0] == weights[1]
    for name in ("table.csv", "table.md"):
        tables = [(tmp_path / one / "results" / name).read_text() for one in ("local", "there")]
        assert tables[0] == tables[1]


def test_a_second_run_has_nothing_to_do_there(tmp_path, monkeypatch):
    run(tmp_path, executor=POOL)

    def refuse(*arguments: Any) -> None:
        raise AssertionError("a task was given out")

    monkeypatch.setattr(dispatcher.Dispatcher, "start", refuse)
    run(tmp_path, executor=POOL)


def test_observers_hear_which_worker_is_how_far(tmp_path):
    heard = []

    class Observer:
        @hookimpl
        def executor_started(self, event):
            heard.append(event.title)

        @hookimpl
        def epoch_finished(self, event):
            heard.append((event.worker, event.fraction <= 1))

        @hookimpl
        def cell_finished(self, event):
            heard.append((event.train_on, event.test_on))

    run(tmp_path, observers=[Observer()], executor=POOL)
    assert heard[0] == "a pool of processes"
    assert heard.count(("a process", True)) == 2
    assert {("Toy", "Toy"), ("Toy", "Twins")} <= set(heard)


def test_a_stage_that_fails_there_is_a_failed_cell_with_its_reason(tmp_path):
    text = TOY.replace('backbones = ["tiny"]', 'backbones = ["tiny", "sick"]')
    sick = tmp_path / "sick_backbone.py"
    sick.write_text(
        (PLUGINS / "tiny.py")
        .read_text()
        .replace('BackboneSpec("tiny"', 'BackboneSpec("sick"')
        .replace("def register_datasets()", "def unused_datasets()")
        .replace("@hookimpl\ndef unused", "def unused")
        .replace("return TinyPool(", "raise ZeroDivisionError('no pool')\n        return TinyPool(")
    )
    with pytest.warns(FailedCellsWarning, match="no pool"):
        board = run(tmp_path, text, (str(sick),), executor=POOL)
    assert board.failed and all("sick" in cell for cell in board.failed)


def test_a_task_that_is_lost_twice_is_a_failed_cell(tmp_path):
    lossy = tmp_path / "lossy.py"
    lossy.write_text(
        "from concurrent.futures import Future\n"
        "from harness.plugin import Executor, hookimpl\n"
        "class Lossy(Executor):\n"
        "    title = 'lossy'\n"
        "    def submit(self, task, payload, shared, hear):\n"
        "        future = Future()\n"
        "        future.set_exception(RuntimeError('the machine is gone'))\n"
        "        return future\n"
        "    def slots(self): return 2\n"
        "    def shutdown(self): pass\n"
        "@hookimpl\n"
        "def make_executor(request):\n"
        "    return Lossy() if request.name == 'lossy' else None\n"
    )
    with pytest.warns(FailedCellsWarning, match="2 times: the machine is gone"):
        board = run(tmp_path, plugins=(str(lossy),), executor=ExecutorRequest("lossy"))
    assert board.failed
    run(tmp_path, plugins=(str(lossy),), executor=POOL)  # the same command goes on


def test_a_stop_ends_the_run_and_the_next_one_goes_on(tmp_path):
    stop = StopSignal()

    class Observer:
        @hookimpl
        def epoch_finished(self, event):
            stop.set()

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "there", observers=[Observer()], stop=stop, executor=POOL)
    run(tmp_path / "there", executor=POOL)
    run(tmp_path / "local")
    assert results(tmp_path / "there") == results(tmp_path / "local")


def test_other_code_on_a_worker_is_refused_by_name(tmp_path, monkeypatch):
    real = code_digests.code_digests
    monkeypatch.setattr(
        executor_session, "code_digests", lambda r: real(r) | {"the plugin 'megnet'": "0" * 16}
    )
    with pytest.raises(ExecutorError, match=r"a process runs other code .*the plugin 'megnet'"):
        run(tmp_path, executor=POOL)
    assert not (tmp_path / "results" / "results.jsonl").exists()


def test_what_a_worker_has_besides_does_no_harm():
    check_code({"a": "1"}, {"a": "1", "b": "2"}, "w")


def test_an_unknown_executor_is_an_error(tmp_path):
    with pytest.raises(ExecutorError, match=r"No plugin brings an executor 'dusk'.*'dask'"):
        run(tmp_path, executor=ExecutorRequest("dusk"))


def test_an_executor_file_is_read(tmp_path):
    file = tmp_path / "cluster.toml"
    file.write_text(
        '[executor]\nname = "dask"\ncluster = "SLURMCluster"\nworkers = 8\n'
        "[executor.options]\ncores = 1\n"
    )
    request = executor_session.read_request(file)
    assert (request.cluster, request.workers, request.options) == ("SLURMCluster", 8, {"cores": 1})
    file.write_text('[executor]\nname = "dask"\nworker = 8\n')
    with pytest.raises(ExecutorError, match="worker"):
        executor_session.read_request(file)
    file.write_text("")
    with pytest.raises(ExecutorError, match="no table"):
        executor_session.read_request(file)
