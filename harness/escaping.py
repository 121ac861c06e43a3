"""Text of others made harmless, one function per form of output.

Names, titles and reasons come from plugins, data and submissions. In a table they are text: never
a spreadsheet's formula, a link, an image, markup, or an instruction to the terminal. LaTeX has its
function in `report/tables.py`, where the letters of tables are; pages have jinja's.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# C0 but tab and line feed, DEL, C1, and what changes the direction of letters.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_FORMULA = re.compile(r"\s*[=+\-@]")
_NUMBER = re.compile(r"[+-]?[\d.]+([eE][+-]?\d+)?")
_MARKUP = re.compile(r"[\\`*<|]|\](?=[(\[:])")


def terminal_text(text: str) -> str:
    r"""Writes control characters out, as `\x1b`, so that no terminal obeys them."""
    return _CONTROL.sub(lambda found: _written_out(found.group()), text)


def json_text(document: str) -> str:
    r"""Writes control characters in a JSON document out, as `\u009b`."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", document)


def _written_out(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def html_text(text: str) -> str:
    """Writes text so that HTML shows it as it is."""
    return html.escape(terminal_text(text))


def markdown_text(text: str) -> str:
    """Writes text so that Markdown shows it as it is, on one line: no link, image, HTML or code."""
    line = " ".join(terminal_text(text).split("\n"))
    return _MARKUP.sub(lambda found: f"\\{found.group()}", line)


def csv_text(text: str) -> str:
    """Writes text so that no spreadsheet takes it for a formula: by a `'` before it."""
    clean = terminal_text(text)
    if _FORMULA.match(clean) and not _NUMBER.fullmatch(clean):
        return f"'{clean}"
    return clean


def csv_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a frame whose texts, heads included, are as `csv_text` writes them."""
    from pandas.api.types import is_numeric_dtype

    def written(column: pd.Series[Any]) -> pd.Series[Any]:
        return column if is_numeric_dtype(column) else column.map(_csv_value)

    return frame.apply(written).rename(columns=_csv_value)


def _csv_value(value: object) -> object:
    return csv_text(value) if isinstance(value, str) else value
