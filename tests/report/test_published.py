"""A table of published cells is one, or the error says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BenchmarkError
from harness.report.published import COLUMNS, read_published


def test_a_table_with_comments_is_read(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    path.write_text(f"# from the paper\n{','.join(COLUMNS)}\nscratch,A,B,mape,0.5,0.1\n")
    assert read_published(path)["mean"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'transfer,"train_on\n1,2', "cannot be read"),
        (b"transfer,train_on\na,b\n", "there is no test_on"),
    ],
    ids=["empty", "no text", "torn", "other columns"],
)
def test_what_is_no_such_table_is_refused_by_name(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "published.csv"
    path.write_bytes(content)
    with pytest.raises(BenchmarkError, match=told) as refusal:
        read_published(path)
    assert str(path) in str(refusal.value)


def test_a_folder_or_nothing_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="are missing"):
        read_published(tmp_path)
