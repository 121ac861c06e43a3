"""Files with structures: CIF, POSCAR, JSON lines, extended XYZ, ASE databases, folders of them.

What is found in a file is cut into records first, which is cheap, and read afterwards: a long file
never lies in memory as a whole, records can be passed over without being read, and be sent to other
processes to be read there. A record that cannot be read costs that structure only, with a reason.
"""

from __future__ import annotations

import io
import itertools
import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.data.cif import read_cif
from harness.data.poscar import read_poscar
from harness.data.row_checks import ISOTOPES, plain_structure, usable_crystal
from harness.errors import DataError
from harness.plugin.crystal import Crystal
from harness.reading import UNREADABLE, check_regular, open_text, parse_json, read_lines, read_text

ID_KEYS = ("id", "material_id")
"""Where a row of a file or database says what it is called, in this order."""

CRYSTAL_KEYS = frozenset(("structure", "lattice", "species", "frac_coords"))
"""Of a JSON line: what the crystal is made of. The other keys are its properties."""

LONGEST_STRUCTURE = 64 * 2**20
"""Most letters of one structure in a file."""

MOST_SITES = 10_000_000
"""Most atoms that a frame of extended XYZ may announce."""

SHOWN = (
    "*.cif, POSCAR*, CONTCAR*, *.vasp, *.jsonl, *.extxyz, *.xyz (all of them also as *.gz), *.db"
)


