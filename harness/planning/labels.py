"""Short names of configurations: those that a benchmark gives, and others made of what differs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.errors import BenchmarkError, did_you_mean
from harness.planning.selectors import find_values, name_of, read_conditions
from harness.plugin.cell import BASELINE, CELL, COMMITTEE, DEFAULT, FIXED

Configuration = tuple[str, ...]
"""What tells a configuration from others, whatever it is trained and tested on; see `MODEL`."""

MODEL = tuple(column for column in CELL if column not in ("train_on", "test_on"))
"""The columns of a cell that make its configuration."""

LABEL = "model"
"""Stands among the columns of cells where configurations are named by their labels."""

UNSAID = (BASELINE, FIXED, COMMITTEE, DEFAULT)
"""Words of cells that tell nobody which model it is."""

ORDER = ("backbone", "head", "transfer", "tuning", "protocol")
"""In which words follow one another."""


def configuration_of(cell: Mapping[str, str]) -> Configuration:
    """Returns the configuration of a cell."""
    return tuple(cell[column] for column in MODEL)


def make_labels(
    cells: Iterable[Mapping[str, str]], given: Mapping[str, str]
) -> dict[Configuration, str]:
    """Names the configurations of some cells, each differently.

    Args:
        cells: at least the columns of `MODEL` of each.
        given: the labels of a benchmark, each with the conditions that it stands for.

    Raises:
        BenchmarkError: a given label fits no configuration, or several.
    """
    named = {configuration_of(cell): cell for cell in cells}
    labels = _derive(list(named.values()))
    ways = {_way(cell) for cell in named.values()}
    for label, text in given.items():
        fitting = find_configurations(read_conditions(text) or {"head": text}, named)
        found = {_way(named[own]) for own in fitting}
        if not fitting or len(found) < len(fitting):
            told = "".join(f"\n  {labels[own]}" for own in fitting)
            count = "several configurations" if fitting else "no configuration"
            raise BenchmarkError(f"labels: {label!r} stands for {count}: {text!r}.{told}")
        for own in fitting:
            apart = [word for word in _way(named[own]) if word != DEFAULT] if len(ways) > 1 else []
            labels[own] = " ".join((label, *apart))
    for label, times in Counter(labels.values()).items():
        if times > 1:
            raise BenchmarkError(f"labels: {label!r} names two configurations.")
    return labels


def _way(cell: Mapping[str, str]) -> tuple[str, str]:
    """In which ways one and the same model may stand in a leaderboard."""
    return cell["tuning"], cell["protocol"]


def find_configurations(
    conditions: Mapping[str, str], named: Mapping[Configuration, Mapping[str, str]]
) -> list[Configuration]:
    """Returns the configurations that meet conditions by column, as selectors are understood.

    Raises:
        BenchmarkError: there is no such column, or nothing that has such a value in it.
    """
    cells = [{column: cell[column] for column in MODEL} for cell in named.values()]
    wanted = {column: find_values(column, text, cells) for column, text in conditions.items()}
    return [
        own
        for own, cell in named.items()
        if all(cell[column] in values for column, values in wanted.items())
    ]


def find_labelled(text: str, labels: Mapping[Configuration, str]) -> Configuration:
    """Returns the one configuration that a label, or conditions by column, name.

    Raises:
        BenchmarkError: none is called so, or several meet the conditions; candidates are listed.
    """
    by_label = {label: own for own, label in labels.items()}
    if text in by_label:
        return by_label[text]
    conditions = read_conditions(text)
    if not conditions:
        raise BenchmarkError(f"No configuration is called {text!r}.{did_you_mean(text, by_label)}")
    named = {own: dict(zip(MODEL, own, strict=True)) for own in labels}
    fitting = find_configurations(conditions, named)
    if len(fitting) == 1:
        return fitting[0]
    told = ", ".join(labels[own] for own in fitting or labels)
    count = f"Several configurations meet {text!r}" if fitting else f"None meets {text!r}"
    raise BenchmarkError(f"{count}; there {'are' if fitting else 'are only'}: {told}.")


# --- of what differs --------------------------------------------------------------------------


def _derive(cells: Sequence[Mapping[str, str]]) -> dict[Configuration, str]:
    """Names each by the words in which it differs, with settings where words are not enough."""
    columns = [c for c in ORDER if len({cell[c] for cell in cells}) > 1] or ["transfer"]
    groups: dict[str, list[Mapping[str, str]]] = {}
    for cell in cells:
        groups.setdefault(_words(cell, columns, cells), []).append(cell)
    labels: dict[Configuration, str] = {}
    for words, alike in groups.items():
        for cell in alike:
            settings = _settings_apart(cell, alike) if len(alike) > 1 else ""
            labels[configuration_of(cell)] = f"{words} ({settings})" if settings else words
    counts = Counter(labels.values())
    whole = {own: " · ".join(part for part in own if part != DEFAULT) for own in labels}
    return {own: label if counts[label] == 1 else whole[own] for own, label in labels.items()}


def _words(
    cell: Mapping[str, str], columns: Sequence[str], cells: Sequence[Mapping[str, str]]
) -> str:
    """The names of its parts without their settings, but for what says nothing of the model.

    A trained backbone with the same head throughout is named alone, and so is a head in closed
    form that stands on one backbone only.
    """
    known, spare = ("head", "backbone") if cell["transfer"] in UNSAID else ("backbone", "head")
    alike = {name_of(one[spare]) for one in cells if name_of(one[known]) == name_of(cell[known])}
    said = [c for c in columns if c != spare or len(alike) > 1 or known not in columns]
    names = (cell[c] if c in ("tuning", "protocol") else name_of(cell[c]) for c in said)
    return " ".join(name for name in names if name not in UNSAID) or cell["transfer"]


def _settings_apart(cell: Mapping[str, str], alike: Sequence[Mapping[str, str]]) -> str:
    """The settings in which a cell differs from others with the same words."""
    own = _settings(cell)
    others = [_settings(other) for other in alike]
    apart = [key for key in own if len({other.get(key) for other in others}) > 1]
    return ", ".join(own[key] for key in apart)


def _settings(cell: Mapping[str, str]) -> dict[str, str]:
    """Settings by column and key, as `{"transfer source": "source=AFLOW"}`."""
    found: dict[str, str] = {}
    for column in ORDER:
        inside = re.fullmatch(r"[^(]*\((.*)\)", cell[column])
        for part in re.split(r", (?=[\w-]+=)", inside[1]) if inside else ():
            key, _, value = part.partition("=")
            found[f"{column} {key}"] = value if key in ("source", "sources", "of") else part
    return found
