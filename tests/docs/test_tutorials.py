"""Every tutorial works as it is written, in an empty folder, with what is installed.

A page is carried out from top to bottom. A block whose first line is a comment with a file name, or
that stands below `<!-- file: … -->`, becomes that file. A `sh` block is run. A `text` block after
it is what one should see: each of its lines stands in the output, whatever the widths of columns
and the decimals of numbers; … stands for anything.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from harness.api.docs_pages import FOLDER

pytestmark = pytest.mark.slow

NAMED = {
    "tutorial-property": {"train_on": "Mismatch", "test_on": "Mismatch", "head": "mlp"},
    "tutorial-dataset": {"train_on": "Zincblende", "test_on": "Zincblende", "head": "mlp"},
    "tutorial-backbone": {"backbone": "bonds", "test_on": "Tetrahedral"},
    "tutorial-transfer": {"transfer": "lower-half(source=Tetrahedral)", "test_on": "Rocksalt"},
}
"""What is new in each tutorial, by the columns of its row in the table."""

METRICS = {"tutorial-property": "mae"}
"""What is looked at; elsewhere `mae-log`."""

RUNS = 3


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    text: str
    file: str | None


def blocks_of(page: str) -> Iterator[Block]:
    above = ""
    for token in MarkdownIt().parse((FOLDER / f"{page}.md").read_text()):
        if token.type == "fence":
            named = re.match(r"# (\S+\.\w+)$", token.content.partition("\n")[0])
            under = re.fullmatch(r"<!-- file: (\S+) -->", above.strip())
            file = (under or named)[1] if under or named else None
            assert token.map is not None
            yield Block(token.map[0] + 1, token.info, token.content, file)
        above = token.content if token.type == "html_block" else ""


def carry_out(page: str, folder: Path) -> None:
    printed = ""
    for block in blocks_of(page):
        where = f"{page}.md, line {block.line}"
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "sh":
            printed = run(block.text, folder, where)
        elif block.language == "text":
            seen = [plain(line) for line in printed.splitlines()]
            for line in filter(None, map(plain, block.text.splitlines())):
                wanted = re.compile(".*".join(map(re.escape, line.split("…"))))
                assert any(map(wanted.search, seen)), f"{where}: {line!r} is not in\n{printed}"
        else:
            raise AssertionError(f"{where}: a block of {block.language!r} that is no file")


def run(commands: str, folder: Path, where: str) -> str:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    environment["HARNESS_CACHE"] = str(folder / "cache")
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{where}:\n{commands}\n{done.stdout}"
    return done.stdout


def plain(line: str) -> str:
    """A line without the lines of tables, with single blanks, and decimals that do not matter."""
    line = re.sub(r"-?\d+\.\d+", "#.#", re.sub("─", "", line))
    return " ".join(line.split())


def results_of(folder: Path, columns: dict[str, str]) -> list[dict[str, Any]]:
    text = (folder / "leaderboards/mine/results.jsonl").read_text()
    lines = map(json.loads, text.splitlines())
    return [line for line in lines if columns.items() <= line.items()]


@pytest.mark.parametrize("page", NAMED)
def test_a_tutorial_leads_to_a_row_in_a_table(page: str, tmp_path: Path) -> None:
    carry_out(page, tmp_path)
    results = results_of(tmp_path, NAMED[page])
    assert [line["run"] for line in results] == list(range(1, RUNS + 1))
    metric = METRICS.get(page, "mae-log")
    assert all(math.isfinite(line["scores"]["all"][metric]) for line in results)
    table = (tmp_path / "leaderboards/mine/table.md").read_text()
    new = next(iter(NAMED[page].values()))
    assert f"| {new} " in table


def test_every_tutorial_is_tested() -> None:
    assert {path.stem for path in FOLDER.glob("tutorial-*.md")} == set(NAMED)
