"""What an outcome may depend on besides its settings: versions, device, threads, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.registry.entry_points import plugin_entries

if TYPE_CHECKING:
    import torch

THREADS = 1
"""Threads of one process, unless $OMP_NUM_THREADS says otherwise. The matrices of a step are small:
on two cores nine members on AFLOW made 3.6 member-epochs/s with one thread, 1.9 with two. Further
cores are better used by further processes, which share a benchmark stage by stage."""

PACKAGES = (
    "paraisite-harness torch numpy scipy pandas pymatgen scikit-learn safetensors pydantic"
).split()


def threads_wanted() -> int:
    """Threads of this process: the first number of $OMP_NUM_THREADS (`4,2` is 4), else `THREADS`.

    The further numbers are those of nested regions, which torch does not have.
    """
    first = re.match(r"\s*([1-9]\d*)", os.environ.get("OMP_NUM_THREADS", ""))
    return int(first[1]) if first else THREADS


def use_threads(threads: int) -> None:
    """Sets the number of threads that this process computes with: by torch, numpy and scipy.

    The libraries behind numpy and scipy would else take all cores in each of several processes.
    """
    import scipy.linalg  # noqa: F401  # brings a library of its own, which is limited once it is there
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")


def environment(device: torch.device) -> dict[str, Any]:
    """Returns JSON-like facts on the software and the machine that an outcome may depend on."""
    import torch

    facts = {
        "python": platform.python_version(),
        "versions": dict(_versions()),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "commit": git_commit(),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _versions() -> Iterator[tuple[str, str]]:
    """Versions of the packages that compute, and of every distribution that brings plugins."""
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"
    for entry in sorted(plugin_entries(), key=lambda found: found.name):
        if entry.dist is not None and entry.dist.name not in PACKAGES:
            yield entry.dist.name, entry.dist.version


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MB; None where the system does not tell.

    Read from /proc: what `getrusage` gives on Linux begins with the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return round(int(fields["VmHWM"].split()[0]) / 1024, 1)


def git_commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the checkout the harness runs from, `-dirty` if changed; None elsewhere.

    Args:
        file: must be tracked there: an installation inside a repository of the user's (in its
            virtual environment, say) has nothing to do with that repository's commits.
    """
    path = file.resolve()
    tracked = ["git", "ls-files", "--error-unmatch", path.name]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        for command in (tracked, describe):
            done = subprocess.run(
                command, cwd=path.parent, capture_output=True, text=True, check=True
            )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
