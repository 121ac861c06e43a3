"""What a value that somebody asks for stands for among the cells of a leaderboard: decided here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from harness.errors import BenchmarkError, did_you_mean

Cells = Sequence[Mapping[str, str]]

_NEXT_COLUMN = re.compile(r"\s*[\w-]+\s*=")


def cut_conditions(text: str) -> list[str]:
    """Cuts `head=gp(noise=1, kernel=rbf), transfer=fixed` into its conditions.

    At commas that a column follows, outside brackets: labels have commas of their own.
    """
    parts, depth = [""], 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0 and _NEXT_COLUMN.match(text, place + 1):
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def is_condition(text: str) -> bool:
    """Whether a text begins like a condition, `column=…`; labels may hold such a sign, too."""
    return bool(_NEXT_COLUMN.match(text))


def read_conditions(text: str) -> dict[str, str]:
    """Returns the conditions of a text, by column; none where it names no column, as a label.

    Raises:
        BenchmarkError: one has no value.
    """
    pairs = [part.partition("=") for part in cut_conditions(text)]
    if len(pairs) == 1 and not is_condition(text):
        return {}
    for column, _, value in pairs:
        if not value.strip():
            raise BenchmarkError(f"{text!r}: expected {column.strip()}=value.")
    return {column.strip().replace("-", "_"): value.strip() for column, _, value in pairs}


def name_of(label: str) -> str:
    """Returns what a label begins with: a name without settings, view or trials."""
    return re.split(r"\(| \[|, ", label)[0]


def values_named(value: str, have: Iterable[str]) -> list[str]:
    """Returns the values of a column that a text names, in their order; each once.

    A name alone, as `two-stage`, names all of its settings; with `()` the one without any.
    """
    return [one for one in dict.fromkeys(have) if value in (one, name_of(one), f"{one}()")]


def find_values(column: str, value: str, cells: Cells, whose: str = "") -> list[str]:
    """Returns the values of a column of cells that a text names; at least one.

    Args:
        column: of the cells.
        value: what is asked for.
        cells: those to look at.
        whose: of which leaderboard, for the error, as ` of 'strict'`.

    Raises:
        BenchmarkError: cells have no such column, or none has such a value in it.
    """
    columns = list(cells[0]) if cells else []
    if cells and column not in columns:
        raise BenchmarkError(f"Cells have no column {column!r}.{did_you_mean(column, columns)}")
    have = [cell[column] for cell in cells]
    if found := values_named(value, have):
        return found
    names = dict.fromkeys(name for one in have for name in (one, name_of(one)))
    raise BenchmarkError(f"No cell{whose} has {column} {value!r}.{did_you_mean(value, names)}")


def find_one_each(named: Mapping[str, str], cells: Cells, whose: str = "") -> dict[str, str]:
    """Returns the one value of each column that texts name together.

    Of several, those remain that some cell has together with the others that are named; then one
    that is named in full.

    Raises:
        BenchmarkError: there is no such cell, or several values remain.
    """
    wanted = {column: find_values(column, value, cells, whose) for column, value in named.items()}
    fitting = [cell for cell in cells if all(cell[c] in have for c, have in wanted.items())]
    if not fitting:
        told = ", ".join(f"{column}={value}" for column, value in named.items())
        raise BenchmarkError(f"No cell{whose} has all of {told}.")
    left = {column: list(dict.fromkeys(cell[column] for cell in fitting)) for column in named}
    chosen = {
        column: [named[column]] if named[column] in have else have for column, have in left.items()
    }
    several = {column: have for column, have in chosen.items() if len(have) > 1}
    if several:
        told = "; ".join(f"{column}: {', '.join(have)}" for column, have in several.items())
        raise BenchmarkError(f"Several{whose} have what is named. Name one of each: {told}.")
    return {column: have[0] for column, have in chosen.items()}


def expand_only(only: Mapping[str, Sequence[str]], cells: Cells) -> dict[str, list[str]]:
    """Returns the values of cells that are to be kept, by column.

    Raises:
        BenchmarkError: as `find_values`.
    """
    return {
        column: [own for value in values for own in find_values(column, value, cells)]
        for column, values in only.items()
    }
