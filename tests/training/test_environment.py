"""What a record says of software and machine is true of the harness, and nothing stops it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from harness.training.environment import THREADS, environment, git_commit, threads_wanted


@pytest.mark.parametrize(
    ("value", "threads"), [("3", 3), ("4,2", 4), ("", THREADS), ("0", THREADS), ("many", THREADS)]
)
def test_threads_follow_the_first_number(
    value: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads_wanted() == threads


def test_what_numpy_and_scipy_compute_with_is_held_to_the_same_number_of_threads() -> None:
    code = (
        "from harness.training.environment import use_threads; use_threads(1);"
        "from threadpoolctl import threadpool_info;"
        "print([own['num_threads'] for own in threadpool_info() if own['user_api'] == 'blas'])"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=free, capture_output=True, text=True, check=True
    )
    threads = json.loads(done.stdout)
    assert len(threads) >= 2, "of numpy and of scipy"
    assert set(threads) == {1}


def test_versions_name_what_computes_and_what_brings_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "theirs-7.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 7.0\n")
    (info / "entry_points.txt").write_text("[harness]\ntheirs = their_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    facts = environment(torch.device("cpu"))
    assert facts["versions"]["theirs"] == "7.0"
    for package in ("torch", "safetensors", "pydantic"):
        assert facts["versions"][package] == version(package)
    assert "gpu" not in facts


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_is_named() -> None:
    assert environment(torch.device("cuda"))["gpu"] == torch.cuda.get_device_name()


def test_a_repository_that_does_not_track_the_harness_is_not_its_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    for name in ("tracked.py", "installed.py"):
        (tmp_path / name).write_text("")
    git("add", "tracked.py")
    git("commit", "--no-gpg-sign", "-m", "first")
    assert git_commit(tmp_path / "tracked.py") == git("rev-parse", "--short=12", "HEAD")
    assert git_commit(tmp_path / "installed.py") is None
