"""The executor `dask`, with a real scheduler and real workers on 127.0.0.1."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.plugin import ExecutorError, ExecutorRequest
from harness.registry.registry import Registry
from harness.remote.executor_session import executor_of
from harness.results.store import Store
from harness.testing import ExecutorCases
from tests.conftest import TOY

distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")

TINY = Path(__file__).resolve().parents[1] / "plugins" / "tiny.py"
COMMAND = [sys.executable, "-c", "from harness.cli import main; main()"]
CALL = [*COMMAND, "run", "toy.toml", "--plugin", str(TINY), "-q", "--set", "training.epochs=200"]
STAGES = """transfers = [
    "scratch", { name = "two-stage", source = "Source", source_start = "random" }
]"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and a worker that live as long as these tests."""
    with scheduler_of(tmp_path_factory.mktemp("dask")) as (address, _), worker_of(address):
        yield address


class TestDask(ExecutorCases):
    @pytest.fixture
    def executor(self, cluster):
        with executor_of(ExecutorRequest("dask", scheduler=cluster), Registry()) as executor:
            yield executor


@contextmanager
def scheduler_of(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    file = folder / "scheduler.json"
    line = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    with process_of([*line, "--scheduler-file", str(file)]) as process:
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(0.2)
        yield json.loads(file.read_text())["address"], process


@contextmanager
def worker_of(address: str) -> Iterator[subprocess.Popen[bytes]]:
    line = ["worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny"]
    with process_of([*line, "--host", "127.0.0.1"]) as process:
        yield process


@contextmanager
def process_of(line: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    call = [sys.executable, "-m", "distributed.cli.dask_" + line[0], *line[1:]]
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def table(folder: Path) -> tuple[str, str]:
    results = folder / "toy"
    return (results / "table.csv").read_text(), (results / "table.md").read_text()


def prepared(folder: Path) -> Path:
    folder.mkdir()
    text = TOY.replace("runs = 3", f"{STAGES}\nruns = 3")
    (folder / "toy.toml").write_text(text)
    return folder


@pytest.mark.slow
def test_killed_workers_and_coordinators_leave_the_same_table(tmp_path):
    plain, shaken = prepared(tmp_path / "plain"), prepared(tmp_path / "shaken")
    subprocess.run(CALL, cwd=plain, check=True)
    chance = random.Random(16)
    with scheduler_of(tmp_path) as (address, _):
        there = [*CALL, "--executor", "dask", "--scheduler", address]
        for _ in range(2):  # the coordinator dies, and a worker in between
            with worker_of(address) as first, worker_of(address):
                coordinator = subprocess.Popen(there, cwd=shaken)
                time.sleep(chance.uniform(6, 12))
                first.kill()
                time.sleep(chance.uniform(0, 3))
                with suppress(ProcessLookupError):
                    os.kill(coordinator.pid, signal.SIGKILL)
                coordinator.wait()
        with worker_of(address) as first, worker_of(address):
            coordinator = subprocess.Popen(there, cwd=shaken)
            time.sleep(chance.uniform(6, 10))
            first.kill()
            assert coordinator.wait() == 0
    assert table(shaken) == table(plain)
    lines = [line.place for line in Store(shaken / "toy").read_results()]
    assert len(lines) == len(set(lines))


@pytest.mark.slow
def test_a_lost_scheduler_is_told_and_the_same_command_goes_on(tmp_path):
    folder = prepared(tmp_path / "work")
    with scheduler_of(tmp_path) as (address, scheduler), worker_of(address):
        there = [*CALL, "--executor", "dask", "--scheduler", address]
        coordinator = subprocess.Popen(there, cwd=folder, stderr=subprocess.PIPE, text=True)
        results = folder / "toy" / "results.jsonl"
        end = time.monotonic() + 60
        while not results.exists() and time.monotonic() < end:
            time.sleep(0.1)
        scheduler.kill()
        _, said = coordinator.communicate(timeout=120)
    assert coordinator.returncode == 2
    assert "The connection to the Dask scheduler is lost. What was finished is kept" in said
    assert results.read_text().count("\n") > 0
    subprocess.run(CALL, cwd=folder, check=True)


@pytest.mark.slow
def test_no_scheduler_at_an_address_is_told():
    request = ExecutorRequest("dask", scheduler="tcp://127.0.0.1:9")
    with (
        pytest.raises(ExecutorError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        executor_of(request, Registry()),
    ):
        pass


def test_an_unknown_kind_of_cluster_is_told():
    request = ExecutorRequest("dask", cluster="LurmCluster")
    with (
        pytest.raises(ExecutorError, match="'LurmCluster' cannot be started"),
        executor_of(request, Registry()),
    ):
        pass
