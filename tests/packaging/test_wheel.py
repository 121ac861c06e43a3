"""A wheel built from the tree works alone in an empty environment, and leaves it as it was.

Needs a package index, and some minutes: the environment is made and filled from nothing.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "paraisite-harness"


def list_folder(folder: Path) -> set[Path]:
    """Everything below a folder but the bytecode that any run leaves."""
    return {
        path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts
    }


def tracked(*folders: str) -> set[str]:
    listed = subprocess.check_output(["git", "ls-files", "-z", *folders], cwd=ROOT, text=True)
    return set(listed.split("\0")) - {""}


def test_the_sdist_holds_every_file_of_the_repository(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert held == tracked() | {"PKG-INFO"}


def test_the_wheel_holds_the_packages_with_the_shipped_data_and_nothing_else(wheel: Path) -> None:
    expected = {name.removeprefix("plugins/") for name in tracked("harness", "plugins")}
    expected |= {f"harness/_shipped/{name}" for name in tracked("datasets")}
    expected |= {
        f"harness/_shipped/leaderboards/{name}"
        for name in (
            "quickstart/benchmark.toml",
            "paraisite/benchmark.toml",
            "paraisite/published.csv",
        )
    }
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected


def test_the_wheel_runs_the_quickstart_alone_and_uninstalls_without_a_trace(
    wheel: Path, environment
) -> None:
    before = list_folder(environment.prefix)

    # without an index: what the wheel says it needs must be enough
    environment.install("--no-index", wheel)
    home = environment.run("python", "-c", "import harness; print(harness.__file__)")
    assert Path(home.strip()).is_relative_to(environment.prefix)

    environment.run("harness", "run", "quickstart", "--set", "training.epochs=1")
    (table,) = environment.work.rglob("table.md")
    assert table.read_text().strip()
    assert table.with_suffix(".csv").read_text().strip()
    environment.run("harness", "site")
    assert (environment.work / "site" / "quickstart" / "index.html").is_file()

    environment.pip("uninstall", "--yes", DISTRIBUTION)
    assert list_folder(environment.prefix) == before
