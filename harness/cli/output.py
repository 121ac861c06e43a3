"""Printing: rich tables for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from harness.cli.plugin_guard import answer_stream
from harness.escaping import json_text, terminal_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
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
    """Prints a pivot, its caption and legend; columns that do not fit go below one another.

    Bold and underlined letters repeat what the marks `*` and `≈` say, so nothing is lost in a log.
    """
    from rich.console import Console

    from harness.report.tables import BEST, UNDECIDED, caption, legend

    console = Console()
    width = console.width if console.is_terminal else None
    console.print(_text(caption(table)), soft_wrap=not console.is_terminal)
    places = list(range(len(table.column_keys)))
    while places:
        shown = _that_fit(table, wording, places, width, console)
        print_whole(console, _rich_table(table, wording, places[:shown]))
        places = places[shown:]
    for line in legend(table, BEST, UNDECIDED):
        console.print(_text(line, "dim"), soft_wrap=not console.is_terminal)


def _that_fit(
    table: Pivot, wording: Wording, places: Sequence[int], width: int | None, console: Console
) -> int:
    """How many of the columns fit beside the row head; at least one."""
    shown = len(places)
    unlimited = console.options.update(width=10_000)
    while width is not None and shown > 1:
        made = _rich_table(table, wording, places[:shown])
        if console.measure(made, options=unlimited).maximum <= width:
            break
        shown -= 1
    return shown


def _rich_table(table: Pivot, wording: Wording, places: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from harness.report.tables import heads

    made = Table(box=box.SIMPLE_HEAD)
    for name in table.layout.rows:
        made.add_column(Text("\n" * (len(table.layout.columns) - 1) + name))
    lines = []
    for place, head in zip(places, heads(tuple(table.column_keys[p] for p in places)), strict=True):
        title, texts = _column(table, wording, place, head)
        made.add_column(title)
        lines.append(texts)
    grouped = len({key[0] for key in table.row_keys}) < len(table.row_keys)
    for number, head in enumerate(heads(table.row_keys)):
        if grouped and number and head[0] == table.row_keys[number][0]:
            made.add_section()
        made.add_row(*map(_text, head), *(texts[number] for texts in lines))
    return made


def _column(
    table: Pivot, wording: Wording, place: int, head: Sequence[str]
) -> tuple[Text, list[Text]]:
    """Title and entries of a column, numbers below one another and room for marks after them.

    They are padded here, since rich drops the spaces at the end of what it aligns on the right.
    """
    from rich.text import Text

    from harness.report.tables import number_text, plain_marks

    head = [terminal_text(part) for part in head]
    entries = [line[place] for _, line in table.lines()]
    numbers = [number_text(entry, wording, table.runs) for entry in entries]
    width = max(map(len, (*numbers, *head)))
    texts = []
    for entry, number in zip(entries, numbers, strict=True):
        missing = entry is None or entry.state != "scored"
        style = "dim" if missing else _style(entry)
        padding = " " * (width - len(number))
        texts.append(Text.assemble(padding, (number, style), f" {plain_marks(entry)}".rstrip()))
    return Text("\n".join(part.rjust(width) for part in head)), texts


def _style(entry: PivotEntry | None) -> str:
    return "" if entry is None else "bold" if entry.best else "dim" if entry.undecided else ""


def print_whole(console: Console, table: Table) -> None:
    """Prints a table; into a log or a pipe at full width, so that no column is cut to a guess."""
    if not console.is_terminal:
        unlimited = console.options.update(width=10_000)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)


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
        numeric: columns to align on the right.
        prose: columns of free text, which is wrapped; in a log or a pipe no other column is.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=_text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in rows[0] if rows else ():
        justify: Literal["left", "right"] = "right" if column in numeric else "left"
        table.add_column(_text(str(column)), justify=justify, overflow="fold")  # no id is cut
    for row in rows:
        entries = (
            _wrap(str(value)) if key in prose and not console.is_terminal else str(value)
            for key, value in row.items()
        )
        table.add_row(*map(_text, entries))  # "[true]" is no markup
    print_whole(console, table)


def _text(text: str, style: str = "") -> Text:
    """Makes text of others printable: neither markup of rich's nor obeyed by the terminal."""
    from rich.text import Text

    return Text(terminal_text(text), style)


def say(text: str, *, to_errors: bool = False) -> None:
    """Prints a line with text of others in it."""
    print(terminal_text(text), file=sys.stderr if to_errors else sys.stdout, flush=to_errors)


def _wrap(text: str) -> str:
    """Wraps between words only: paths and digests stay whole."""
    lines = (
        textwrap.fill(line, PROSE_WIDTH, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join(lines)
