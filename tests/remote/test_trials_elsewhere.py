"""Trials that an executor carries out leave the studies of a search by this process alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.errors import HarnessError
from harness.plugin import ExecutorRequest, hookimpl
from harness.training.stop_signal import StopSignal
from tests.tuning.test_killed_searches import outcome, trials, write

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
FILES = [PLUGINS / "tiny.py", PLUGINS / "pool.py"]
ONE, TWO = ExecutorRequest("pool", workers=1), ExecutorRequest("pool", workers=2)
WAYS = [("tpe", "median"), pytest.param("qmc", "hyperband", marks=pytest.mark.slow)]
FINISHED = {"COMPLETE", "PRUNED"}
CHAIN = [
    'transfers=[{name="two-stage",source="Source",source_start="random"}]',
    "tuning.batch=2",
    "tuning.trials=4",
]


def tune(path: Path, **options: Any) -> Any:
    return api.tune(path, plugins=FILES, **options)


@pytest.mark.parametrize(("sampler", "pruner"), WAYS)
def test_one_worker_leaves_what_one_process_leaves(sampler, pruner, tmp_path):
    here, there = write(tmp_path / "a", sampler, pruner), write(tmp_path / "b", sampler, pruner)
    tune(here)
    tune(there, executor=ONE)
    assert outcome(there) == outcome(here)


def test_several_workers_share_the_trials_and_none_is_lost(tmp_path):
    heard: list[tuple[str, bool]] = []

    class Observer:
        @hookimpl
        def executor_started(self, event):
            heard.append(("started", True))

        @hookimpl
        def epoch_finished(self, event):
            heard.append((event.worker, 0 <= event.fraction <= 1))

        @hookimpl
        def search_progressed(self, event):
            heard.append(("progress", event.fraction <= 1))

    path = write(tmp_path / "a", "tpe", "median")
    tune(path, executor=TWO, observers=[Observer()])
    for study in trials(path).values():
        assert len(study) == 8
        assert {state for _, state, *_ in study} <= FINISHED
    assert all(sensible for _, sensible in heard)
    assert {who for who, _ in heard} == {"started", "a process", "progress"}


def test_what_a_worker_told_is_heard_though_it_arrives_after_the_outcome(tmp_path):
    text = (
        (PLUGINS / "pool.py").read_text().replace("import tempfile", "import tempfile\nimport time")
    )
    late = tmp_path / "late.py"
    late.write_text(text.replace("    while (told", "    time.sleep(1)\n        while (told"))
    heard = []

    class Observer:
        @hookimpl
        def epoch_finished(self, event):
            heard.append(event)

    path = write(tmp_path / "a", "random", "none")
    few = ["tuning.trials=2", "tuning.batch=2", "training.epochs=2"]
    api.tune(
        path,
        plugins=[PLUGINS / "tiny.py", late],
        overrides=few,
        executor=ONE,
        observers=[Observer()],
    )
    here = write(tmp_path / "b", "random", "none")
    there, heard[:] = list(heard), []
    tune(here, overrides=few, observers=[Observer()])
    assert len(there) == len(heard) > 0


@pytest.mark.slow
def test_what_trials_go_on_from_is_trained_there_too(tmp_path):
    here, there = write(tmp_path / "a", "random", "none"), write(tmp_path / "b", "random", "none")
    tune(here, overrides=CHAIN)
    tune(there, overrides=CHAIN, executor=ONE)
    assert outcome(there) == outcome(here)
    stages = [sorted(p.name for p in (f.parent / "stages").iterdir()) for f in (here, there)]
    assert stages[0]
    assert stages[0] == stages[1]


@pytest.mark.slow
def test_a_stop_ends_a_search_and_the_next_one_goes_on(tmp_path):
    here, there = write(tmp_path / "a", "random", "none"), write(tmp_path / "b", "random", "none")
    stop = StopSignal()

    class Observer:
        @hookimpl
        def epoch_finished(self, event):
            stop.set()

    with pytest.raises(KeyboardInterrupt):
        tune(there, executor=TWO, observers=[Observer()], stop=stop)
    tune(there, executor=TWO)
    tune(here)
    assert outcome(there) == outcome(here)


@pytest.mark.slow
def test_a_run_searches_on_its_executor_first(tmp_path):
    path = write(tmp_path / "a", "random", "none")
    few = ["tuning.trials=2", "tuning.batch=2"]
    api.run(path, plugins=FILES, overrides=few, executor=TWO)
    other = write(tmp_path / "b", "random", "none")
    api.run(other, plugins=FILES, overrides=few)
    tables = [(one.parent / "table.csv").read_text() for one in (path, other)]
    assert tables[0] == tables[1]


def test_a_trial_that_fails_there_ends_the_search_with_its_reason(tmp_path):
    sick = Path(shutil.copytree(PLUGINS / "cards", tmp_path / "cards")).with_name("sick.py")
    text = (PLUGINS / "tiny.py").read_text()
    raising = "raise ZeroDivisionError('no pool')\n        return TinyPool("
    sick.write_text(text.replace("return TinyPool(", raising))
    path = write(tmp_path / "a", "random", "none")
    with pytest.raises(HarnessError, match=r"no pool.*a process"):
        api.tune(path, plugins=[sick, PLUGINS / "pool.py"], executor=ONE)
