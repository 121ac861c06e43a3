"""`import harness`, `harness --help` and finding the plugins are light and quick."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = {"torch", "pymatgen", "optuna", "pandas", "lightning", "matgl", "mp_api", "dgl"}

IMPORT = "import harness"
HELP = """
import sys
from harness.cli import main
sys.argv = ["harness", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
PLUGINS = """
from importlib.metadata import entry_points
for entry in entry_points(group="harness"):
    entry.load()
"""
REPORT = "\nimport sys; print('LOADED', *sys.modules)"

HELP_SECONDS = 0.5


def run_python(code: str) -> str:
    """Runs code in a fresh interpreter and returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("code", [IMPORT, HELP, PLUGINS], ids=["import", "help", "plugins"])
def test_start_loads_nothing_heavy(code: str) -> None:
    loaded = run_python(code + REPORT).splitlines()[-1].split()
    assert loaded[0] == "LOADED"
    assert "harness" in loaded
    assert not HEAVY & set(loaded)


def test_help_takes_half_a_second_of_processor_time_at_most() -> None:
    """Processor time, not the clock: neighbours on the machine must not decide. Best of three."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def measure() -> float:
        before = spent()
        run_python(HELP)
        return spent() - before

    assert min(measure() for _ in range(3)) < HELP_SECONDS
