"""What is stored may be damaged anywhere: it is made again, or the error names it; never used."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.faults.conftest import Commands, Trial, differences, lay_out_search

RUN = "run {}/toy --plugin PLUGIN --jobs 1 -q"
VERIFY = "verify {}/toy --plugin PLUGIN"
PREDICT = "predict {}/few.jsonl --bundle {}/bundle --plugin PLUGIN --to {}/predicted.csv"
IMPORTED = "datasets show Mine --json"


@dataclass(frozen=True)
class Stored:
    """A kind of stored file.

    Attributes:
        pattern: of the files below the folder of a try.
        line: the command that reads them.
        verify: a command that must see what is left; with status 1, where the one before did not.
        before: commands to prepare with.
    """

    pattern: str
    line: str = RUN
    verify: str = VERIFY
    before: tuple[str, ...] = ()


FROZEN = ("freeze {}/toy",)
STORED = {
    "weights": Stored("toy/stages/*/weights.safetensors"),
    "records": Stored("toy/stages/*/stage.json"),
    "ledgers": Stored("toy/stages/*/ledger.parquet"),
    "predictions": Stored("toy/predictions/*.parquet"),
    "results": Stored("toy/results.jsonl"),
    "plan": Stored("toy/plan.json"),
    "tables": Stored("toy/table*"),
    "frozen predictions": Stored("toy/predictions.parquet", before=FROZEN),
    "frozen ledgers": Stored("toy/ledger.parquet", before=FROZEN),
    "frozen records": Stored("toy/stages.jsonl", before=FROZEN),
    "frozen histories": Stored("toy/history.parquet", before=FROZEN),
    "encodings": Stored("cache/**/*.safetensors", PREDICT, ""),
    "bundle": Stored("bundle/*", PREDICT, ""),
    "imported rows": Stored("imports/Mine/rows.jsonl.gz", IMPORTED, ""),
    "imported card": Stored("imports/Mine/card.toml", IMPORTED, ""),
    "journal": Stored(
        "search/tuning/journal.log",
        "tune {}/search --plugin PLUGIN --jobs 1 -q",
        "",
        ("tune {}/search --plugin PLUGIN --jobs 1 -q",),
    ),
}


def outcome(folder: Path) -> dict[str, str]:
    """What must come out, whichever files it lies in."""
    names = (
        "toy/plan.json",
        "toy/table*",
        "predicted.csv",
        "search/best.toml",
    )
    found = {
        str(path.relative_to(folder)): path.read_text()
        for name in names
        for path in sorted(folder.glob(name))
        if path.is_file()
    }
    lines = sorted((folder / "toy" / "results.jsonl").read_text().splitlines())
    return {**found, "toy/results.jsonl": "\n".join(lines)}


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def fill_with_noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(path.stat().st_size))


def put_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def put_pipe(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def put_device(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGE: tuple[Callable[[Path, random.Random], None], ...] = (
    flip,
    truncate,
    fill_with_noise,
    put_folder,
    put_pipe,
    put_device,
)


@pytest.mark.parametrize("kind", STORED)
def test_what_is_damaged_is_made_again_or_named(kind: str, trial: Trial, material: Path) -> None:
    stored = STORED[kind]

    def prepare(do: Commands) -> None:
        for name in ("toy", "bundle", "imports", "cache"):
            shutil.copytree(material / name, do.folder / name)
        shutil.copy(material / "few.jsonl", do.folder)
        lay_out_search(do)
        for line in stored.before:
            assert do(line).status == 0

    calm = trial.commands("calm")
    prepare(calm)
    ended = calm(stored.line)
    assert ended.status == 0, ended.output
    expected = outcome(calm.folder)
    told = "" if stored.line != IMPORTED else ended.output
    numbers = count(list(STORED).index(kind))  # all kinds of damage, over few tries of each

    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        prepare(do)
        damage = DAMAGE[next(numbers) % len(DAMAGE)]
        path = chance.choice(sorted(do.folder.glob(stored.pattern)))
        damage(path, chance)
        what = f"{damage.__name__} {path.relative_to(do.folder)}"
        ended = do(stored.line)
        named = (path.name, str(path.parent.relative_to(do.folder).parts[-1]))
        yield from (f"{what}: {wrong}" for wrong in ended.wrongs(*named))
        if ended.status != 0:
            return
        wrongs = list(differences(expected, outcome(do.folder)))
        if told and ended.output != told:
            wrongs.append("it shows something else")
        if wrongs and stored.verify:
            verified = do(stored.verify)
            wrongs = list(verified.wrongs(fine=(1, 2)))
        yield from (f"{what}: {wrong}" for wrong in wrongs)

    trial(f"damage: {kind}", 3, attempt)
