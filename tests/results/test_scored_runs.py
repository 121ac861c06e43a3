"""The index of results.jsonl reads every line once, and notices when the file is another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.results.scored_runs import ScoredRuns


class Reader:
    """Reads `key run` and counts what it reads."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def __call__(self, number: int, text: bytes) -> Any:
        key, run = text.decode().split()
        self.lines.append((number, key))
        return SimpleNamespace(key=key, run=int(run))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def test_every_line_is_read_once(file: Path) -> None:
    reader = Reader()
    index = ScoredRuns(file, reader)
    assert index.update() == {}
    for run in range(1, 6):
        with file.open("a") as more:
            more.write(f"a {run}\n")
        assert index.update() == {"a": set(range(1, run + 1))}
    assert reader.lines == [(n, "a") for n in range(1, 6)]


def test_a_line_that_was_appended_here_is_not_read_at_all(file: Path) -> None:
    reader = Reader()
    index = ScoredRuns(file, reader)
    file.write_text("a 1\n")
    index.update()
    own: list[Any] = [SimpleNamespace(key=key, run=2) for key in "ab"]
    file.write_text("a 1\na 2\nb 2\n")
    index.add(own, b"a 2\nb 2\n")
    file.write_text("a 1\na 2\nb 2\nc 1\n")
    assert index.update() == {"a": {1, 2}, "b": {2}, "c": {1}}
    assert reader.lines == [(1, "a"), (4, "c")]


def test_a_torn_line_is_read_once_it_is_whole(file: Path) -> None:
    index = ScoredRuns(file, Reader())
    file.write_text("a 1\nb ")
    assert index.update() == {"a": {1}}
    file.write_text("a 1\nb 2\n")
    assert index.update() == {"a": {1}, "b": {2}}


@pytest.mark.parametrize("text", ["", "a 1\n", "b 2\n", "c 1\nc 2\nc 3\n"])
def test_a_file_that_is_another_one_is_read_again(file: Path, text: str) -> None:
    index = ScoredRuns(file, Reader())
    file.write_text("a 1\na 2\n")
    index.update()
    file.write_text(text)
    assert index.update() == ScoredRuns(file, Reader()).update()


def test_a_file_that_is_gone_leaves_nothing(file: Path) -> None:
    index = ScoredRuns(file, Reader())
    file.write_text("a 1\n")
    index.update()
    file.unlink()
    assert index.update() == {}
