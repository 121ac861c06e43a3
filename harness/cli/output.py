"""Printing: rich tables for people, JSON for scripts."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame as mappings."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def print_json(content: Any) -> None:
    """Prints one JSON document."""
    print(json.dumps(content, indent=1, ensure_ascii=False, default=str))


def print_markdown(text: str) -> None:
    """Prints Markdown: laid out for a terminal, as it is into a log or a pipe."""
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        print(text, end="")


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
    from rich.text import Text

    console = Console()
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for column in rows[0] if rows else ():
        table.add_column(Text(str(column)), justify="right" if column in numeric else "left")
    for row in rows:
        entries = (
            _wrap(str(value)) if key in prose and not console.is_terminal else str(value)
            for key, value in row.items()
        )
        table.add_row(*map(Text, entries))  # "[true]" is no markup
    if not console.is_terminal:  # a log or a pipe: never cut columns to a guessed width
        unlimited = console.options.update(width=10_000)
        console.width = max(console.width, console.measure(table, options=unlimited).maximum)
    console.print(table)


def _wrap(text: str) -> str:
    """Wraps between words only: paths and digests stay whole."""
    lines = (
        textwrap.fill(line, PROSE_WIDTH, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join(lines)
