"""What a dataset can be imported from, brought into one form: entries with values and a structure.

| source | values | structures |
|---|---|---|
| a folder of CIF or POSCAR files | a CSV | by id, from the files |
| JSON lines, extended XYZ, ASE database | with the structure, or a CSV | in the file |
| a pandas frame as JSON; a CSV with a column of structures | in the file | in the file |
| a pair of pickles | a pickled frame or list | a pickled list, in the same order |
| a CSV of ids | in the file | by id, from the Materials Project |
| a query of the Materials Project | a field of its documents | from there too |
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.data.materials.project import QUERY_PREFIX, iter_summaries, parse_query
from harness.data.materials.server import Service
from harness.data.pickle_tables import read_pickled_structures, read_pickled_table
from harness.data.structure_files import (
    StructureRow,
    UnreadStructure,
    find_records,
    read_structures,
)
from harness.errors import DataError
from harness.plugin.locations import Locations
from harness.reading import MAX_TEXT, UNREADABLE, parse_json, read_text

STRUCTURE_COLUMNS = ("structure", "final_structure", "cif", "poscar", "atoms")
"""Columns of a table that are taken to hold structures, in this order."""

DELIMITERS = ",;\t"

QUERY_ID = "material_id"
"""The column with the ids of what a query found."""

_FILE_ENDING = re.compile(r"\.(cif|vasp|poscar)(\.gz)?$", re.IGNORECASE)
_CALCULATION_FILE = re.compile(r"^(?:(.*)/)?(?:POSCAR|CONTCAR)(?:[._-](.+))?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False, slots=True)
class SourceRow:
    """A row of a source, as it stands there.

    Attributes:
        place: where, as `kappa.csv, line 7`.
        values: by column.
        structure: of a source that has it in the same row.
        reason: why the row cannot be read; empty where it can.
    """

    place: str
    values: Mapping[str, Any]
    structure: StructureRow | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class ImportSource:
    """Something to import: entries, and where their structures are if not in them.

    Attributes:
        files: that were read; none where a query was made.
        entries: in their order.
        columns: that entries have; not those with structures.
        structures: of a folder, by every name that an entry may call them by; None where they are
            in the entries, or to be fetched.
        fetched: whether structures come from the Materials Project, by id.
        default_id: whether entries are called something without a column for it.
        query: of the Materials Project, where everything comes from it.
        versions: of its database that then answered.
    """

    files: tuple[Path, ...]
    entries: Sequence[SourceRow]
    columns: tuple[str, ...]
    structures: Structures | None = None
    fetched: bool = False
    default_id: bool = False
    query: str = ""
    versions: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the values stand: a file, or the query."""
        return str(self.files[-1]) if self.files else self.query

    @property
    def title(self) -> str:
        """What it is called in short."""
        return self.files[-1].name if self.files else self.query


def open_query(query: str, field: str, locations: Locations, service: Service) -> ImportSource:
    """Asks the Materials Project for structures and for values of a field.

    Args:
        query: as `mp:stable`; see `parse_query`.
        field: of its summary documents, as `bulk_modulus.vrh`; the column that has the values.
        locations: the cache of what was fetched.
        service: how the Materials Project is reached.

    Raises:
        DataError: the query makes no sense, or the Materials Project cannot be asked.
    """
    asked = parse_query(query.removeprefix(QUERY_PREFIX))
    materials = list(iter_summaries(asked, (field,), locations, service))
    entries = [
        SourceRow(
            query,
            {QUERY_ID: material.id, field: material.values[field]},
            StructureRow(material.id, material.crystal, material.reason),
        )
        for material in materials
    ]
    versions = tuple(sorted({material.version for material in materials}))
    return ImportSource((), entries, (QUERY_ID, field), query=query, versions=versions)


