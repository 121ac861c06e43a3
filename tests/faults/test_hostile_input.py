"""Whatever a file of others holds: a result, or an error that says what is wrong, within limits."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import BENCHMARK, SAID, Commands, Trial, rocksalts

NUMBERS = "-1 0 1e400 nan -inf 1_0 99999999999 0x10 1e-320 " + "9" * 5000
TEXTS = ("../../x", "=cmd|' /C calc'!A0", "\x1b[2J", "\ud800", "", "a" * 100_000)
CIF = """data_NaCl
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na1 Na 0.0 0.0 0.0
Cl1 Cl 0.5 0.5 0.5
"""
POSCAR = "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
XYZ = (
    '2\nLattice="0 2.8 2.8 2.8 0 2.8 2.8 2.8 0" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
    "Na 0 0 0\nCl 2.8 2.8 2.8\n"
)
TABLE = "id,kappa,temperature\n" + "".join(f"r{row},{1.5 + row},300\n" for row in range(12))


def spoil_text(text: str, chance: random.Random) -> bytes:
    """Changes one thing of a text file, as people, programs and attackers do."""
    lines = text.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    words = lines[place].split(" ")
    word = chance.randrange(len(words))
    match chance.randrange(7):
        case 0:
            words[word] = chance.choice(NUMBERS.split()) + "\n"
        case 1:
            words[word] = chance.choice(TEXTS)
        case 2:
            return text.encode()[: chance.randrange(len(text))]
        case 3:
            lines.insert(place, lines[place])
        case 4:
            words[word] = chance.choice("[{(\"'") * 20_000
        case 5:
            return text.encode(chance.choice(["utf-16", "utf-32"]))
        case _:
            content = bytearray(text.encode())
            for _ in range(5):
                content[chance.randrange(len(content))] = chance.randrange(256)
            return bytes(content)
    lines[place] = " ".join(words)
    return "".join(lines).encode("utf-8", "surrogatepass")


def spoil_json(content: Any, chance: random.Random) -> None:
    """Puts something else in the place of one value, however deep it lies."""
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = chance.choice(keys)
    inner = content[key]
    if isinstance(inner, dict | list) and inner and chance.random() < 0.8:
        spoil_json(inner, chance)
        return
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    others = (None, True, -1, 10**9, 10**400, 1e308, "", [], {}, "../x", "\x1b[2J", deep, [[1]])
    content[key] = chance.choice(others)


def spoil_file(path: Path, chance: random.Random) -> None:
    """Spoils a file of JSON, lines of JSON, or bytes."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        spoil_json(content, chance)
        path.write_text(json.dumps(content))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        place = chance.randrange(len(lines))
        content = json.loads(lines[place])
        spoil_json(content, chance)
        lines[place] = json.dumps(content)
        path.write_text("\n".join(lines) + "\n")
    else:
        written = bytearray(path.read_bytes())
        start = chance.randrange(len(written))
        written[start : start + 8] = chance.randbytes(8)
        path.write_bytes(written)


@dataclass(frozen=True)
class Hostile:
    """A kind of input.

    Attributes:
        line: the command that gets it.
        tries: by default.
        files: text files to spoil, one of which is made, by name.
        folder: of the material, of which a file is spoilt.
        named: one of these is in an error.
    """

    line: str
    tries: int
    files: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    named: tuple[str, ...] = ()


HOSTILE = {
    "benchmark files": Hostile(
        "run {}/FILE --plugin PLUGIN --plan", 14, (("benchmark.toml", BENCHMARK),)
    ),
    "structure files": Hostile(
        "predict {}/FILE --bundle {}/whole --plugin PLUGIN",
        18,
        (("a.cif", CIF), ("POSCAR", POSCAR), ("a.extxyz", XYZ), ("a.jsonl", rocksalts(3))),
        named=("FILE",),
    ),
    "tables": Hostile(
        f"datasets import New {{}}/few.jsonl --targets {{}}/FILE {SAID}",
        10,
        (("kappa.csv", TABLE),),
    ),
    "bundles": Hostile(
        "predict {}/few.jsonl --bundle {}/bundle --plugin PLUGIN", 14, (), "bundle", ("bundle",)
    ),
    "submissions": Hostile("submission check {}/ada --plugin PLUGIN", 14, (), "ada"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_input_ends_in_a_result_or_an_error(
    kind: str, trial: Trial, material: Path
) -> None:
    hostile = HOSTILE[kind]

    calm = trial.commands("calm")
    shutil.copytree(material, calm.folder, dirs_exist_ok=True)
    (calm.folder / "bundle").rename(calm.folder / "whole")
    shutil.copytree(material / "bundle", calm.folder / "bundle")
    for name, text in hostile.files:
        (calm.folder / name).write_text(text)
    for name, _ in hostile.files or [("", "")]:
        ended = calm(hostile.line.replace("FILE", name))
        assert ended.status == 0, f"what is not spoilt is taken: {ended.output}"

    def attempt(do: Commands, chance: random.Random) -> Iterator[str]:
        shutil.copy(material / "few.jsonl", do.folder)
        shutil.copytree(material / "bundle", do.folder / "whole")
        line, named = hostile.line, hostile.named
        if hostile.folder:
            shutil.copytree(material / hostile.folder, do.folder / hostile.folder)
            files = sorted(p for p in (do.folder / hostile.folder).rglob("*") if p.is_file())
            path = chance.choice(files)
            spoil_file(path, chance)
        else:
            name, text = chance.choice(hostile.files)
            path = do.folder / name
            path.write_bytes(spoil_text(text, chance))
            line = line.replace("FILE", name)
            named = tuple(one.replace("FILE", name) for one in named)
        ended = do(line)
        fine = (0, 1, 2) if kind == "submissions" else (0, 2)
        yield from (f"{path.name}: {wrong}" for wrong in ended.wrongs(*named, fine=fine))
        if "\x1b[2J" in ended.output:
            yield f"{path.name}: it steers the terminal"

    trial(f"hostile: {kind}", hostile.tries, attempt)
