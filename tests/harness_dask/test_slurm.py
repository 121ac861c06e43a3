"""A run on a batch system: a Slurm of one node, which lives as long as the test."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.harness_dask.test_dask_executor import CALL, outcome, prepared

if importlib.util.find_spec("dask_jobqueue") is None:  # looked for only: its import changes Ctrl-C
    pytest.skip("dask-jobqueue, of the extra `dask`, is not installed", allow_module_level=True)

DAEMONS = ("munged", "slurmctld", "slurmd")
MUNGE_FILES = ("key-file", "pid-file", "log-file", "seed-file")
PATIENCE_SECONDS = 30
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
CLUSTER = """
[executor]
name = "dask"
cluster = "SLURMCluster"
workers = 2

[executor.options]
cores = 1
processes = 1
memory = "1GB"
walltime = "00:10:00"
interface = "lo"
log_directory = "{folder}"
"""


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Slurm that the commands of this process find."""
    missing = [name for name in DAEMONS if shutil.which(name, path=_path()) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed (on Debian: apt install slurm-wlm munge)")
    folder = tmp_path_factory.mktemp("slurm")
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    return folder


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Starts the daemons, and ends them; what they say goes to files of the folder."""
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "key-file"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    user, ports = pwd.getpwuid(os.getuid()).pw_name, free_ports(2)
    facts = {"user": user, "host": host, "cores": os.cpu_count(), "ports": ports}
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(folder=folder, **facts))
    places = {"socket": "munge"} | {name: name for name in MUNGE_FILES}
    munge = [f"--{option}={folder / name}" for option, name in places.items()]
    with ExitStack() as ends:
        for line in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D", "-c", "-f", str(file)],
            ["slurmd", "-D", "-N", host, "-f", str(file)],
        ):
            ends.enter_context(daemon(folder, line))
        _wait_for_the_node(folder)
        yield


@contextmanager
def daemon(folder: Path, line: list[str]) -> Iterator[None]:
    program = shutil.which(line[0], path=_path())
    assert program is not None
    with (folder / f"{line[0]}.out").open("wb") as said:
        process = subprocess.Popen([program, *line[1:]], stdout=said, stderr=said)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for_the_node(folder: Path) -> None:
    if says(["sinfo", "-h", "-o", "%T"], "idle"):
        return
    said = "; ".join(
        text.splitlines()[-1]
        for name in DAEMONS
        if (text := (folder / f"{name}.out").read_text().strip())
    )
    pytest.skip(f"Slurm does not start here: {said}")


def says(command: list[str], wanted: str) -> bool:
    """Whether a command comes to say something in time."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        asked = subprocess.run(command, check=False, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip() == wanted:
            return True
        time.sleep(0.5)
    return False


def free_ports(count: int) -> list[int]:
    with ExitStack() as ends:
        sockets = [ends.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.mark.slow
def test_a_run_on_slurm_leaves_the_table_of_a_local_one_and_no_job(slurm, tmp_path):
    here, there = prepared(tmp_path / "here"), prepared(tmp_path / "there")
    subprocess.run(CALL, cwd=here, check=True)
    (there / "cluster.toml").write_text(CLUSTER.format(folder=slurm))
    with running(slurm):
        subprocess.run([*CALL, "--executor-file", "cluster.toml"], cwd=there, check=True)
        assert says(["squeue", "-h"], ""), "jobs are left"
    assert outcome(there) == outcome(here)
    assert any(slurm.glob("dask-worker-*.out")), "workers were jobs"
