"""From files of the user to a dataset that every benchmark can name.

What the files do not say (columns, unit, temperature, method) is given, or asked for; nothing of it
is guessed but the names of columns, and those are reported. Rows that cannot be used are left out
by name and reason, and a dataset appears as a whole or not at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.apps.imports.import_sources import (
    QUERY_ID,
    ImportSource,
    SourceRow,
    open_query,
    open_source,
    strip_ending,
)
from harness.apps.imports.imported import RejectedRow, imported_datasets, write_imported
from harness.data.dataset import Dataset, factor_of
from harness.data.materials.project import QUERY_PREFIX, Fetched, fetch_materials
from harness.data.materials.server import Service
from harness.data.row_checks import usable_target
from harness.data.structure_files import StructureRow
from harness.errors import DataError
from harness.plugin.crystal import Crystal
from harness.plugin.dataset import Card
from harness.plugin.locations import Locations
from harness.plugin.property import THERMAL_CONDUCTIVITY, PropertySpec
from harness.reading import parse_number
from harness.registry.registry import Registry
from harness.registry.validation import NAME

ID_COLUMNS = "id material_id mp_id mpid mpd_id mp-id structure_id cif_id file filename".split()
"""Columns that are taken for the id where none is named, in this order."""

TARGET_COLUMN = "target"
"""A column that is taken for the target where none is named, nor called as the property is."""

TEMPERATURE_COLUMN = re.compile(
    r"(t|temp|temperature)([ _]*[\[(]?(k|kelvin)[\])]?)?", re.IGNORECASE
)
"""Columns that say at which temperature, in K, a row's value holds."""

MATERIALS_PROJECT_COLUMNS = frozenset("material_id mp_id mpid mpd_id mp-id".split())
"""Columns whose plain numbers are ids of the Materials Project without their prefix."""

UNKNOWN = "unknown"

QUERY_METHOD = "computed by the Materials Project (density functional theory)"
"""How values of a query were obtained, unless that is said."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the files do not say; None where it is not known yet.

    Attributes:
        id_column: names the rows; "" where the source names them by itself.
        target_column: holds the values of the property.
        unit: of these, one that the property knows.
        temperature: in K, or "unknown".
        method: how they were measured or computed.
    """

    id_column: str | None = None
    target_column: str | None = None
    unit: str | None = None
    temperature: str | None = None
    method: str | None = None


@dataclass(frozen=True)
class Question:
    """Something that neither the files nor the user have said.

    Attributes:
        field: of `Answers`.
        text: for a person.
        choices: one of which is expected; empty where anything is.
        shown: those of the choices that are named.
        default: offered to a person, never taken without asking.
    """

    field: str
    text: str
    choices: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    default: str | None = None

    @property
    def option(self) -> str:
        """Of the command line."""
        return f"--{self.field.replace('_', '-')}"

    def check(self, answer: str) -> str:
        """Returns the answer as it is kept.

        Raises:
            DataError: it is not one of the choices, or no temperature.
        """
        text = answer.strip()
        if self.choices and text not in self.choices:
            wanted = f"expected one of {', '.join(self.shown)}, for the {self.text}"
            raise DataError(f"{self.option} {text!r}: {wanted}.")
        if self.field == "temperature" and text != UNKNOWN and not _is_positive(text):
            raise DataError(f"{self.option} {text!r}: expected a number of kelvin, or {UNKNOWN}.")
        if not text and self.field != "id_column" and text not in self.choices:
            raise DataError(f"{self.option} is empty: expected the {self.text}.")
        return text


@dataclass(frozen=True, eq=False, slots=True)
class _UsableRow:
    """A row that is imported; its target in the unit of the source."""

    id: str
    target: float
    crystal: Crystal


@dataclass(frozen=True, eq=False)
class Imported:
    """What came of an import.

    Attributes:
        dataset: as every benchmark will see it.
        folder: where it lies.
        rejected: rows that were left out.
        remarks: what a user should know, a line each.
    """

    dataset: Dataset
    folder: Path
    rejected: tuple[RejectedRow, ...]
    remarks: tuple[str, ...]


Ask = Callable[[Question], str]


