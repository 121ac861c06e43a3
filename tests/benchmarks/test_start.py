"""How long the command takes to start: `harness --help` is meant to take half a second at most."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

HELP = "import sys; sys.argv = ['harness', '--help']; from harness.cli import main; main()"
BARE = "import typer, rich"


def test_help(benchmark: BenchmarkFixture) -> None:
    benchmark(subprocess.run, [sys.executable, "-c", HELP], check=True, capture_output=True)


def test_its_libraries_alone(benchmark: BenchmarkFixture) -> None:
    """For comparison: what importing typer and rich costs anybody."""
    benchmark(subprocess.run, [sys.executable, "-c", BARE], check=True, capture_output=True)
