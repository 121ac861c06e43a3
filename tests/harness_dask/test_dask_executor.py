"""The executor `dask`, with a real scheduler and real workers on 127.0.0.1."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.plugin import ExecutorError, ExecutorRequest, TaskLink
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

TUNING = """
[tuning]
trials = 4
batch = 2
ensemble = 0
sampler = "random"
pruner = "none"

[tuning.space.training]
batch_size = [8, 16]
loss = "mae-log"

[tuning.space.heads]
mlp = false
"""
"""Trials that depend on nothing but their numbers, in whatever order they are carried out."""


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


def outcome(folder: Path) -> dict[str, str]:
    """What a run or a search is for; less what says when a trial was made, and by whom."""
    names = ("table.csv", "table.md", "best.toml", "trials.csv")
    paths = [folder / "toy" / name for name in names]
    return {path.name: path.read_text() for path in paths if path.exists()}


def is_gone(group: int) -> bool:
    """Whether all processes of a group come to their end."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False


def call_of(command: str) -> list[str]:
    """The call of a command that takes some seconds."""
    return [word if word != "run" else command for word in CALL]


def shake(call: list[str], folder: Path, address: str, chance: random.Random) -> None:
    """Carries out a command whose workers, and which itself, are killed now and then."""
    for _ in range(2):
        with worker_of(address) as first, worker_of(address):
            coordinator = subprocess.Popen(call, cwd=folder)
            time.sleep(chance.uniform(6, 12))
            first.kill()
            time.sleep(chance.uniform(0, 3))
            with suppress(ProcessLookupError):
                os.kill(coordinator.pid, signal.SIGKILL)
            coordinator.wait()
    with worker_of(address) as first, worker_of(address):
        coordinator = subprocess.Popen(call, cwd=folder)
        time.sleep(chance.uniform(6, 10))
        first.kill()
        assert coordinator.wait() == 0


def prepared(folder: Path, tuning: str = "") -> Path:
    folder.mkdir()
    text = TOY.replace("runs = 3", f"{STAGES}\nruns = 3") + tuning
    (folder / "toy.toml").write_text(text)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_what_tasks_were_sent_is_not_kept_when_they_are_done():
    with executor_of(ExecutorRequest("dask", workers=1), Registry()) as executor:
        before, sent = resident_mb(), 0.0
        while sent < 100:  # MB
            payload = random.randbytes(500_000)
            assert executor.submit(length, payload, [], lambda told: None).result() == b"500000"
            sent += 0.5
        assert resident_mb() - before < sent / 2


def length(payload: bytes, shared: Sequence[bytes], link: TaskLink) -> bytes:
    return str(len(payload)).encode()


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_a_scheduler_whose_client_has_gone_says_nothing(caplog):
    with executor_of(ExecutorRequest("dask", workers=1), Registry()):
        client = distributed.get_client()
        scheduler = client.cluster.scheduler
        scheduler.client_comms[client.id].abort()
        scheduler.client_send(client.id, {"op": "late"})
        scheduler.send_all({client.id: [{"op": "late"}]}, {})
    assert not [line for line in caplog.records if line.levelno >= logging.WARNING]


@pytest.mark.slow
def test_killed_workers_and_coordinators_leave_the_same_table(tmp_path):
    plain, shaken = prepared(tmp_path / "plain"), prepared(tmp_path / "shaken")
    subprocess.run(CALL, cwd=plain, check=True)
    chance = random.Random(16)
    with scheduler_of(tmp_path) as (address, _):
        shake([*CALL, "--executor", "dask", "--scheduler", address], shaken, address, chance)
    assert outcome(shaken) == outcome(plain)
    lines = [line.place for line in Store(shaken / "toy").read_results()]
    assert len(lines) == len(set(lines))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "tune"])
def test_ctrl_c_ends_workers_too_and_the_same_command_goes_on(tmp_path, command):
    tuning = TUNING if command == "tune" else ""
    folder, calm = prepared(tmp_path / "stopped", tuning), prepared(tmp_path / "calm", tuning)
    (folder / "cluster.toml").write_text(f'[executor]\nname = "dask"\nfolder = "{tmp_path}"\n')
    there = [*call_of(command), "--executor-file", "cluster.toml", "--workers", "2"]
    loud = [word for word in there if word != "-q"]
    process = subprocess.Popen(
        loud,
        cwd=folder,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "validation" not in said:  # a worker is at an epoch, or at a trial
        said = process.stderr.readline()
        assert said
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to everybody
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Stopped." in said
    assert "Traceback" not in said
    assert is_gone(process.pid)
    assert command == "tune" or any(tmp_path.rglob("*.checkpoint"))
    subprocess.run(there, cwd=folder, check=True)
    subprocess.run(call_of(command), cwd=calm, check=True)
    assert outcome(folder) == outcome(calm)


@pytest.mark.slow
def test_killed_workers_and_coordinators_leave_the_same_search(tmp_path):
    plain, shaken = prepared(tmp_path / "plain", TUNING), prepared(tmp_path / "shaken", TUNING)
    subprocess.run(call_of("tune"), cwd=plain, check=True)
    chance = random.Random(61)
    with scheduler_of(tmp_path) as (address, _):
        there = [*call_of("tune"), "--executor", "dask", "--scheduler", address]
        shake(there, shaken, address, chance)
    assert outcome(shaken) == outcome(plain)


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


def test_the_package_of_a_cluster_does_not_change_what_ctrl_c_does(tmp_path, monkeypatch):
    """As dask_jobqueue 0.9 does when it is imported: the epoch under way would be lost."""
    (tmp_path / "rude.py").write_text(
        "import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit())\n"
        "class Cluster:\n    def __init__(self):\n        raise ValueError('no nodes')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    request = ExecutorRequest("dask", cluster="rude.Cluster")
    with pytest.raises(ExecutorError, match="no nodes"), executor_of(request, Registry()):
        pass
    assert signal.getsignal(signal.SIGINT) is before
