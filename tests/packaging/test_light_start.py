"""`import harness`, `harness --help` and finding the plugins load nothing heavy."""

from __future__ import annotations

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
