"""Tables of the pages as plain data: columns, entries, and the shade that a number is given."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from harness.planning.benchmark import flatten
from harness.report.tables import direction

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec

Kind = Literal["name", "number", "text", "rank"]
Better = Literal["", "higher", "lower"]

SHADES = 9
"""Steps of the colour scale, as many as the style sheet has: one hue, so that the order is the same
with every kind of colour vision."""

PAPER = r"(?:doi )?(10\.\d{4,}/[\w./()-]*\w)|arXiv[: ](\d{4}\.\d{4,5})"
"""A paper, named by its DOI or arXiv number."""

SPECIAL = re.compile(r"[&<>\"']")
"""What text of a page may not hold as it is."""

LETTERS = 3
"""Marks that are longer are words, and stand on a line of their own."""

P_SHOWN = 0.001
"""A p-value below this is only said to be that."""

TITLES = {"train_on": "trained on", "test_on": "tested on", "n_min": "fewest rows"}
"""Headings of columns that are not called by their own name."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        kind: a `name` tells rows apart and can be filtered by, a `number` is aligned on the right,
            a `text` is neither, a `rank` is told anew whenever the rows are sorted.
        better: which of its numbers is better, and comes first when it is first sorted by.
        hidden: shown only once a reader asks for it.
    """

    title: str
    kind: Kind = "text"
    better: Better = ""
    hidden: bool = False

    @cached_property
    def label(self) -> str:
        """Its heading as an attribute of entries."""
        return _escaped(self.title)


class HtmlEntry(NamedTuple):
    """What stands in one place of a table: a tuple, made four times as fast as a dataclass.

    Attributes:
        text: what is read.
        value: what a column of numbers is sorted by; None where there is no number, which comes
            last in either direction.
        href: the page that it leads to.
        shade: 0 (worst) to `SHADES` − 1 (best); None without colour.
        key: the cell whose score it is, where another metric can take its place.
        marks: what stands out about it, in letters or words (see `tables.legend`).
        rank: among those of the same train-on → test-on.
        home: whether it stands for its row, as a test on the dataset that was trained on does.
        tag: what it is, in a word beside it.
    """

    text: str
    value: float | None = None
    href: str = ""
    shade: int | None = None
    key: str = ""
    marks: str = ""
    rank: str = ""
    home: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: unique on its page, and the element's id.
        caption: what it shows.
        columns: names first.
        rows: as long as `columns`.
        groups: of each row, the group within which the best comes first unless a reader sorts
            otherwise; none where rows stay as they come.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[HtmlEntry, ...], ...]
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scale:
    """Colours for the values of one metric: each shade is given to equally many of them.

    By rank, not by size: one model that fails would otherwise leave a single colour to all others.

    Attributes:
        bounds: values between one shade and the next, increasing.
        higher_is_better: the direction of the metric.
        ranges: the least and the greatest value of every shade that a value has.
    """

    bounds: tuple[float, ...]
    higher_is_better: bool
    ranges: Mapping[int, tuple[float, float]]

    @classmethod
    def of(cls, values: Iterable[float], higher_is_better: bool) -> Scale:
        """Makes the scale of some values; those that are not finite do not count."""
        finite = sorted(value for value in values if math.isfinite(value))
        if not finite:
            return cls((), higher_is_better, {})
        bounds = tuple(np.quantile(finite, np.arange(1, SHADES) / SHADES).tolist())
        bare = cls(bounds, higher_is_better, {})
        found: dict[int, list[float]] = {}
        for value in finite:
            shade = bare.shade(value)
            if shade is not None:
                found.setdefault(shade, []).append(value)
        return replace(bare, ranges={n: (held[0], held[-1]) for n, held in found.items()})

    def shade(self, value: float) -> int | None:
        """Returns 0 (worst) to `SHADES` − 1 (best), or None for what is not finite."""
        if not math.isfinite(value):
            return None
        rank = bisect_left(self.bounds, value)
        return rank if self.higher_is_better else SHADES - 1 - rank

    def legend(self) -> tuple[HtmlEntry, ...]:
        """Returns one entry per shade that a value has, best first, with the values it holds."""
        return tuple(
            HtmlEntry(f"{low:.2f} – {high:.2f}" if low < high else f"{low:.2f}", shade=shade)
            for shade, (low, high) in sorted(self.ranges.items(), reverse=True)
        )


def title_of(column: str) -> str:
    """Returns the heading of a column."""
    return TITLES.get(column, column.replace("_", " "))


def better(spec: MetricSpec) -> Better:
    """Returns which way a metric is better."""
    return "higher" if spec.higher_is_better else "lower"


def metric_title(spec: MetricSpec) -> str:
    """Returns title, unit and direction of a metric, as headings have them."""
    unit = f" in {spec.unit}" if spec.unit else ""
    return f"{spec.title}{unit}, {direction(spec)}"


def number(value: Any, digits: int = 2, text: str | None = None) -> HtmlEntry:
    """Makes an entry of a number; one that is missing or not finite reads `—`."""
    if value is None or not math.isfinite(value):
        return HtmlEntry(text or "—")
    return HtmlEntry(text or f"{value:.{digits}f}", float(value))


def significant(value: Any, digits: int = 3) -> HtmlEntry:
    """Makes an entry of a number whose size may be anything, as κ."""
    if value is None or not math.isfinite(value):
        return HtmlEntry("—" if value is None or math.isnan(value) else "∞")
    rounded = float(f"{value:.{digits}g}")
    return HtmlEntry(f"{rounded:.{max(digits, 6)}g}", float(value))


def count(value: Any) -> HtmlEntry:
    """Makes an entry of a whole number, or of a mean of such."""
    return number(value, 0 if value is None or float(value).is_integer() else 1)


def counted(number_of: int, what: str) -> str:
    """Returns a number of things in words: `1 run`, `2 runs`."""
    return f"{number_of} {what}" if number_of == 1 else f"{number_of} {what}s"


def p_value(value: float) -> HtmlEntry:
    """Makes an entry of a p-value; a small one is not shown as nothing."""
    return number(value, 3, "< 0.001" if value < P_SHOWN else None)


def rows_html(table: Table, marked: bool = False) -> Markup:
    """Writes the rows of a table as elements: a template would take ten times as long.

    Args:
        table: the table.
        marked: whether its entries show what stands out about them.
    """
    groups = [f' data-group="{group}"' for group in table.groups] or [""] * len(table.rows)
    lines = []
    for group, row in zip(groups, table.rows, strict=True):
        entries = [entry_html(*pair, marked) for pair in zip(row, table.columns, strict=True)]
        lines.append(f"<tr{group}>{''.join(entries)}</tr>\n")
    return Markup("".join(lines))  # noqa: S704 — made of escaped text


def entry_html(entry: HtmlEntry, column: Column, marked: bool = False) -> str:
    """Writes an entry as an element of a row.

    Args:
        entry: the entry.
        column: where it stands.
        marked: whether it shows what stands out about it.
    """
    text = str(breakable(entry.text)) if column.kind == "name" else _escaped(entry.text)
    if entry.href:
        text = f'<a href="{_escaped(entry.href)}">{text}</a>'
    if entry.tag:
        text += f' <span class="tag">{_escaped(entry.tag)}</span>'
    hidden = " hidden" if column.hidden else ""
    if column.kind == "name":
        return f'<th scope="row" class="name"{hidden}>{text}</th>'
    shade = "" if entry.shade is None else f" s{entry.shade}"
    facts = f'class="{column.kind}{shade}"{hidden} data-label="{column.label}"'
    if column.kind == "number":
        facts += f' data-value="{"" if entry.value is None else f"{entry.value:.6g}"}"'
    if entry.key:
        facts += f' data-key="{_escaped(entry.key)}"'
    if entry.key and marked:
        facts += f' data-rank="{entry.rank}"{" data-home" if entry.home else ""}'
        words = " words" if len(entry.marks) > LETTERS else ""
        text += f'<span class="mark{words}">{_escaped(entry.marks)}</span>'
    return f"<td {facts}>{text}</td>"


def _escaped(text: str) -> str:
    """As `markupsafe.escape`, which takes longer over the usual text that needs nothing."""
    return str(escape(text)) if SPECIAL.search(text) else text


def breakable(text: str) -> Markup:
    """Lets the label of a configuration break before its settings."""
    return escape(text).replace("(", Markup("<wbr>("))


def prose(text: str) -> Markup:
    """Marks up text that people wrote for Markdown: of all that, only `code` is used."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def linked(text: str) -> Markup:
    """Marks up text as `prose`, with links to papers that it names by DOI or arXiv number."""
    found, end = Markup(""), 0
    for paper in re.finditer(PAPER, text):
        doi, number = paper.groups()
        address = f"https://doi.org/{doi}" if doi else f"https://arxiv.org/abs/{number}"
        found += prose(text[end : paper.start()])
        found += Markup('<a href="{}">{}</a>').format(address, paper[0])
        end = paper.end()
    return found + prose(text[end:])


def of_frame(name: str, caption: str, frame: pd.DataFrame, names: Sequence[str]) -> Table:
    """Makes a table of a frame of text, `names` being its columns of names.

    What reads as a number, or begins with one as `mean (std)` does, is sorted by it.
    """
    columns = tuple(
        Column(title_of(str(column)), "name" if column in names else "number") for column in frame
    )
    rows = tuple(
        tuple(
            HtmlEntry(str(value))
            if column.kind == "name"
            else HtmlEntry(str(value), leading(str(value)))
            for column, value in zip(columns, row, strict=True)
        )
        for row in frame.itertuples(index=False)
    )
    return Table(name, caption, columns, rows)


def leading(text: str) -> float | None:
    """Returns the number that a text begins with, if it does."""
    try:
        value = float(text.split(" ")[0])
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def flat(settings: Mapping[str, Any]) -> dict[str, str]:
    """Returns nested settings as text by dotted key; what is empty or None is left out."""
    values = flatten(settings)
    return {key: _plain(value) for key, value in values.items() if value not in (None, [], "")}


def compact_json(content: Any) -> str:
    """Returns what a script hands to a page, as JSON without spaces.

    Raises:
        ValueError: a number in it is not finite.
    """
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, text in flat(value).items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
