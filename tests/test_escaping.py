"""Text of others is text in every form of output, and nothing else."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from harness.cli.output import print_json, print_table, say
from harness.escaping import csv_frame, csv_text, markdown_text, terminal_text

FORMULA = "=cmd|' /C calc'!A0"
CLEAR = "\x1b[2J\x1b]0;mine\x07"


@pytest.mark.parametrize("text", [FORMULA, "+1+2", "-2+cmd|x", "@SUM(A1)", " =1", "\t=1"])
def test_no_text_is_a_formula(text: str) -> None:
    assert csv_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.5", "+1e-3", "mlp(hidden=450)", "a = b", "0.40 (0.10)", ""])
def test_numbers_and_usual_names_stay(text: str) -> None:
    assert csv_text(text) == text


def test_heads_of_a_frame_are_text_too_and_numbers_are_untouched() -> None:
    frame = csv_frame(pd.DataFrame({"=A1": ["-x", "y"], "n": [-1, 2]}))
    assert frame.to_csv(index=False) == "'=A1,n\n'-x,-1\ny,2\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[me](http://x)", r"[me\](http://x)"),
        ("![me](http://x)", r"![me\](http://x)"),
        ("[me][x]", r"[me\][x]"),
        (r"[me\](x)", r"[me\\\](x)"),
        ("<img src=x>", r"\<img src=x>"),
        ("**best**", r"\*\*best\*\*"),
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("0.4 (0.1) [0.3, 0.5]", "0.4 (0.1) [0.3, 0.5]"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_no_terminal_obeys_text() -> None:
    assert terminal_text(CLEAR) == r"\x1b[2J\x1b]0;mine\x07"
    assert terminal_text("a\u202eb\x9b") == r"a\u202eb\x9b"
    assert terminal_text("κ, two\nlines\tand a tab") == "κ, two\nlines\tand a tab"


def test_whatever_is_printed_is_harmless(capsys) -> None:
    print_table(CLEAR, [{CLEAR: CLEAR}])
    say(CLEAR)
    say(CLEAR, to_errors=True)
    print_json({"name": CLEAR + "\x9b"})
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x07", "\x9b"} & {*out, *err}
    assert json.loads(out[out.index("{") :])["name"] == CLEAR + "\x9b"
