"""Tables in text: in a terminal of any width nothing in them is cut, and no word is broken."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

MARGIN, GAP = 1, 2
"""Columns of the screen left of a table, and between two of its columns."""

PROSE_AT_LEAST = 20
"""Columns of the screen below which free text is not squeezed."""

HEAD_AT_MOST = 0.5
"""Share of the width that the row head takes where not all columns fit beside it."""

BETWEEN = " · "
"""Stands between what is moved from the row head to a line of its own."""


@dataclass(frozen=True)
class TextColumn:
    """A column of a table.

    Attributes:
        title: its lines.
        entries: of every row; may have several lines.
        right: whether they end below one another.
        prose: whether they are free text, which is wrapped where there is no room.
        styles: of every entry, in rich's words; none where all are plain.
    """

    title: tuple[str, ...]
    entries: tuple[str, ...]
    right: bool = False
    prose: bool = False
    styles: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Columns of the screen that the widest line takes."""
        return max(_width(line) for text in (*self.title, *self.entries) for line in _lines(text))

    @property
    def narrowest(self) -> int:
        """Columns of the screen that it needs at least."""
        if not self.prose:
            return self.width
        return min(self.width, max(PROSE_AT_LEAST, *map(_width, self.title)))

    def only(self, rows: Sequence[int]) -> TextColumn:
        """The same column, of some rows."""
        styles = tuple(self.styles[row] for row in rows) if self.styles else ()
        return replace(self, entries=tuple(self.entries[row] for row in rows), styles=styles)

    def short_titled(self) -> TextColumn:
        """The same column, its title broken between words where it is wider than the entries."""
        words = " ".join(self.title).split()
        lines = (line for text in self.entries for line in _lines(text))
        widest = max(1, *map(_width, (*words, *lines)))
        return replace(self, title=tuple(textwrap.wrap(" ".join(words), widest)) or ("",))

    def wrapped(self, width: int) -> TextColumn:
        """The same column, its text wrapped between words; a word that is wider is folded."""
        return replace(self, entries=tuple(wrap(text, width) for text in self.entries))


@dataclass(frozen=True)
class TextTable:
    """A table whose first columns make the head of its rows.

    Attributes:
        columns: all of them.
        heads: how many make the row head, at least one.
        grouped: whether the head leaves out what the row above has too, with a free line between
            groups.
    """

    columns: tuple[TextColumn, ...]
    heads: int = 1
    grouped: bool = False

    def fits(self, width: int) -> bool:
        """Whether all of it finds room side by side."""
        return self._needs(0, range(self.heads, len(self.columns))) <= width

    def lines(self, width: int | None) -> Iterator[Text]:
        """Yields the lines of a table, and a free one after it.

        What does not fit beside one another goes below: first columns of the row head, the
        leftmost first, stand on lines of their own above the rows that share them; then columns
        that are left make further tables, each with the row head.

        Args:
            width: columns of the screen; None for no end of them.
        """
        moved = self._moved(width)
        places = list(range(self.heads, len(self.columns)))
        while True:
            shown = self._that_fit(moved, places, width)
            yield from self._block(moved, places[:shown], width)
            places = places[shown:]
            if not places:
                return

    def _moved(self, width: int | None) -> int:
        """How many columns of the row head do not stand in it."""
        places = range(self.heads, len(self.columns))
        if width is None:
            return 0
        for moved in range(self.heads):
            if self._needs(moved, places) <= width:
                return moved
        for moved in range(self.heads):
            if self._needs(moved, ()) <= HEAD_AT_MOST * width:
                return moved
        return self.heads - 1

    def _needs(self, moved: int, places: Sequence[int]) -> int:
        columns = [*self.columns[moved : self.heads], *(self.columns[place] for place in places)]
        indent = MARGIN + (GAP if moved else 0)
        return indent + sum(column.narrowest for column in columns) + GAP * (len(columns) - 1)

    def _that_fit(self, moved: int, places: Sequence[int], width: int | None) -> int:
        """How many further columns fit beside the row head; at least one, if there are any."""
        shown = len(places)
        while width is not None and shown > 1 and self._needs(moved, places[:shown]) > width:
            shown -= 1
        return shown

    def _block(self, moved: int, places: Sequence[int], width: int | None) -> Iterator[Text]:
        from rich.text import Text

        columns = [*self.columns[moved : self.heads], *(self.columns[place] for place in places)]
        columns = _squeezed(columns, None if width is None else width - MARGIN - GAP * bool(moved))
        widths = [column.width for column in columns]
        indent = " " * (MARGIN + (GAP if moved else 0))
        if moved:
            names = BETWEEN.join(" ".join(column.title) for column in self.columns[:moved])
            yield from _plain(f"{' ' * MARGIN}{names.strip()}")
        yield from _title_lines(columns, widths, indent)
        rule = sum(widths) + GAP * (len(widths) - 1)
        yield Text(indent + "─" * rule, "dim")
        for number, (heading, rows) in enumerate(self._sections(moved)):
            if number and (moved or self.grouped):
                yield Text("")
            if moved:
                folded = wrap(heading, (width or 0) - MARGIN)
                yield from _plain(textwrap.indent(folded, " " * MARGIN))
            parts = [column.only(rows) for column in columns]
            yield from _row_lines(self._thinned(moved, parts), widths, indent)
        yield Text("")

    def _sections(self, moved: int) -> Iterator[tuple[str, list[int]]]:
        """Yields neighbouring rows that share what is moved, or their group, with its text."""
        names = [column.entries for column in self.columns[: moved or bool(self.grouped)]]
        keys = list(zip(*names, strict=True)) or [()] * len(self.columns[0].entries)
        rows: list[int] = []
        for row, key in enumerate(keys):
            rows.append(row)
            if row + 1 == len(keys) or keys[row + 1] != key:
                yield BETWEEN.join(filter(None, key)), rows
                rows = []

    def _thinned(self, moved: int, columns: list[TextColumn]) -> list[TextColumn]:
        """Leaves out of the row head what the row above has too; its last column stays."""
        if not self.grouped:
            return columns
        heads = self.heads - moved
        keys = list(zip(*(column.entries for column in columns[:heads]), strict=True))
        thinned = list(map(list, keys))
        for row in range(1, len(keys)):
            for place in range(heads - 1):
                if keys[row][: place + 1] == keys[row - 1][: place + 1]:
                    thinned[row][place] = ""
        entries = list(zip(*thinned, strict=True))
        heads_shown = [
            replace(column, entries=tuple(texts))
            for column, texts in zip(columns[:heads], entries, strict=True)
        ]
        return [*heads_shown, *columns[heads:]]


