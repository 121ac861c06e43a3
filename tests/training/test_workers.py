"""Further processes are not started by a script that would do its work in each of them again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = """
from harness.training.workers import refuse_unguarded_script
refuse_unguarded_script()
print("started")
"""
GUARDED = """
def work():
    from harness.training.workers import refuse_unguarded_script
    refuse_unguarded_script()
    print("started")

if __name__ == "__main__":
    work()
"""
RERUN = """
import multiprocessing
from harness.training.workers import refuse_unguarded_script
refuse_unguarded_script()

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    process.join()
"""
"""It looks guarded; only the process that it starts can tell."""


def run(script: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("text", [PLAIN, RERUN])
def test_a_script_without_a_guard_is_told_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    said = run(tmp_path / "mine.py")
    assert "started" not in said.stdout
    assert 'below `if __name__ == "__main__":`, or ask for one process (jobs=1)' in said.stderr
    assert "does its work when it is imported" in said.stderr


def test_a_script_with_a_guard_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GUARDED)
    assert run(tmp_path / "mine.py").stdout == "started\n"
