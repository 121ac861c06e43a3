"""Tables in a terminal: whatever its width, every number and every name is whole."""

from __future__ import annotations

import pytest

from harness.cli.text_table import TextColumn, TextTable, wrap

LABELS = ("two-stage(source=AFLOW-14-debye-temperature)", "scratch", "scratch")
DATASETS = ("Dataset1", "Dataset1", "Dataset2")
NUMBERS = ("0.28 (0.07) *", "0.43 (0.18)", "0.73 (0.13) ?")
PROSE = ("a gain that does not stand among so many tests", "", "no difference seen")


def table(numbers: int = 3) -> TextTable:
    columns = [TextColumn((f"number {n}",), NUMBERS) for n in range(numbers)]
    heads = (TextColumn(("transfer",), LABELS), TextColumn(("train_on",), DATASETS))
    return TextTable((*heads, *columns), heads=2, grouped=True)


def lines_of(table: TextTable, width: int | None) -> list[str]:
    return [line.plain for line in table.lines(width)]


@pytest.mark.parametrize("width", [48, 60, 80, 100, 200])
def test_nothing_is_cut_and_nothing_sticks_out(width: int) -> None:
    lines = lines_of(table(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for whole in (*LABELS, *DATASETS):
        assert whole in text
    for number in NUMBERS:
        assert text.count(number) == 3


def test_a_log_has_one_line_per_row() -> None:
    assert len(lines_of(table(20), None)) == 2 + 3 + 1 + 1


def test_what_several_rows_share_stands_above_them_once() -> None:
    text = "\n".join(lines_of(table(1), 48))
    assert text.count("scratch") == 1


def test_columns_that_are_left_come_below_with_the_head_of_their_rows() -> None:
    lines = lines_of(table(6), 60)
    assert sum("number" in line for line in lines) > 1
    assert sum(line.strip().startswith("Dataset2") for line in lines) > 1


def test_free_text_takes_the_room_that_is_left_and_breaks_between_words() -> None:
    columns = (TextColumn(("id",), DATASETS), TextColumn(("why",), PROSE, prose=True))
    lines = lines_of(TextTable(columns), 40)
    assert max(map(len, lines)) <= 40
    words = {word for line in lines for word in line.split()}
    assert {word for text in PROSE for word in text.split()} <= words


def test_a_path_breaks_after_a_slash() -> None:
    assert wrap("in /a/long/folder/name/with-a-file", 16).splitlines() == [
        "in /a/long/",
        "folder/name/",
        "with-a-file",
    ]


def test_an_errors_long_word_is_not_broken_at_all() -> None:
    assert wrap("in /a/long/folder/name", 8, folding=False).splitlines() == [
        "in",
        "/a/long/folder/name",
    ]
