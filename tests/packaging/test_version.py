"""The version comes from tags; where there are none to see, it is what is worked towards."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import harness

pytest.importorskip("hatch_vcs", reason="hatch-vcs is absent: `make` installs it")

ROOT = Path(__file__).resolve().parents[2]
FALLBACK: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"][
    "fallback-version"
]
PATH = "/usr/bin:/bin"


def git(folder: Path, *arguments: str | Path) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)


def built_version(folder: Path, path: str = PATH) -> str:
    """What a build of that folder would be called; `path` is where programs are looked for."""
    command = [sys.executable, "-m", "hatchling", "version"]
    environment = {"PATH": path, "HOME": str(folder.parent)}
    return subprocess.check_output(command, cwd=folder, env=environment, text=True).strip()


def unpack_archive(repository: Path, folder: Path) -> Path:
    """What `git archive` makes of the newest commit, unpacked."""
    git(repository, "archive", "--output", folder.with_suffix(".tar"), "HEAD")
    with tarfile.open(folder.with_suffix(".tar")) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two commits, with all that the version depends on."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("pyproject.toml", ".git_archival.txt", ".gitattributes"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", ".")
    for message in ("one", "two"):
        git(folder, "commit", "--allow-empty", "-m", message)
    return folder


def test_a_tagged_commit_has_the_version_of_its_tag(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "v3.4.0")
    assert built_version(checkout) == "3.4.0"
    assert built_version(unpack_archive(checkout, tmp_path / "archive")) == "3.4.0"


def test_a_commit_after_a_tag_works_towards_the_next_minor_version(
    checkout: Path, tmp_path: Path
) -> None:
    git(checkout, "tag", "v3.4.0", "HEAD~1")
    assert built_version(checkout) == "3.5.0.dev1"
    assert built_version(unpack_archive(checkout, tmp_path / "archive")) == "3.5.0.dev1"


def test_without_tags_the_fallback_says_the_version(checkout: Path, tmp_path: Path) -> None:
    towards = FALLBACK.removesuffix("0")
    assert built_version(checkout).startswith(towards)
    assert built_version(unpack_archive(checkout, tmp_path / "archive")) == FALLBACK

    git(checkout, "tag", "v3.4.0", "HEAD~1")
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--depth=1", checkout.as_uri(), shallow)
    assert built_version(shallow).startswith(towards)


def test_without_git_the_fallback_says_the_version(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "v3.4.0")
    assert built_version(checkout, path=str(tmp_path / "empty")) == FALLBACK


def test_the_fallback_follows_the_newest_version_of_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(\d+\.\d+)\.\d+\] - ", changelog, re.MULTILINE)[0]
    major, minor = map(int, newest.split("."))
    assert f"{major}.{minor + 1}.0.dev0" == FALLBACK


def test_the_harness_says_the_version_of_its_installation() -> None:
    assert harness.__version__ == version("paraisite-harness")