@dataclass(frozen=True, eq=False, slots=True)
class StructureRow:
    """A structure that was read, or why it could not be.

    Attributes:
        id: what the file calls it; else its file and its place in it.
        crystal: the structure; none where it cannot be used.
        reason: why it cannot be used; empty otherwise.
        properties: whatever else the file says of it.
        remarks: what in the file gives rise to doubt.
    """

    id: str
    crystal: Crystal | None
    reason: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class UnreadStructure:
    """A structure as it stands in a file, found but not read.

    Attributes:
        id: what it is called unless it says so itself.
        form: how it is written; a key of `FORMS`.
        content: text, or a mapping, as the form has it.
        reason: why it could not even be found whole; empty otherwise.
    """

    id: str
    form: str
    content: Any
    reason: str = ""

    def read(self) -> StructureRow:
        """Reads it; what goes wrong is the row's reason, whatever it is."""
        if self.reason:
            return StructureRow(self.id, None, self.reason)
        name, form = self.id, FORMS[self.form]
        found = _Found(None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # hints of parsers; what matters is checked below
                found = form.read(self.content)
                name = next((str(found.says[k]) for k in ID_KEYS if k in found.says), name)
                crystal = usable_crystal(form.settle(found.structure))
            return StructureRow(name, crystal, "", found.says, found.remarks)
        except Exception as problem:  # parsers of others, on files of others
            return StructureRow(name, None, _reason(problem), found.says)


@dataclass(frozen=True, eq=False)
class _Found:
    """What a parser makes of a record.

    Attributes:
        structure: in the form that the parser gives it.
        says: what the record says besides.
        remarks: see `StructureRow`.
    """

    structure: Any
    says: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """A way to write structures.

    Attributes:
        pattern: of the names of such files.
        cut: file → the name within it, if any, and the content of every record.
        read: content → what is in it, the structure in some form.
        settle: that form → `lattice`, `species` and `frac_coords`, unchecked.
        module: what must be installed.
    """

    pattern: str
    cut: Callable[[Path], Iterator[tuple[str, Any]]]
    read: Callable[[Any], _Found]
    settle: Callable[[Any], Mapping[str, Any]]
    module: str = "pymatgen"


def read_structures(*paths: Path) -> Iterator[StructureRow]:
    """Yields the structures of files, or of all files below folders; see `find_structures`."""
    return (record.read() for record in find_structures(*paths))


def find_structures(*paths: Path) -> Iterator[UnreadStructure]:
    """Yields what is in files, or in all files below folders, in a settled order; reads nothing.

    Structures of several files are called by as much of the path as tells the files apart.

    Raises:
        DataError: see `find_records`.
    """
    names = [_stem(path.name) if path.is_file() else "" for path in paths]
    for path, name in zip(paths, names, strict=True):
        # run1/CONTCAR and run2/CONTCAR, or two folders
        told_apart = _stem(path.as_posix()) if names.count(name) > 1 else name
        yield from find_records(path, told_apart)


def is_structure(thing: Any) -> bool:
    """Whether something is one structure, of whatever library, and not several."""
    return isinstance(thing, StructureRow | Crystal) or any(
        hasattr(thing, name) for name in ("get_scaled_positions", "is_ordered")
    )


def row_of(thing: Any, name: str) -> StructureRow:
    """Makes a row of a structure in memory, of whatever library.

    Args:
        thing: a row (it stays as it is), a `Crystal`, a structure of pymatgen or atoms of ASE.
        name: its id.

    Raises:
        DataError: it is none of these.
    """
    if isinstance(thing, StructureRow):
        return thing
    if isinstance(thing, Crystal):
        return StructureRow(name, thing)
    if hasattr(thing, "get_scaled_positions"):
        settle: Callable[[Any], Mapping[str, Any]] = _from_atoms
    elif hasattr(thing, "is_ordered"):
        settle = _from_pymatgen
    else:
        raise DataError(
            f"Structure {name} is {type(thing).__name__}: expected a Crystal, a pymatgen "
            "Structure, ASE Atoms, or a row of read_structures()."
        )
    try:
        return StructureRow(name, usable_crystal(settle(thing)))
    except (ValueError, TypeError, KeyError) as problem:
        return StructureRow(name, None, _reason(problem))


def find_records(path: Path, name: str | None = None) -> Iterator[UnreadStructure]:
    """Yields what is in a file, or in all files below a folder, without reading the structures.

    A file that cannot be read, or not to its end, is a record with the reason: the others go on.

    Args:
        path: a file of one of the known kinds, plain or gzipped, or a folder.
        name: what its structures are called unless they say so themselves; the file's without its
            ending unless given, and for a folder what comes before the files in it.

    Raises:
        DataError: there is no such file, its kind is unknown, or a folder holds none.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: expected a file with structures, or a folder.")
    if not path.is_dir():
        if _form_of(path) is None:
            raise DataError(f"{path}: not a known kind of file with structures. Known: {SHOWN}.")
        yield from _records_of(path, name or _stem(path.name))
        return
    empty = True
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (Path(folder, found) for found in sorted(files)):
            if _form_of(file) is not None:
                empty = False
                below = _stem(file.relative_to(path).as_posix())
                yield from _records_of(file, f"{name}/{below}" if name else below)
    if empty:
        raise DataError(f"The folder {path} holds no file with structures. Known: {SHOWN}.")


def _records_of(path: Path, stem: str) -> Iterator[UnreadStructure]:
    form = _form_of(path)
    assert form is not None
    module = FORMS[form].module
    if find_spec(module) is None:
        raise DataError(
            f"Reading {path} needs the module {module!r}: pip install 'paraisite-harness[{module}]'"
        )
    number = 0
    try:
        check_regular(path)
        for name, content in FORMS[form].cut(path):
            number += 1
            yield UnreadStructure(f"{stem}:{name}" if name else stem, form, content)
    except (*UNREADABLE, sqlite3.Error) as problem:
        where = f"cannot be read beyond structure {number}" if number else "cannot be read"
        reason = f"the file {where} ({_reason(problem)}): is it complete?"
        yield UnreadStructure(f"{stem}:{number + 1}" if number else stem, form, None, reason)


def _form_of(path: Path) -> str | None:
    name = path.name
    matches = (f for f, form in FORMS.items() if re.fullmatch(form.pattern, name, re.IGNORECASE))
    return None if name.startswith(".") else next(matches, None)


def _stem(name: str) -> str:
    return re.sub(
        r"(\.(cif|vasp|poscar|jsonl|extxyz|xyz|db))?(\.gz)?$", "", name, flags=re.IGNORECASE
    )


def _reason(problem: Exception) -> str:
    text = "; ".join(filter(None, map(str.strip, str(problem).splitlines())))
    if isinstance(problem, KeyError):
        return f"no {problem.args[0]}"
    return text if text and isinstance(problem, ValueError) else f"{type(problem).__name__}: {text}"


# --- CIF --------------------------------------------------------------------------------------


def _cut_cif(path: Path) -> Iterator[tuple[str, str]]:
    """Cuts at `data_…`; a block without atoms (a journal's header, say) is no structure."""
    blocks = [block for block in _cif_blocks(path) if "_atom_site" in block[1].lower()]
    if len(blocks) == 1:
        yield "", blocks[0][1]
    elif blocks:
        yield from blocks
    else:
        yield "", ""


def _cif_blocks(path: Path) -> Iterator[tuple[str, str]]:
    name, quoted, length = "", False, 0
    lines: list[str] = []
    with open_text(path) as text:
        for line in read_lines(text):
            if line.startswith(";"):  # text over several lines, which may hold anything
                quoted = not quoted
            if not quoted and line[:5].lower() == "data_":
                yield name, "".join(lines)
                name, lines, length = line[5:].strip(), [], 0
            lines.append(line)
            length += len(line)
            if length > LONGEST_STRUCTURE:
                raise ValueError(f"a structure of more than {LONGEST_STRUCTURE} letters")
    yield name, "".join(lines)


def _read_cif(text: str) -> _Found:
    if not text:
        raise ValueError("no atoms: the file has no _atom_site")
    structure, remarks = read_cif(text)
    return _Found(structure, {}, remarks)


# --- POSCAR -----------------------------------------------------------------------------------


def _cut_whole(path: Path) -> Iterator[tuple[str, str]]:
    yield "", read_text(path, LONGEST_STRUCTURE)


def _read_poscar(text: str) -> _Found:
    structure, comment = read_poscar(text)
    return _Found(structure, {"comment": comment})


def _from_pymatgen(structure: Any) -> Mapping[str, Any]:
    if not hasattr(structure, "frac_coords"):
        raise ValueError("not a crystal: a molecule has no lattice")
    if not structure.is_ordered:
        raise ValueError("disordered: a site has partial or mixed occupancy")
    return {
        "lattice": structure.lattice.matrix,
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords,
    }


# --- JSON lines -------------------------------------------------------------------------------


def _cut_lines(path: Path) -> Iterator[tuple[str, str]]:
    with open_text(path) as text:
        for number, line in enumerate(read_lines(text), start=1):
            if line.strip():
                yield str(number), line


def _read_line(line: str) -> _Found:
    """Takes the neutral form (see `neutral`), or a pymatgen dict, in `structure` or by itself."""
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    properties = {key: value for key, value in row.items() if key not in CRYSTAL_KEYS}
    return _Found(row.get("structure", row), {} if "sites" in row else properties)


# --- extended XYZ and ASE databases -----------------------------------------------------------


def _cut_frames(path: Path) -> Iterator[tuple[str, str]]:
    with open_text(path) as text:
        lines = read_lines(text)
        number = 0
        for first in lines:
            if not first.strip():
                continue
            number += 1
            if not first.strip().isdecimal() or len(first.strip()) > len(str(MOST_SITES)):
                raise ValueError(f"expected a number of atoms, found {first.strip()[:40]!r}")
            wanted = int(first) + 1
            frame = [first, *itertools.islice(lines, wanted)]
            if len(frame) <= wanted:
                raise ValueError(f"structure {number} has {len(frame) - 2} of {wanted - 1} lines")
            yield str(number), "".join(frame)


def _read_frame(text: str) -> _Found:
    from ase.io.extxyz import read_xyz

    comment = text.split("\n", 2)[1]
    for columns in re.findall(r":[SRILsril]:(\d+)", comment):
        if len(columns) > 3:  # the parser would make room for that many
            raise ValueError(f"a property of {columns[:20]} columns")
    _refuse_underscores(text, comment)
    (atoms,) = read_xyz(io.StringIO(_without_isotopes(text)), index=slice(None))
    results = atoms.calc.results if atoms.calc is not None else {}
    return _Found(atoms, {**results, **atoms.info, **_written_ids(comment)})


def _refuse_underscores(text: str, comment: str) -> None:
    """Refuses `1_0` in a lattice or among the numbers of atoms: Python would read 10."""
    lattice = re.search(r'Lattice\s*=\s*"([^"]*)"', comment, re.IGNORECASE)
    lines = text.split("\n")[2:]
    for word in (w for part in (lattice[1] if lattice else "", *lines) for w in part.split()):
        if re.fullmatch(r"[+-]?[\d._]*\d_\d[\d._]*([eE][+-]?[\d_]+)?", word):
            raise ValueError(f"{word!r} is not a number")


def _without_isotopes(text: str) -> str:
    """Writes isotopes that begin a line as the element they are of; ASE does not know them."""
    names = "|".join(ISOTOPES)
    return re.sub(rf"(?<=\n)(\s*)({names})(?=\s)", lambda m: m[1] + ISOTOPES[m[2]], text)


def _written_ids(comment: str) -> dict[str, str]:
    """Ids as they are written: the parser makes numbers and truth values of 0001, 1e3 and T."""
    found = {}
    for key in ID_KEYS:
        if match := re.search(rf'(?:^|\s){key}=(?:"([^"]*)"|(\S+))', comment):
            found[key] = match[1] if match[1] is not None else match[2]
    return found


def _cut_database(path: Path) -> Iterator[tuple[str, Any]]:
    from ase.db import connect

    database = connect(str(path), type="db")  # type: ignore[no-untyped-call]
    for row in database.select(sort="id"):
        says = {**row.key_value_pairs, **row.data}
        yield str(row.id), {"atoms": row.toatoms(), "says": says}


def _read_database_row(content: Mapping[str, Any]) -> _Found:
    return _Found(content["atoms"], content["says"])


def _from_atoms(atoms: Any) -> Mapping[str, Any]:
    if not all(atoms.pbc):
        raise ValueError("not a crystal: it is not periodic in all three directions")
    return {
        "lattice": atoms.cell.array,
        "species": atoms.get_chemical_symbols(),
        "frac_coords": atoms.get_scaled_positions(wrap=False),
    }


FORMS: Mapping[str, _Form] = {
    "cif": _Form(r".*\.cif(\.gz)?", _cut_cif, _read_cif, _from_pymatgen),
    "jsonl": _Form(r".*\.jsonl(\.gz)?", _cut_lines, _read_line, plain_structure),
    "extxyz": _Form(r".*\.(ext)?xyz(\.gz)?", _cut_frames, _read_frame, _from_atoms, "ase"),
    "ase": _Form(r".*\.db", _cut_database, _read_database_row, _from_atoms, "ase"),
    "poscar": _Form(
        r"(poscar|contcar).*|.*\.(vasp|poscar)(\.gz)?", _cut_whole, _read_poscar, _from_pymatgen
    ),
}
"""The known kinds of files, by name; the first whose pattern fits a file's name is taken."""