def import_dataset(
    name: str,
    source: Path | str,
    *,
    targets: Path | str | None = None,
    structure_column: str | None = None,
    id_column: str | None = None,
    target_column: str | None = None,
    property_name: str = THERMAL_CONDUCTIVITY,
    unit: str | None = None,
    temperature: float | str | None = None,
    method: str | None = None,
    facts: Mapping[str, str] | None = None,
    overwrite: bool = False,
    strict_data: bool = False,
    locations: Locations | None = None,
    plugins: Sequence[Path] = (),
    ask: Ask | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> Imported:
    """Makes a dataset of files; from then on every benchmark can name it.

    Args:
        name: of the dataset; no plugin may have it already.
        source: see `harness.apps.imports.import_sources`; or a query of the Materials Project, as
            "mp:elements=Ga+N", which gives structures and what it has of the property.
        targets: a CSV (for pickles: a pickle) with the values, where `source` has structures alone.
        structure_column: of a frame or CSV, where its name does not tell.
        id_column: names the rows; recognised where its name is one of `ID_COLUMNS`.
        target_column: the values; recognised where it is called as the property's column, one of
            its aliases, or `TARGET_COLUMN`.
        property_name: of what is imported.
        unit: of the values, one that the property knows.
        temperature: in K, or "unknown"; of a property whose values hold at a temperature.
        method: how they were measured or computed.
        facts: further keys of the card: title, notes, url, licence, citation.
        overwrite: put it in the place of an imported dataset of that name.
        strict_data: refuse the source where a row cannot be used.
        locations: where datasets are put, and the cache of the Materials Project.
        plugins: Python files whose datasets count too.
        ask: is asked for what is missing; without it that is an error.
        told: is called with what is going on, a line each time.

    Raises:
        DataError: the name is taken; a file cannot be read; something is missing that must be
            said; no row can be used, or one cannot and `strict_data` was asked for.
    """
    locations = locations or Locations()
    registry = Registry(plugins)
    spec = registry.properties[property_name]
    _check_name(name, registry, locations, overwrite)
    given = Answers(
        id_column=id_column,
        target_column=target_column,
        unit=unit,
        temperature=None if temperature is None else str(temperature),
        method=method,
    )
    if str(source).startswith(QUERY_PREFIX):
        given = _answer_for_query(given, spec, registry, targets or structure_column)
        service = Service(told=told)
        opened = open_query(str(source), spec.materials_project, locations, service)
    else:
        opened = open_source(Path(source), Path(targets) if targets else None, structure_column)
    answers = _settle(given, opened, spec, ask)
    fetched = _fetch(opened, answers, locations, told)
    rows, rejected = _sort(name, opened, answers, spec, fetched)
    if not rows or (strict_data and rejected):
        raise DataError(_refusal(name, rows, rejected))
    remarks = (*_remarks(answers, given, fetched), *_doubts(opened, rows))
    card = _card(name, opened, answers, spec, len(rows), fetched, facts or {})
    lines = (_neutral(row, spec) for row in rows)
    folder = write_imported(name, card, lines, rejected, locations, overwrite=overwrite)
    dataset = _dataset(name, card, spec, rows)
    return Imported(dataset, folder, tuple(rejected), remarks)


def _answer_for_query(
    given: Answers, spec: PropertySpec, registry: Registry, elsewhere: Path | str | None
) -> Answers:
    """Completes what was given with what is known of the Materials Project.

    Raises:
        DataError: it has nothing of the property, or was given what its documents say themselves.
    """
    if not spec.materials_project:
        known = (one.name for one in registry.properties.values() if one.materials_project)
        raise DataError(
            f"The Materials Project has no field for {spec.title}. Of these properties it has "
            f"values: {', '.join(known)}. Choose one with --property."
        )
    if elsewhere or given.id_column or given.target_column:
        raise DataError(
            "What the Materials Project answers to a query has the structures, the values and the "
            "ids in it: leave --targets and the options for columns out."
        )
    if given.unit is not None and spec.factor(given.unit) != 1:
        raise DataError(
            f"--unit {given.unit!r}: the Materials Project has {spec.title} in {spec.unit}. Leave "
            "the option out."
        )
    return replace(
        given,
        id_column=QUERY_ID,
        target_column=spec.materials_project,
        unit=spec.unit,
        method=QUERY_METHOD if given.method is None else given.method,
    )


def _check_name(name: str, registry: Registry, locations: Locations, overwrite: bool) -> None:
    if not NAME.fullmatch(name):
        raise DataError(
            f"{name!r} cannot be the name of a dataset: expected letters and digits, and . + - _ "
            "inside it."
        )
    mine = name in {spec.name for spec in imported_datasets(locations)}
    if mine and not overwrite:
        raise DataError(
            f"A dataset {name!r} was imported already, into {locations.imports / name}. Choose "
            "another name, or put this one in its place with --replace."
        )
    if not mine and (name in registry.datasets or name in registry.datasets.contested):
        owner = registry.datasets.owner(name)
        raise DataError(
            f"The plugin {owner!r} already offers a dataset {name!r}: choose another name."
        )


# --- what the files do not say ------------------------------------------------------------------


def _settle(given: Answers, source: ImportSource, spec: PropertySpec, ask: Ask | None) -> Answers:
    """Completes what was given from the names of columns, then by asking.

    Raises:
        DataError: something that was given is wrong, or something is missing and nobody to ask.
    """
    for question in _questions(source, spec):
        answer = getattr(given, question.field)
        if answer is not None:
            given = replace(given, **{question.field: question.check(answer)})
    has_unit = any(spec.known_units)
    found = replace(
        given,
        id_column=given.id_column or _recognise_id(source),
        target_column=given.target_column
        or next(iter(_recognise(source.columns, columns_of(spec))), None),
        unit=given.unit if has_unit else spec.unit,
        temperature=given.temperature or (None if spec.at_temperature else UNKNOWN),
    )
    if found.id_column is None and source.default_id:
        found = replace(found, id_column="")
    missing = [q for q in _questions(source, spec) if getattr(found, q.field) is None]
    if missing and ask is None:
        wanted = "".join(
            f"\n  {q.option}: {q.text}" + (f" ({', '.join(q.shown)})" if q.shown else "")
            for q in missing
        )
        raise DataError(f"{source.place} does not say all that is needed. Give:{wanted}")
    for question in missing:
        assert ask is not None
        found = replace(found, **{question.field: question.check(ask(question))})
    return found


def columns_of(spec: PropertySpec) -> tuple[str, ...]:
    """Columns that are taken for values of a property where none is named, in this order."""
    return (spec.column, *spec.aliases, TARGET_COLUMN)


def _questions(source: ImportSource, spec: PropertySpec) -> Iterator[Question]:
    columns = source.columns
    what = f"{spec.title} {spec.symbol}"
    yield Question("id_column", "column that names the rows", columns, columns)
    yield Question("target_column", f"column of {what}", columns, columns)
    known, shown = tuple(spec.known_units), tuple(unit or "''" for unit in spec.spellings)
    yield Question("unit", f"unit of {what}", known, shown, spec.unit)
    yield Question("temperature", f"temperature of {what} in K, or {UNKNOWN}", default="300")
    yield Question("method", "method by which it was measured or computed, in a few words")


def _recognise(columns: Sequence[str], known: Sequence[str]) -> list[str]:
    """Columns with known names, in the order of the names."""
    by_lower = {column.lower(): column for column in reversed(columns)}
    return [by_lower[name] for name in known if name in by_lower]


def _recognise_id(source: ImportSource) -> str | None:
    """The column that names the rows: of several, the one by which most structures are found."""
    found = _recognise(source.columns, ID_COLUMNS)
    if source.fetched:
        found.sort(key=lambda column: column.lower() not in MATERIALS_PROJECT_COLUMNS)
    structures = source.structures
    if structures is None or not found:
        return next(iter(found), None)
    return max(
        found,
        key=lambda column: sum(
            structures.find(strip_ending(str(entry.values.get(column)))) is not None
            for entry in source.entries
        ),
    )


def _is_positive(text: str) -> bool:
    try:
        return 0 < parse_number(text) < math.inf
    except ValueError:
        return False


# --- rows -------------------------------------------------------------------------------------


def _fetch(
    source: ImportSource, answers: Answers, locations: Locations, told: Callable[[str], None]
) -> Fetched | None:
    if not source.fetched:
        return None
    ids = [_id(entry, answers) for entry in source.entries if not entry.reason]
    meant = [name for name in ids if name and not name.isdigit()]
    return fetch_materials(meant, locations, Service(told=told))


def _sort(
    name: str,
    source: ImportSource,
    answers: Answers,
    spec: PropertySpec,
    fetched: Fetched | None,
) -> tuple[list[_UsableRow], list[RejectedRow]]:
    """Tells usable rows from those that are not."""
    usable: dict[int, _UsableRow] = {}
    rejected: dict[int, RejectedRow] = {}
    temperature = _temperature_column(source, answers) if spec.at_temperature else None
    for number, entry in enumerate(source.entries):
        row_id = _id(entry, answers)
        if not row_id and (not answers.id_column or _is_database(source)):
            row_id = _own_id(name, number + 1, entry)
        try:
            if entry.reason:
                raise ValueError(entry.reason)
            if not row_id:
                raise ValueError("no id")
            if temperature:
                _check_temperature(entry.values.get(temperature), temperature, answers)
            usable[number] = _row(row_id, entry, source, answers, spec, fetched)
        except (ValueError, TypeError) as problem:
            rejected[number] = RejectedRow(entry.place, row_id, str(problem))
    for number, reason in _doubles(usable, source).items():
        row = usable.pop(number)
        rejected[number] = RejectedRow(source.entries[number].place, row.id, reason)
    listed = [rejected[number] for number in sorted(rejected)]
    return list(usable.values()), listed + list(_without_target(source, answers))


def _doubles(usable: Mapping[int, _UsableRow], source: ImportSource) -> dict[int, str]:
    """Which rows are left out because others have their id, and why.

    The first of equal ones stays; where values differ none does, for nothing says which is meant.
    """
    alike: dict[str, list[int]] = {}
    for number, row in usable.items():
        alike.setdefault(row.id, []).append(number)
    reasons: dict[int, str] = {}
    for first, *others in alike.values():
        if not others:
            continue
        values = dict.fromkeys(f"{usable[number].target:g}" for number in (first, *others))
        if len(values) > 1:
            differ = f"rows of this id have other values ({', '.join(values)}): leave one"
            reasons |= dict.fromkeys((first, *others), differ)
        else:
            same = f"duplicate id, as in {source.entries[first].place}"
            reasons |= dict.fromkeys(others, same)
    return reasons


def _temperature_column(source: ImportSource, answers: Answers) -> str | None:
    """The column that says at which temperature each value holds, if there is one.

    Raises:
        DataError: there is one, and it is not known at which temperature values are wanted.
    """
    named = [column for column in source.columns if TEMPERATURE_COLUMN.fullmatch(column.strip())]
    if not named or answers.target_column in named:
        return None
    values = {str(entry.values.get(named[0])) for entry in source.entries if not entry.reason}
    if answers.temperature == UNKNOWN and len(values) > 1:
        raise DataError(
            f"{source.place} has values at several temperatures (column {named[0]!r}): say "
            "with --temperature which of them are meant."
        )
    return None if answers.temperature == UNKNOWN else named[0]


def _check_temperature(value: Any, column: str, answers: Answers) -> None:
    """Refuses a row whose value holds at another temperature."""
    wanted = float(answers.temperature or "nan")
    try:
        found = parse_number(value) if isinstance(value, str) else float(value)
    except (ValueError, TypeError):
        raise ValueError(f"{column} is {value!r}, not a temperature") from None
    if not math.isclose(found, wanted, rel_tol=0.0, abs_tol=0.5):
        raise ValueError(f"{column} is {found:g} K, and values at {wanted:g} K are wanted")


def _row(
    row_id: str,
    entry: SourceRow,
    source: ImportSource,
    answers: Answers,
    spec: PropertySpec,
    fetched: Fetched | None,
) -> _UsableRow:
    assert answers.target_column is not None
    assert answers.unit is not None
    column = answers.target_column
    target = usable_target(entry.values.get(column), column, spec, spec.factor(answers.unit))
    structure = _structure(row_id, entry, source, fetched)
    if structure.crystal is None:
        raise ValueError(structure.reason)
    return _UsableRow(row_id, target, structure.crystal)


def _neutral(row: _UsableRow, spec: PropertySpec) -> dict[str, Any]:
    """A row as it is written."""
    return {
        "id": row.id,
        "formula": row.crystal.formula,
        spec.column: row.target,
        "lattice": row.crystal.lattice.tolist(),
        "species": list(row.crystal.species),
        "frac_coords": row.crystal.frac_coords.tolist(),
    }


def _dataset(name: str, card: Card, spec: PropertySpec, rows: Sequence[_UsableRow]) -> Dataset:
    """What was imported, as it will be read; its crystals have been looked at."""
    factor = factor_of(name, card, spec)
    return Dataset(
        name,
        card,
        spec,
        ids=tuple(row.id for row in rows),
        parts=(name,) * len(rows),
        numbers=tuple(range(1, len(rows) + 1)),
        targets=np.array([row.target * factor for row in rows]),
        crystals=tuple(row.crystal for row in rows),
    )


def _structure(
    row_id: str, entry: SourceRow, source: ImportSource, fetched: Fetched | None
) -> StructureRow:
    if fetched is not None:
        if row_id.isdigit():  # most likely the row's number, and mp-1 is somebody else
            return StructureRow(row_id, None, "a number is no id of the Materials Project: mp-…")
        crystal = fetched.found.get(row_id)
        return StructureRow(row_id, crystal, fetched.missing.get(row_id, ""))
    if source.structures is None:
        return entry.structure or StructureRow(row_id, None, "no structure")
    found = source.structures.find(row_id)
    return found or StructureRow(row_id, None, f"no structure of that name in {source.files[0]}")


def _without_target(source: ImportSource, answers: Answers) -> Iterator[RejectedRow]:
    """Structures of a folder that no row of the table asks for."""
    if source.structures is None:
        return
    named = {_id(entry, answers) for entry in source.entries}
    meant = {row.id for name in named if (row := source.structures.find(name))}
    for name in source.structures.rows:
        if name not in meant:
            yield RejectedRow(str(source.files[0]), name, f"no row in {source.files[-1].name}")


def _id(entry: SourceRow, answers: Answers) -> str:
    column = answers.id_column or ""
    value = entry.values.get(column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with a gap in it
    text = "" if value is None else str(value).strip()
    if text.isdigit() and column.lower() in MATERIALS_PROJECT_COLUMNS:
        return f"mp-{text}"
    return strip_ending(text)


def _is_database(source: ImportSource) -> bool:
    """Whether rows have a number of their own, though only some may have a key `id`."""
    return source.files[0].suffix == ".db"


def _own_id(name: str, number: int, entry: SourceRow) -> str:
    """What a row is called in a source that has no ids: the place in it tells."""
    own = entry.structure.id if entry.structure else ""
    return f"{name}-{own or number}" if own.isdigit() or not own else own


def _refusal(name: str, rows: Sequence[Any], rejected: Sequence[RejectedRow]) -> str:
    shown = 10
    lines = [f"  {r.place} ({r.id or 'no id'}): {r.reason}" for r in rejected[:shown]]
    more = f"\n  … and {len(rejected) - shown} more" if len(rejected) > shown else ""
    why = f"{len(rejected)} rows cannot be used" if rows else "no row can be used"
    return f"Nothing was imported as {name!r}: {why}.\n" + "\n".join(lines) + more


# --- what is told about it ----------------------------------------------------------------------


def _remarks(answers: Answers, given: Answers, fetched: Fetched | None) -> Iterator[str]:
    for field in ("id_column", "target_column"):
        chosen = getattr(answers, field)
        if chosen and getattr(given, field) is None:
            yield f"{field.replace('_', ' ')}: {chosen}"
    if fetched is None:
        return
    for asked, now in fetched.moved.items():
        yield f"{asked} is called {now} now"
    for material in sorted(fetched.deprecated):
        yield f"{material} has been withdrawn by the Materials Project (deprecated)"


def _doubts(source: ImportSource, rows: Sequence[_UsableRow]) -> Iterator[str]:
    """What in the files of rows that are used gives rise to doubt."""
    if source.structures is not None:
        structures = [source.structures.find(row.id) for row in rows]
    else:
        structures = [entry.structure for entry in source.entries]
    for structure in structures:
        if structure is not None and structure.crystal is not None:
            yield from (f"{structure.id}: {remark}" for remark in structure.remarks)


def _card(
    name: str,
    source: ImportSource,
    answers: Answers,
    spec: PropertySpec,
    rows: int,
    fetched: Fetched | None,
    facts: Mapping[str, str],
) -> Card:
    assert answers.unit is not None
    assert answers.temperature is not None
    content: dict[str, Any] = {
        "title": f"{name}: {source.title}",
        **{key: value for key, value in facts.items() if value},
        "notes": "\n".join(filter(None, (facts.get("notes", ""), _origin(source, fetched)))),
        "property": spec.name,
        "unit": next(
            unit for unit in spec.spellings if spec.factor(unit) == spec.factor(answers.unit)
        ),
        "method": answers.method,
        "rows": rows,
    }
    if answers.temperature != UNKNOWN:
        content["temperature_kelvin"] = float(answers.temperature)
    try:
        return Card.model_validate(content)
    except ValidationError as problem:
        raise DataError(f"The card of {name!r} cannot be written: {problem}") from None


def _origin(source: ImportSource, fetched: Fetched | None) -> str:
    """Says where a dataset comes from, in a sentence."""
    project = "the Materials Project, version"
    if source.query:
        return f"Imported from {project} {', '.join(source.versions)}, asked for {source.query}."
    origin = "Imported from " + " and ".join(_name_with_digest(file) for file in source.files)
    if fetched is not None:
        origin += f"; structures from {project} {', '.join(fetched.versions)}"
    return f"{origin}."


def _name_with_digest(path: Path) -> str:
    if path.is_dir():
        return f"{path.resolve().name}/"
    return f"{path.name} (sha256 {sha256(path.read_bytes()).hexdigest()[:16]})"
