"""Several processes do the same at once: one result, whole, and the others are told why not."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import (
    SAID,
    Commands,
    Ended,
    Trial,
    contents,
    debris,
    differences,
    lay_out,
    rocksalts,
)


@dataclass(frozen=True)
class Race:
    """Commands at once.

    Attributes:
        line: of the command.
        runners: how many carry it out.
        tries: by default.
        winners: how many must succeed; 0 for any number but none. The others end with status 2.
        needs: what it needs of the material.
        named: what an error names.
    """

    line: str
    runners: int
    tries: int
    winners: int
    needs: tuple[str, ...] = ()
    named: str = ""


RACES = {
    "run": Race("run {}/new --plugin PLUGIN --jobs 1 -q", 3, 3, 3),
    "tune": Race("tune {}/search --plugin PLUGIN --jobs 1 -q", 2, 2, 2),
    "export": Race(
        "export {}/toy transfer=scratch --plugin PLUGIN --to {}/exported",
        3,
        4,
        1,
        ("toy",),
        "exported",
    ),
    "scan": Race(
        "scan {}/many.jsonl --bundle {}/bundle --plugin PLUGIN --to {}/table.parquet --jobs 1 -q",
        2,
        3,
        0,
        ("bundle", "many.jsonl"),
        "Another scan",
    ),
    "import": Race(f"datasets import New {{}}/few.jsonl {SAID}", 4, 5, 1, ("few.jsonl",), "New"),
    "import --replace": Race(
        f"datasets import New {{}}/few.jsonl {SAID} --replace", 3, 4, 0, ("few.jsonl",), "New"
    ),
    "site": Race("site {}/toy --plugin PLUGIN --to {}/site", 2, 3, 0, ("toy",), "site"),
    "freeze": Race("freeze {}/toy", 2, 4, 0, ("toy",), "toy"),
    "submission pack": Race(
        "submission pack {}/toy --card {}/card.toml --to {}/packed",
        3,
        3,
        1,
        ("toy", "card.toml"),
        "packed",
    ),
}


@pytest.mark.parametrize("kind", RACES)
def test_what_several_do_at_once_is_done_once_and_whole(
    kind: str, trial: Trial, material: Path
) -> None:
    race = RACES[kind]
    calm = trial.commands("calm")
    lay_out(calm, material, race.needs)
    ended = calm(race.line)
    assert ended.status == 0, ended.output
    expected = contents(calm.folder)

    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        lay_out(do, material, race.needs)
        all_ended = do.together(*[race.line] * race.runners)
        for one in all_ended:
            yield from one.wrongs(race.named, fine=(0, 2))
        won = [one.status for one in all_ended].count(0)
        if not won or (race.winners and won != race.winners):
            yield f"{won} of {race.runners} have succeeded"
        yield from differences(expected, contents(do.folder))
        yield from (f"debris: {name}" for name in debris(do.folder))

    trial(f"race: {kind}", race.tries, attempt)


def test_two_imports_of_other_rows_leave_one_of_them(trial: Trial) -> None:
    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        for name, kappa in (("one", 1.0), ("two", 2.0)):
            (do.folder / f"{name}.jsonl").write_text(rocksalts(20, kappa))
        lines = [f"datasets import New {{}}/{name}.jsonl {SAID}" for name in ("one", "two")]
        both = do.together(*lines)
        if sorted(one.status or 0 for one in both) != [0, 2]:
            yield f"{[one.status for one in both]}"
        first = both[0].status == 0
        least = "1 … " if first else "2 … "
        if least not in do("datasets show New").output:
            yield "it holds the rows of the one that was refused"

    trial("race: imports of other rows", 4, attempt)


def test_two_runs_with_other_settings_show_nobody_the_numbers_of_the_other(
    trial: Trial, material: Path
) -> None:
    own = "run {}/toy --plugin PLUGIN --jobs 1 -q --set training.epochs="

    def table(do: Commands) -> str:
        return (do.folder / "toy" / "table.csv").read_text()

    expected = {}
    for epochs in (2, 4):
        calm = trial.commands(f"calm {epochs}")
        shutil.copytree(material / "toy", calm.folder / "toy")
        assert calm(f"{own}{epochs}").status == 0
        expected[epochs] = table(calm)

    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        shutil.copytree(material / "toy", do.folder / "toy")
        both: list[Ended] = do.together(f"{own}2", f"{own}4")
        for one in both:
            yield from one.wrongs("training.epochs", fine=(0, 2))
        if 0 not in [one.status for one in both]:
            yield "none has succeeded"
        plan = json.loads((do.folder / "toy" / "plan.json").read_text())
        if table(do) != expected[plan["benchmark"]["training"]["epochs"]]:
            yield "the table is not the plan's"
        for epochs in (2, 4):
            if do(f"{own}{epochs}").status != 0 or table(do) != expected[epochs]:
                yield f"afterwards, {epochs} epochs have another table"

    trial("race: runs with other settings", 3, attempt)
