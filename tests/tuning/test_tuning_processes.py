"""Searches by several processes, in a file and in databases: no trial is lost or done twice."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from harness import api
from harness.plugin.events import SearchProgressed
from harness.plugin.hookspecs import hookimpl

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = [{{ name = "mlp", hidden = [8] }}]
baselines = []
metrics = ["mae-log"]
runs = 2

[training]
epochs = 4
loss = "mae-log"

[tuning]
trials = 6
batch = 2
ensemble = 0
report_every = 2
heartbeat_seconds = 3
{storage}

[tuning.space.training]
batch_size = 16
loss = "mae-log"

[tuning.space.heads]
mlp = false
"""
TRIALS = 6
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that lives in a folder, without the name of a database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (on Debian: apt install postgresql)")
    programs, folder = found[-1].parent, Path(tempfile.mkdtemp(prefix="pg-"))
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")

    def call(program: str, *arguments: str) -> None:
        command = [*as_user, str(programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    data = str(folder / "data")
    call("initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://tester@/{{}}?host={folder}"
    finally:
        call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def new_database(server: str) -> str:
    import psycopg

    name = f"d{uuid.uuid4().hex}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.format(name)


@dataclass
class Search:
    """A benchmark whose studies lie in a journal file, in SQLite or in PostgreSQL."""

    path: Path
    url: str | None

    def trials(self) -> list[list[optuna.trial.FrozenTrial]]:
        """The trials of every study."""
        storage: optuna.storages.BaseStorage
        if self.url is None:
            file = str(self.path.parent / "tuning" / "journal.log")
            backend = JournalFileBackend(file)
            storage = optuna.storages.JournalStorage(backend)
        else:
            storage = optuna.storages.RDBStorage(self.url)
        names = optuna.get_all_study_names(storage)
        return [optuna.load_study(study_name=name, storage=storage).trials for name in names]


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def search(request: pytest.FixtureRequest, tmp_path: Path) -> Search:
    url = None
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'trials.db'}"
    if request.param == "postgresql":
        url = new_database(request.getfixturevalue("server"))
    path = tmp_path / "benchmark.toml"
    path.write_text(BENCHMARK.format(storage=f'storage = "{url}"' if url else ""))
    return Search(path, url)


class Mortal:
    """An observer that kills its own process, as kill -9 does, in the n-th batch of trials."""

    def __init__(self, batch: int | None) -> None:
        self.batch, self.batches = batch, 0

    @hookimpl
    def search_progressed(self, event: SearchProgressed) -> None:
        training = event.fraction > event.done / event.total
        self.batches += not training
        if training and self.batches == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def tune(path: Path, tiny: Path, kill_in_batch: int | None = None, join: bool = False) -> None:
    api.tune(path, plugins=[tiny], observers=[Mortal(kill_in_batch)], join=join)


def process(*arguments: object) -> multiprocessing.process.BaseProcess:
    started = SPAWN.Process(target=tune, args=arguments)
    started.start()
    return started


def test_a_search_holds_few_connections_however_many_studies_it_has(
    server: str, tmp_path: Path, tiny: Path
) -> None:
    import psycopg

    url = new_database(server)
    path = tmp_path / "benchmark.toml"
    path.write_text(BENCHMARK.format(storage=f'storage = "{url}"'))
    connections = []

    class Listener:
        @hookimpl
        def search_progressed(self, event: SearchProgressed) -> None:
            with psycopg.connect(url) as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                connections.append(connection.execute(query).fetchone()[0])

    api.tune(path, plugins=[tiny], observers=[Listener()], overrides=["runs=9", "tuning.trials=2"])
    assert max(connections) <= 4  # for trials, heartbeats, and this one


@pytest.mark.slow
def test_a_killed_process_loses_only_the_trials_it_was_at_and_they_are_tried_again(
    search: Search, tiny: Path
) -> None:
    killed = process(search.path, tiny, 1)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    before = search.trials()
    assert all(sum(t.state.is_finished() for t in study) == 2 for study in before)
    lost = [[t.params for t in study if t.state.name == "RUNNING"] for study in before]
    assert any(lost)
    tune(search.path, tiny)
    for study, own, earlier in zip(search.trials(), lost, before, strict=True):
        assert len(study) == TRIALS
        assert {trial.state.name for trial in study} <= {"COMPLETE", "PRUNED"}
        assert [t.params for t in study[2:4]] == own, "the same numbers, the same proposals"
        for old, new in zip(earlier[:2], study, strict=False):
            assert (old.value, old.params) == (new.value, new.params)


@pytest.mark.slow
def test_processes_that_begin_and_join_at_once_share_the_trials(search: Search, tiny: Path) -> None:
    first = [process(search.path, tiny), process(search.path, tiny)]
    for one in first:
        one.join()
    assert [one.exitcode for one in first] == [0, 0]
    for study in search.trials():
        assert len(study) == TRIALS
        assert len({trial.params["training.lr"] for trial in study}) == TRIALS
        assert {trial.state.name for trial in study} <= {"COMPLETE", "PRUNED"}
    assert len({t.user_attrs["worker"] for study in search.trials() for t in study}) == 2
    joined = process(search.path, tiny, None, True)
    joined.join()
    assert joined.exitcode == 0
    assert [len(study) for study in search.trials()] == [TRIALS, TRIALS]
