"""The sdist and the wheel, and environments with nothing in them to try the wheel in."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
TESTED = ("--constraint", ROOT / "constraints.txt")


def call(*command: str | Path, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output, or fails with all that it said."""
    done = subprocess.run(
        command, cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Environment:
    """A Python environment of its own.

    Attributes:
        prefix: where it is installed.
        work: an empty folder to work in.
        variables: of the processes that run in it.
    """

    prefix: Path
    work: Path
    variables: Mapping[str, str]

    def run(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Runs a program of the environment, in `work` unless told otherwise."""
        command = (self.prefix / "bin" / program, *arguments)
        return call(*command, cwd=cwd or self.work, variables=self.variables)

    def pip(self, *arguments: str | Path) -> None:
        """Runs our pip on the environment, which has none."""
        python = self.prefix / "bin" / "python"
        call(*PIP, "--python", python, *arguments, cwd=self.work, variables=self.variables)

    def install(self, *what: str | Path) -> None:
        """Installs, in the versions that the project is tested with."""
        self.pip("install", *TESTED, *what)


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, built from the tree; the wheel lies beside it."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=ROOT)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def wheel(sdist: Path) -> Path:
    """The wheel, built from the sdist."""
    (built,) = sdist.parent.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def needed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel says it needs: big, so that it is filled once."""
    folder = tmp_path_factory.mktemp("needed")
    call(*PIP, "install", *TESTED, "--target", folder, *requirements(wheel), cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def environment(needed: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that sees what the wheel needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    ours |= {"HARNESS_CACHE": str(folder / "cache"), "HARNESS_OFFLINE": "1"}
    made = Environment(folder / "prefix", folder / "work", ours)
    made.work.mkdir()
    venv.create(made.prefix)
    (packages,) = made.prefix.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(f"{needed}\n")
    return made


def requirements(wheel: Path) -> list[str]:
    """What the wheel needs, without its extras."""
    with ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(archive.read(name))
    return [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
