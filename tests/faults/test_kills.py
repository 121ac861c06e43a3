"""Whatever is killed, wherever: the same command then leaves what an undisturbed one leaves."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import (
    SAID,
    Commands,
    Trial,
    contents,
    debris,
    differences,
    kill,
    lay_out,
    rocksalts,
)


@dataclass(frozen=True)
class Work:
    """A command that is killed.

    Attributes:
        line: of the command.
        tries: by default, half at a change of the file system, half by the clock.
        needs: what it needs of the material.
        before: a command to prepare with; what it made may be replaced.
        between: a command that must work after a kill, before the work is begun again.
    """

    line: str
    tries: int
    needs: tuple[str, ...] = ()
    before: str = ""
    between: str = ""


WORK = {
    "run": Work("run {}/new --plugin PLUGIN --jobs 1 -q", 6),
    "run, two processes": Work("run {}/new --plugin PLUGIN --jobs 2 -q", 2),
    "tune": Work("tune {}/search --plugin PLUGIN --jobs 1 -q", 4),
    "export": Work(
        "export {}/toy transfer=scratch --plugin PLUGIN --to {}/exported", 4, ("toy", "bundle")
    ),
    "scan": Work(
        "scan {}/many.jsonl --bundle {}/bundle --plugin PLUGIN --to {}/table.parquet --jobs 1 -q",
        4,
        ("bundle", "many.jsonl"),
    ),
    "import": Work(f"datasets import New {{}}/few.jsonl {SAID}", 4, ("few.jsonl",)),
    "import --replace": Work(
        f"datasets import New {{}}/few.jsonl {SAID} --replace",
        4,
        ("few.jsonl",),
        f"datasets import New {{}}/old.jsonl {SAID}",
        "datasets show New",
    ),
    "site": Work("site {}/toy --plugin PLUGIN --to {}/site", 4, ("toy",)),
    "site, replaced": Work(
        "site {}/toy --plugin PLUGIN --to {}/site",
        4,
        ("toy", "ada"),
        "site {}/ada --plugin PLUGIN --to {}/site",
    ),
    "freeze": Work("freeze {}/toy", 4, ("toy",)),
    "submission pack": Work(
        "submission pack {}/toy --card {}/card.toml --to {}/packed", 4, ("toy", "card.toml")
    ),
    "submission merge": Work(
        "submission merge {}/ada --plugin PLUGIN --into {}/merged", 4, ("ada",)
    ),
}


def prepare(do: Commands, work: Work, material: Path) -> None:
    """Lays out what a command needs."""
    lay_out(do, material, work.needs, sampler="tpe", pruner="median")
    (do.folder / "old.jsonl").write_text(rocksalts(20, 2.0))
    if work.before:
        assert do(work.before).status == 0


@pytest.mark.parametrize("kind", WORK)
def test_a_command_that_was_killed_ends_as_if_nobody_had_disturbed_it(
    kind: str, trial: Trial, material: Path
) -> None:
    work = WORK[kind]
    calm = trial.commands("calm")
    prepare(calm, work, material)
    begun = time.monotonic()
    ended = calm(work.line)
    seconds = time.monotonic() - begun
    assert ended.status == 0, ended.output
    changes, expected = calm.changes(), contents(calm.folder)

    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        prepare(do, work, material)
        at_event = chance.random() < 0.5
        for _ in range(chance.randint(1, 2)):
            if at_event:
                do(work.line, dies_at=chance.randint(1, changes))
            else:
                process, order = do.start(work.line)
                timer = threading.Timer(chance.uniform(0.05, seconds), kill, (process,))
                timer.start()
                do.end(process, order)
                timer.cancel()
        if work.between:
            yield from (f"between: {wrong}" for wrong in do(work.between).wrongs(fine=(0,)))
        again = do(work.line)
        yield from again.wrongs("already")
        yield from differences(expected, contents(do.folder))
        yield from (f"debris: {name}" for name in debris(do.folder))

    trial(f"kill: {kind}", work.tries, attempt)
