"""A wheel built from the tree works alone in an empty environment, and leaves it as it was.

Needs a package index, and some minutes: the environment is made and filled from nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "paraisite-harness"


def call(
    *command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> str:
    """Runs a command and returns its output, or fails with all that it said."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def read_metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def list_folder(folder: Path) -> set[Path]:
    """Everything below a folder but the bytecode that any run leaves."""
    return {
        path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts
    }


def tracked(*folders: str) -> list[str]:
    return call("git", "ls-files", *folders).split()


def test_the_wheel_holds_every_file_of_the_packages_and_the_shipped_data(wheel: Path) -> None:
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
    assert expected <= held
    plugins = {path.name for path in (ROOT / "plugins").iterdir()}
    assert {name.split("/")[0] for name in held} <= {"harness", *plugins}


def test_the_wheel_runs_the_quickstart_alone_and_uninstalls_without_a_trace(
    wheel: Path, tmp_path: Path
) -> None:
    prefix, work = tmp_path / "environment", tmp_path / "work"
    work.mkdir()
    venv.create(prefix, with_pip=True)
    python, harness = prefix / "bin" / "python", prefix / "bin" / "harness"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
        "HARNESS_CACHE": str(tmp_path / "cache"),
        "HARNESS_OFFLINE": "1",
    }

    requirements = read_metadata(wheel).get_all("Requires-Dist", [])
    needs = [need for need in requirements if "extra ==" not in need]
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    call(*pip, "install", "--constraint", ROOT / "constraints.txt", *needs)
    before = list_folder(prefix)

    # without an index: what the wheel says it needs must be enough
    call(*pip, "install", "--no-index", wheel)
    show_home = "import harness; print(harness.__file__)"
    home = call(python, "-c", show_home, cwd=work, environment=environment)
    assert Path(home.strip()).is_relative_to(prefix)

    quickstart = (harness, "run", "quickstart", "--set", "training.epochs=1")
    call(*quickstart, cwd=work, environment=environment)
    (table,) = work.rglob("table.md")
    assert table.read_text().strip()
    assert table.with_suffix(".csv").read_text().strip()

    call(*pip, "uninstall", "--yes", DISTRIBUTION)
    assert list_folder(prefix) == before