def wrap(text: str, width: int, *, folding: bool = True) -> str:
    """Wraps text between words, line by line.

    Args:
        text: the text.
        width: columns of the screen.
        folding: whether a word that is wider is folded, a path after a slash; else it sticks out.
    """
    wrapper = _Wrapper(max(width, 1), break_on_hyphens=False, break_long_words=folding)
    return "\n".join(
        wrapper.fill(line) if _width(line) > width else line for line in text.splitlines()
    )


class _Wrapper(textwrap.TextWrapper):
    """Parts what is wider than a line after slashes, so that names in paths stay whole."""

    def _split(self, text: str) -> list[str]:
        parts: list[str] = []
        for word in super()._split(text):
            wide = self.break_long_words and len(word) > self.width
            parts += re.split(r"(?<=/)", word) if wide else [word]
        return parts


def _squeezed(columns: Sequence[TextColumn], width: int | None) -> list[TextColumn]:
    """Wraps free text, the widest column first, until the columns fit beside one another."""
    columns = list(columns)
    if width is None:
        return columns
    for place in sorted(range(len(columns)), key=lambda place: -columns[place].width):
        over = sum(column.width for column in columns) + GAP * (len(columns) - 1) - width
        column = columns[place]
        if over > 0 and (column.prose or len(columns) <= 2):
            columns[place] = column.wrapped(max(column.width - over, 1))
    return columns


def _title_lines(
    columns: Sequence[TextColumn], widths: Sequence[int], indent: str
) -> Iterator[Text]:
    height = max(len(column.title) for column in columns)
    titles = [("",) * (height - len(column.title)) + column.title for column in columns]
    for line in range(height):
        parts = [
            _padded(title[line], width, right=column.right)
            for title, width, column in zip(titles, widths, columns, strict=True)
        ]
        line_text = (indent + (" " * GAP).join(parts)).rstrip()
        if line_text:  # a list of facts has no titles
            yield from _plain(line_text, "bold")


def _row_lines(columns: Sequence[TextColumn], widths: Sequence[int], indent: str) -> Iterator[Text]:
    from rich.text import Text

    for row in range(len(columns[0].entries)):
        texts = [_lines(column.entries[row]) for column in columns]
        for line in range(max(map(len, texts))):
            made = Text(indent)
            for place, (column, width) in enumerate(zip(columns, widths, strict=True)):
                text = texts[place][line] if line < len(texts[place]) else ""
                padded = _padded(text, width, right=column.right)
                made.append(padded, column.styles[row] if column.styles else "")
                made.append(" " * GAP if place + 1 < len(columns) else "")
            made.rstrip()
            yield made


def _plain(text: str, style: str = "") -> Iterator[Text]:
    from rich.text import Text

    for line in text.splitlines() or [""]:
        yield Text(line, style)


def _lines(text: str) -> list[str]:
    return text.splitlines() or [""]


def _padded(text: str, width: int, *, right: bool) -> str:
    padding = " " * (width - _width(text))
    return padding + text if right else text + padding


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
