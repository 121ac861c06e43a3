"""Files and folders are there whole or not at all, whatever kills their writer."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.files import (
    new_folder,
    remove_folder,
    replacing,
    replacing_files,
    replacing_folder,
    sweep,
    whole_file,
)

ROOT = Path(__file__).parents[1]

RENAMES = 3
"""Of a folder that takes the place of another: aside, into its place, and away."""


class Stop(BaseException):
    """As KeyboardInterrupt: no Exception."""


def fill(folder: Path, content: str) -> None:
    """Writes two files into a folder, one of them deeper."""
    (folder / "deep").mkdir()
    (folder / "deep" / "one").write_text(content)
    (folder / "two").write_text(content)


def put(folder: Path, content: str) -> None:
    with replacing_folder(folder) as draft:
        fill(draft, content)


def content_of(folder: Path) -> set[str]:
    """Returns what the files of a whole folder say: one word, unless it is a mixture."""
    return {(folder / "deep" / "one").read_text(), (folder / "two").read_text()}


def run_killed(program: str, folder: Path) -> None:
    """Runs a program in another process, which kills itself on the way."""
    script = "import os, signal, sys\nfrom pathlib import Path\nimport harness.files as files\n"
    done = subprocess.run([sys.executable, "-c", script + program, folder], check=False)
    assert done.returncode == -signal.SIGKILL


REPLACE_KILLED_AT = """
rename, left = os.rename, [{kept}]
def rename_or_die(*ends):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    rename(*ends)
os.rename = rename_or_die
with files.replacing_folder(Path(sys.argv[1])) as draft:
    (draft / "deep").mkdir()
    (draft / "deep" / "one").write_text("new")
    (draft / "two").write_text("new")
"""


@pytest.mark.parametrize("kept", range(RENAMES))
def test_killed_at_any_rename_the_next_finds_the_old_folder_or_the_new(
    kept: int, tmp_path: Path
) -> None:
    target = tmp_path / "it"
    put(target, "old")
    run_killed(REPLACE_KILLED_AT.format(kept=kept), target)
    assert len(list(tmp_path.glob(".*"))) == 1
    sweep(tmp_path)
    assert content_of(target) == {"old" if kept < 2 else "new"}
    assert list(tmp_path.iterdir()) == [target]


def test_the_next_writer_of_a_folder_puts_back_what_a_killed_one_had_moved_aside(
    tmp_path: Path,
) -> None:
    put(tmp_path / "it", "old")
    run_killed(REPLACE_KILLED_AT.format(kept=1), tmp_path / "it")
    assert not (tmp_path / "it").exists()
    put(tmp_path / "another", "new")
    assert content_of(tmp_path / "it") == {"old"}


def test_a_dead_writers_old_folder_never_takes_the_place_of_a_newer_one(tmp_path: Path) -> None:
    put(tmp_path / "it", "old")
    run_killed(REPLACE_KILLED_AT.format(kept=1), tmp_path / "it")
    (tmp_path / "it").mkdir()
    fill(tmp_path / "it", "newer")
    sweep(tmp_path)
    assert content_of(tmp_path / "it") == {"newer"}
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]


def test_a_rename_that_fails_leaves_the_old_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(tmp_path / "it", "old")

    def refuse(source: Path, target: Path, rename: Any = os.rename) -> None:
        if source.name == "new":
            raise OSError("full")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("harness.files.os.rename", refuse)
        with pytest.raises(OSError, match="full"):
            put(tmp_path / "it", "new")
    assert content_of(tmp_path / "it") == {"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]


def test_what_a_living_writer_is_at_is_not_swept(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "it") as draft, whole_file(tmp_path / "file") as staging:
        fill(draft, "new")
        staging.write_text("new")
        sweep(tmp_path)
    assert content_of(tmp_path / "it") == {"new"}
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("writer", [whole_file, new_folder, replacing_folder])
def test_a_block_that_raises_changes_nothing(writer: Any, tmp_path: Path) -> None:
    made: AbstractContextManager[Path] = writer(tmp_path / "it")
    with pytest.raises(Stop), made as staging:  # noqa: PT012 (what a block does is the point)
        (staging if staging.is_dir() else staging.parent).joinpath("half").write_text("half")
        raise Stop
    assert list(tmp_path.iterdir()) == []


def test_a_file_takes_the_place_of_another_and_keeps_its_name_while_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_text("old")
    with whole_file(path) as staging:
        assert staging.name == path.name
        staging.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_files_go_into_a_folder_beside_those_that_are_there(tmp_path: Path) -> None:
    for name in ("old", "kept"):
        (tmp_path / name).write_text("before")
    with replacing_files(tmp_path) as staging:
        for name in ("old", "new"):
            (staging / name).write_text("after")
        assert (tmp_path / "old").read_text() == "before"
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts == {"old": "after", "kept": "before", "new": "after"}


def test_of_files_whose_writing_fails_none_goes_into_the_folder(tmp_path: Path) -> None:
    with pytest.raises(Stop), replacing_files(tmp_path) as staging:  # noqa: PT012 (as above)
        (staging / "whole").write_text("whole")
        raise Stop
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        put(tmp_path / "it", "new")
        with whole_file(tmp_path / "file") as staging:
            staging.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_new_folder_takes_the_place_of_nothing(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "it"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="exists already"), new_folder(target):
        pass


def test_a_folder_that_is_removed_is_gone_at_once_and_does_not_come_back(tmp_path: Path) -> None:
    put(tmp_path / "it", "old")
    program = """
import shutil
shutil.rmtree = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
files.remove_folder(Path(sys.argv[1]))
"""
    run_killed(program, tmp_path / "it")
    assert not (tmp_path / "it").exists()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
    put(tmp_path / "it", "new")
    remove_folder(tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_hidden_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".it.backup").mkdir()
    (tmp_path / ".it.backup" / "mine").write_text("mine")
    put(tmp_path / "it", "new")
    assert (tmp_path / ".it.backup" / "mine").read_text() == "mine"


def test_results_that_cannot_be_written_say_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with (
        pytest.raises(StoreError, match=r"Cannot write results to .*file.*--results or --to"),
        replacing(tmp_path / "file" / "table.csv"),
    ):
        pass


def test_no_other_module_moves_files_into_place() -> None:
    moves = re.compile(r"\b(os\.replace|os\.rename|mkdtemp|mkstemp|NamedTemporaryFile)\(")
    modules = [*(ROOT / "harness").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    movers = {path.name for path in modules if moves.search(path.read_text(encoding="utf-8"))}
    assert movers == {"files.py"}


def test_an_empty_leftover_is_swept_and_whoever_had_just_made_it_takes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, names = tempfile.mkdtemp, []

    def make_and_lose(**arguments: Any) -> str:
        names.append(make(**arguments))
        if len(names) == 1:
            sweep(tmp_path)
        return names[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with whole_file(tmp_path / "table") as staging:
        staging.write_text("whole")
    assert len(names) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_a_folder_that_somebody_else_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def fill_late() -> None:
        with new_folder(tmp_path / "new") as draft:
            fill(draft, "mine")
            (tmp_path / "new").mkdir()
            fill(tmp_path / "new", "theirs")

    with pytest.raises(StoreError, match="exists already"):
        fill_late()
    assert content_of(tmp_path / "new") == {"theirs"}
