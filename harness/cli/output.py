"""Printing: rich tables for people, JSON for scripts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from harness.cli.plugin_guard import answer_stream
from harness.cli.text_table import TextColumn, TextTable, wrap
from harness.escaping import json_text, terminal_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.text import Text

    from harness.report.pivot import Pivot, PivotEntry
    from harness.report.tables import Wording


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame as mappings."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def print_json(content: Any) -> None:
    """Prints one JSON document, with letters escaped that the output's encoding may lack."""
    stream = answer_stream()
    is_unicode = (stream.encoding or "").lower().startswith("utf")
    text = json.dumps(content, indent=1, ensure_ascii=not is_unicode, default=str)
    print(json_text(text), file=stream, flush=True)


def print_markdown(text: str) -> None:
    """Prints Markdown: laid out for a terminal, as it is into a log or a pipe."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")


def print_pivot(table: Pivot, wording: Wording) -> None:
    """Prints a pivot, its caption and legend; what does not fit goes below one another.

    Bold and dim letters repeat what the marks `*` and `?` say, so nothing is lost in a log.
    """
    from rich.console import Console

    from harness.report.tables import BEST, UNDECIDED, caption, heads, legend

    console = Console()
    _print_prose(console, caption(table))
    names = table.layout.rows
    keys = [tuple(map(terminal_text, key)) for key in table.row_keys]
    row_head = [
        TextColumn((name,), tuple(key[place] for key in keys)) for place, name in enumerate(names)
    ]
    titles = heads(table.column_keys)
    columns = [_column(table, wording, place, head) for place, head in enumerate(titles)]
    grouped = len({key[0] for key in keys}) < len(keys)
    _print_lines(console, TextTable((*row_head, *columns), len(names), grouped=grouped))
    for line in legend(table, BEST, UNDECIDED):
        _print_prose(console, line, "dim")


def _column(table: Pivot, wording: Wording, place: int, head: Sequence[str]) -> TextColumn:
    """A column of a pivot, its numbers below one another and room for marks after them."""
    from harness.report.tables import number_text, plain_marks

    head = [terminal_text(part) for part in head]
    entries = [line[place] for _, line in table.lines()]
    numbers = [number_text(entry, wording, table.runs) for entry in entries]
    width = max(map(len, (*numbers, *head)))
    texts, styles = [], []
    for entry, number in zip(entries, numbers, strict=True):
        missing = entry is None or entry.state != "scored"
        styles.append("dim" if missing else _style(entry))
        texts.append(f"{number.rjust(width)} {plain_marks(entry)}".rstrip())
    return TextColumn(tuple(part.rjust(width) for part in head), tuple(texts), styles=tuple(styles))


def _style(entry: PivotEntry | None) -> str:
    return "" if entry is None else "bold" if entry.best else "dim" if entry.undecided else ""


PROSE_WIDTH = 80
"""Columns that free text takes in a log or a pipe; a terminal has a width of its own."""


def print_table(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    numeric: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> None:
    """Prints rows as a table whose columns are the keys of the first row.

    Args:
        title: printed above.
        rows: all with the same keys.
        numeric: columns to align on the right; those before the first of them head the rows.
        prose: columns of free text, which is wrapped; no other column is.
    """
    from rich.console import Console

    console = Console()
    _print_prose(console, title, "bold")
    if not rows:
        return
    names = list(rows[0])
    columns = [
        _text_column(name, [str(row[name]) for row in rows], name in numeric, name in prose)
        for name in names
    ]
    if not console.is_terminal:
        columns = [column.wrapped(PROSE_WIDTH) if column.prose else column for column in columns]
    heads = next((n for n, name in enumerate(names) if name in (*numeric, *prose)), len(names))
    table = TextTable(tuple(columns), max(1, min(heads, len(names) - 1)))
    if console.is_terminal and not table.fits(console.width):
        table = replace(table, columns=tuple(column.short_titled() for column in columns))
    _print_lines(console, table)


def _text_column(name: str, entries: Sequence[str], right: bool, prose: bool) -> TextColumn:
    texts = tuple("\n".join(map(terminal_text, text.splitlines())) for text in entries)
    return TextColumn((terminal_text(name),), texts, right, prose)


def _print_prose(console: Console, text: str, style: str = "") -> None:
    """Prints text, on a terminal broken between words."""
    shown = wrap(text, console.width) if console.is_terminal else text
    console.print(_text(shown, style), soft_wrap=True)


def _print_lines(console: Console, table: TextTable) -> None:
    """Prints a table; into a log or a pipe at full width, so that no column is cut to a guess."""
    for line in table.lines(console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """Makes text of others printable: neither markup of rich's nor obeyed by the terminal."""
    from rich.text import Text

    return Text(terminal_text(text), style)


def say(text: str, *, to_errors: bool = False) -> None:
    """Prints a line with text of others in it; on a terminal it breaks between words."""
    stream = sys.stderr if to_errors else sys.stdout
    print(terminal_text(_broken(text, stream)), file=stream, flush=to_errors)


def print_next(steps: Sequence[tuple[str, str]]) -> None:
    """Prints commands to go on with, each with what it gives."""
    print("Next:")
    for command, what in steps:
        print(f"  {terminal_text(command)}")  # in one piece, to be copied
        say(f"      {what}")


def _broken(text: str, stream: TextIO) -> str:
    """Breaks text between words for a terminal; elsewhere lines stay as they are."""
    if not stream.isatty():
        return text
    return wrap(text, shutil.get_terminal_size().columns, folding=False)