def open_source(
    path: Path, targets: Path | None = None, structure_column: str | None = None
) -> ImportSource:
    """Reads a source of any known kind.

    Args:
        path: a folder, a file with structures, a frame, a pickle or a CSV.
        targets: a CSV (for pickles: a pickle) with the values, where `path` has structures alone.
        structure_column: of a frame or CSV, where its name does not tell; "" for none.

    Raises:
        DataError: a file is missing, of no known kind, or cannot be read.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: expected a file or folder to import.")
    name = path.name.lower()
    if name.endswith((".pkl", ".pickle")):
        return _open_pickles(path, targets)
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return _open_csv(path, targets, structure_column)
    if name.endswith((".json", ".json.gz")):
        return _open_frame(path, targets, structure_column)
    if path.is_dir() or targets is not None:
        table = targets or _only_csv(path)
        entries, columns = read_csv(table)
        return ImportSource((path, table), entries, columns, structures=Structures.read(path))
    entries = [_structure_entry(path, record) for record in find_records(path)]
    columns = _columns(entry.values for entry in entries)
    return ImportSource((path,), entries, columns, default_id=True)


def _structure_entry(path: Path, record: UnreadStructure) -> SourceRow:
    row = record.read()
    place = record.id.rpartition(":")[2]
    kind = "line" if record.form == "jsonl" else "structure"
    return SourceRow(f"{path.name}, {kind} {place}", row.properties, row)


def _only_csv(folder: Path) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".tsv"))
    if len(found) == 1:
        return found[0]
    state = f"{len(found)} CSV files" if found else "no CSV file"
    raise DataError(
        f"The folder {folder} holds {state}: name the one with the targets with --targets."
    )


def _columns(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(key) for row in rows for key in row))


def _refuse_targets(path: Path, targets: Path | None) -> None:
    if targets is not None:
        raise DataError(
            f"{path} holds the targets itself, so --targets {targets} has no place: leave it out."
        )


def strip_ending(name: str) -> str:
    """Returns an id without the ending of a file that it may have been given as."""
    return _FILE_ENDING.sub("", name)


# --- structures by name -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of a folder or file, to be found by what a table calls them.

    Attributes:
        rows: by their own id.
        aliases: other names that one structure alone has: the file without its folder or ending,
            the folder of a POSCAR, what follows `POSCAR_`.
    """

    rows: Mapping[str, StructureRow]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Structures:
        """Reads a folder or file.

        Raises:
            DataError: it cannot be read, or two structures have one id.
        """
        rows: dict[str, StructureRow] = {}
        for row in read_structures(path):
            if row.id in rows:
                raise DataError(f"{path} holds two structures with the id {row.id!r}.")
            rows[row.id] = row
        counts = Counter(alias for name in rows for alias in _aliases(name))
        aliases = {a: n for n in rows for a in _aliases(n) if counts[a] == 1 and a not in rows}
        return cls(rows, aliases)

    def find(self, name: str) -> StructureRow | None:
        """Returns the structure that a table means, if there is one."""
        return self.rows.get(self.aliases.get(name, name))


def _aliases(name: str) -> set[str]:
    aliases = {name.rpartition("/")[2]}
    if match := _CALCULATION_FILE.match(name):
        folder, rest = match.groups()
        aliases = {rest} if rest else {folder.rpartition("/")[2], folder} if folder else set()
    return aliases


# --- tables -----------------------------------------------------------------------------------


def read_csv(path: Path) -> tuple[list[SourceRow], tuple[str, ...]]:
    """Reads a table with a header line; commas, semicolons or tabs, whichever the header has.

    Returns:
        Entries whose values are text, and the columns. A line with another number of values than
        the header is an entry with a reason.

    Raises:
        DataError: the file cannot be read, or its header is empty or names a column twice.
    """
    try:
        text = read_text(path, strict=True)
    except UNREADABLE as problem:
        raise DataError(f"{path} cannot be read: {problem}. Expected a CSV in UTF-8.") from None
    csv.field_size_limit(MAX_TEXT)  # a structure may be a cell
    reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
    columns = tuple(name.strip() for name in next(reader, ()))
    twice = [name for name, count in Counter(columns).items() if count > 1 or not name]
    if twice or not columns:
        said = f"names {twice[0]!r} twice or not at all" if twice else "is empty"
        raise DataError(
            f"{path}: the first line {said}. Expected the names of the columns, each once."
        )
    entries = []
    try:
        line = reader.line_num + 1  # where a row begins; a quoted structure takes many lines
        for values in reader:
            if any(value.strip() for value in values):
                entries.append(_csv_entry(f"{path.name}, line {line}", columns, values))
            line = reader.line_num + 1
    except csv.Error as problem:
        raise DataError(f"{path}, line {reader.line_num}: {problem}.") from None
    return entries, columns


def _delimiter(text: str) -> str:
    """The one of `DELIMITERS` that separates the most names in the header."""
    header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    return max(DELIMITERS, key=header.count)


def _csv_entry(place: str, columns: Sequence[str], values: Sequence[str]) -> SourceRow:
    reason = ""
    if len(values) != len(columns):
        reason = f"{len(values)} values where the header has {len(columns)}"
    # strict=False: what is there still tells which row it is
    by_name = {k: v.strip() for k, v in zip(columns, values, strict=False)}
    return SourceRow(place, by_name, None, reason)


def _open_csv(path: Path, targets: Path | None, structure_column: str | None) -> ImportSource:
    _refuse_targets(path, targets)
    entries, columns = read_csv(path)
    column = _structure_column(path, columns, structure_column)
    if column is None:
        return ImportSource((path,), entries, columns, fetched=True)
    names = [entry.place for entry in entries]
    return ImportSource((path,), *_with_structures(entries, columns, column, names))


def _structure_column(path: Path, columns: Sequence[str], wish: str | None) -> str | None:
    if wish == "":
        return None
    if wish is not None and wish not in columns:
        raise DataError(f"{path} has no column {wish!r}. It has: {', '.join(columns)}.")
    named = {name.lower(): name for name in columns}
    return wish or next((named[name] for name in STRUCTURE_COLUMNS if name in named), None)


