"""The table of measured κ: one line per crystal, read and turned into raw rows."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.plugin import DataError, Locations, did_you_mean, shipped
from harness_experiment.prototypes import PROTOTYPES, Prototype

COLUMNS = (
    "formula",
    "prototype",
    "space_group",
    "a",
    "c",
    "u",
    "kappa",
    "checked",
    "source",
    "note",
)
"""Lattice parameters a and c in Å, u fractional, κ in W/(m·K) at 300 K."""

_ELEMENT = re.compile(r"([A-Z][a-z]?)(\d*)")
_SITE_NOTE = re.compile(r"at \(0,(?P<y>\d*\.\d+),(?P<z>\d*\.\d+)\)")


@dataclass(frozen=True)
class ExperimentRow:
    """One line of the table.

    Attributes:
        place: file, line and formula, for messages.
        cells: text by column.
    """

    place: str
    cells: dict[str, str]

    @property
    def prototype(self) -> Prototype:
        """The structure type named in the line."""
        name = self.cells["prototype"]
        if name not in PROTOTYPES:
            raise self._error("prototype", f"unknown {name!r}.{did_you_mean(name, PROTOTYPES)}")
        return PROTOTYPES[name]

    @property
    def elements(self) -> list[str]:
        """Elements in the order of the formula, whose numbers must be those of the prototype."""
        formula = self.cells["formula"]
        found = _ELEMENT.findall(formula)
        counts = tuple(int(number or 1) for _, number in found)
        if "".join(map("".join, found)) != formula or counts != self.prototype.counts:
            wanted = ":".join(map(str, self.prototype.counts))
            raise self._error(
                "formula",
                f"{formula!r} does not fit the prototype {self.cells['prototype']!r}, which wants "
                f"elements in the ratio {wanted}",
            )
        return [symbol for symbol, _ in found]

    def parameter(self, name: str) -> float:
        """A lattice parameter (Å) or fractional coordinate of the prototype."""
        if name not in ("y", "z"):
            return self.number(name)
        # the table has one column for one free coordinate; a second one is in the note
        site = _SITE_NOTE.search(self.cells["note"])
        if site is None:
            raise self._error("note", "expected the free site, as 'Sb at (0,0.335,0.158)'")
        return float(site[name])

    def number(self, column: str) -> float:
        """The positive number in a column."""
        text = self.cells[column]
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise self._error(column, f"expected a positive number, found {text!r}")
        return value

    def _error(self, column: str, problem: str) -> DataError:
        return DataError(f"{self.place}, column {column!r}: {problem}")


def read_entries(path: Path) -> Iterator[ExperimentRow]:
    """Reads the lines of a table.

    Raises:
        DataError: the header is not `COLUMNS`, or a line has more or fewer cells.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        if tuple(header) != COLUMNS:
            raise DataError(
                f"{path.name}, line 1: expected the columns {', '.join(COLUMNS)}; "
                f"found {', '.join(header) or 'none'}"
            )
        for values in lines:
            place = f"{path.name}, line {lines.line_num} ({values[0] if values else ''})"
            if len(values) != len(COLUMNS):
                raise DataError(f"{place}: expected {len(COLUMNS)} cells, found {len(values)}")
            yield ExperimentRow(place, dict(zip(COLUMNS, values, strict=True)))


def load_rows(
    prototypes: Collection[str], _locations: Locations, path: Path | None = None
) -> list[dict[str, Any]]:
    """Builds the crystals of some prototypes.

    Args:
        prototypes: those to keep; a line with a name that is not a prototype at all is an error.
        _locations: not looked at, since the table travels with the package.
        path: a table with the columns of the embedded one, which it replaces.

    Returns:
        Raw rows: `id`, `kappa` in W/(m·K), `lattice` in Å, `species`, `frac_coords`, and, as they
        stand in the table, `formula`, `prototype`, `space_group`, `checked` (`yes` where κ was
        re-read in a source), `source` and `note`.

    Raises:
        DataError: a prototype, formula, lattice parameter or κ is missing or wrong; the message
            names line and column.
    """
    entries = read_entries(path or shipped("datasets/experiment.csv"))
    # looking up every line's prototype, wanted or not, lets none vanish through a misspelling
    wanted = [PROTOTYPES[name] for name in prototypes]
    return [_raw_row(entry) for entry in entries if entry.prototype in wanted]


def _raw_row(entry: ExperimentRow) -> dict[str, Any]:
    prototype, cells = entry.prototype, entry.cells
    parameters = {name: entry.parameter(name) for name in prototype.parameters}
    try:
        crystal = prototype.build(entry.elements, parameters)
    except ValueError as problem:
        raise DataError(f"{entry.place}: {problem}") from None
    kept = ("formula", "prototype", "space_group", "checked", "source", "note")
    return {
        "id": f"{cells['formula']}-{cells['prototype'].replace(' ', '-')}",
        "kappa": entry.number("kappa"),
        "lattice": crystal.lattice.tolist(),
        "species": list(crystal.species),
        "frac_coords": crystal.frac_coords.tolist(),
        **{column: cells[column] for column in kept},
    }