def _with_structures(
    entries: Sequence[SourceRow], columns: Sequence[str], column: str, names: Sequence[str]
) -> tuple[list[SourceRow], tuple[str, ...]]:
    """Reads the structures that lie in one column."""
    read = [
        SourceRow(
            entry.place,
            {key: value for key, value in entry.values.items() if key != column},
            None if entry.reason else _read_cell(entry.values.get(column), name),
            entry.reason,
        )
        for name, entry in zip(names, entries, strict=True)
    ]
    return read, tuple(name for name in columns if name != column)


def _read_cell(cell: Any, name: str) -> StructureRow:
    """A structure as a dict of pymatgen's, as JSON, or as the text of a CIF or POSCAR."""
    if isinstance(cell, str) and cell.lstrip().startswith("{"):
        try:
            cell = parse_json(cell)
        except ValueError as problem:
            return StructureRow(name, None, f"structure: not JSON ({problem})")
    if isinstance(cell, Mapping):
        return UnreadStructure(name, "jsonl", json.dumps({"structure": cell})).read()
    if isinstance(cell, str) and cell.strip():
        return UnreadStructure(name, "cif" if "_cell_length" in cell else "poscar", cell).read()
    return StructureRow(name, None, "no structure")


# --- pandas frames as JSON ----------------------------------------------------------------------


def _open_frame(path: Path, targets: Path | None, structure_column: str | None) -> ImportSource:
    _refuse_targets(path, targets)
    try:
        rows = list(_frame_rows(_read_json(path), structure_column))
    except (ValueError, TypeError, KeyError) as problem:
        raise DataError(f"{path} is no pandas frame: {problem}.") from None
    columns = _columns(row for _, row in rows)
    column = _structure_column(path, columns, structure_column)
    if column is None:
        raise DataError(
            f"{path} has no column of structures. It has: {', '.join(columns) or '(none)'}. "
            "Name it with --structure-column."
        )
    entries = [SourceRow(f"{path.name}, row {label}", row) for label, row in rows]
    read, others = _with_structures(entries, columns, column, [label for label, _ in rows])
    return ImportSource((path,), read, others, default_id=True)


def _read_json(path: Path) -> Any:
    try:
        frame = parse_json(read_text(path, strict=True))
        if isinstance(frame, dict) and isinstance(frame.get("data"), str):
            frame = parse_json(frame["data"])  # monty wraps the text that pandas writes
    except UNREADABLE as problem:
        raise DataError(f"{path} cannot be read as JSON: {problem}.") from None
    return frame


def _frame_rows(
    frame: Any, structure_column: str | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a frame, whichever `orient` of pandas' `to_json` it was written with."""
    if isinstance(frame, dict) and {"columns", "data"} <= frame.keys():  # split, as matminer has it
        labels = frame.get("index") or range(len(frame["data"]))
        for label, values in zip(labels, frame["data"], strict=True):
            yield str(label), dict(zip(map(str, frame["columns"]), values, strict=True))
        return
    if isinstance(frame, dict) and isinstance(frame.get("data"), list):  # table
        frame = frame["data"]
    if isinstance(frame, list) and all(isinstance(row, dict) for row in frame):  # records
        yield from ((str(number), row) for number, row in enumerate(frame, start=1))
    elif isinstance(frame, dict) and all(isinstance(part, dict) for part in frame.values()):
        wanted = {structure_column, *STRUCTURE_COLUMNS}
        inner = {key for part in frame.values() for key in part}
        if wanted & inner and not wanted & frame.keys():  # index
            yield from frame.items()
        else:  # columns
            for label in dict.fromkeys(key for part in frame.values() for key in part):
                yield label, {name: column.get(label) for name, column in frame.items()}
    else:
        raise ValueError("expected what DataFrame.to_json writes, with names of columns")


# --- pickles ----------------------------------------------------------------------------------


def _open_pickles(path: Path, targets: Path | None) -> ImportSource:
    """A pair as published: `<name>.pkl` and `structures_<name>.pkl`, either of them named."""
    structures = path
    if not path.name.startswith("structures_") and targets is None:
        structures, targets = path.with_name(f"structures_{path.name}"), path
    elif targets is None:
        targets = path.with_name(path.name.removeprefix("structures_"))
    for file in (structures, targets):
        if not file.is_file():
            raise DataError(
                f"{file} does not exist. Pickles come in pairs, NAME.pkl with the targets and "
                "structures_NAME.pkl; give the second as the source and the first with --targets."
            )
    table = read_pickled_table(targets)
    crystals = read_pickled_structures(structures)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    if len(rows) != len(crystals):
        raise DataError(
            f"{targets} has {len(rows)} targets but {structures} has {len(crystals)} structures, "
            "so they cannot be paired."
        )
    is_list = "" in table
    entries = [
        SourceRow(
            f"{targets.name}, row {number}",
            {"target": row[""]} if is_list else row,
            _row_of_mapping(str(number), crystal),
        )
        for number, (row, crystal) in enumerate(zip(rows, crystals, strict=True), start=1)
    ]
    columns = ("target",) if is_list else tuple(table)
    return ImportSource((structures, targets), entries, columns, default_id=is_list)


def _row_of_mapping(name: str, crystal: Mapping[str, Any]) -> StructureRow:
    return UnreadStructure(name, "jsonl", json.dumps(crystal)).read()
