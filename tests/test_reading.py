"""Text, JSON and TOML of others: any encoding, bounded, and errors that say what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import reading
from harness.reading import (
    JsonStream,
    check_regular,
    open_text,
    parse_json,
    parse_number,
    parse_toml,
    read_lines,
    read_text,
)

TEXT = "κ of Bi₂Te₃\nline 2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
def test_a_byte_order_mark_says_the_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    content = TEXT.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert read_text(path) == TEXT


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system(end: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(f"a{end}b{end}".encode())
    with open_text(path) as text:
        assert list(read_lines(text)) == ["a\n", "b\n"]


def test_a_letter_of_another_encoding_is_replaced_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("Müller".encode("latin-1"))
    assert read_text(path) == "M\N{REPLACEMENT CHARACTER}ller"
    with pytest.raises(UnicodeDecodeError):
        read_text(path, strict=True)


def test_what_is_longer_than_agreed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"0" * 2**20))
    with pytest.raises(ValueError, match="longer than 1000 letters"):
        read_text(path, 1000)
    with open_text(path) as text, pytest.raises(ValueError, match="line 1 is longer than 1000"):
        list(read_lines(text, 1000))


def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            check_regular(path)
        with pytest.raises(OSError, match="not a regular file"):
            read_text(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "more than 4,300 digits"),
        (json.dumps("\ud800"), "half a letter"),
        ("{", "Expecting property name"),
    ],
    ids=["deep", "digits", "surrogate", "torn"],
)
def test_json_that_nothing_can_use_is_an_error_of_one_kind(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("x = " + "9" * 5000, "more than 4,300 digits"),
        ("x =", "Invalid value"),
    ],
    ids=["deep", "digits", "torn"],
)
def test_toml_that_nothing_can_use_is_an_error_of_one_kind(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_toml(text)


@pytest.mark.parametrize("text", ["7", "-7.5", "+.5", "7.", "1e3", "1.5E-3", " 7 "])
def test_a_number_is_read_as_people_write_it(text: str) -> None:
    assert parse_number(text) == float(text)


@pytest.mark.parametrize("text", ["", "1_0", "1,200", "7.1(3)", "~17", "nan", "inf", "0x10", "٣"])
def test_what_only_looks_like_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        parse_number(text)


# --- JSON item by item --------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    values=st.lists(VALUES, max_size=5),
    piece=st.integers(1, 9),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
)
def test_items_are_those_that_json_has_however_the_text_comes(
    values: list[object],
    piece: int,
    indent: int | None,
    ascii_only: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "PIECE", piece)
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    assert list(JsonStream(io.StringIO(text)).items()) == json.loads(text)


def test_an_object_is_read_name_by_name() -> None:
    stream = JsonStream(io.StringIO('{"a": 1, "list": [2, [3]], "b": {"c": null}} and more'))
    found = {n: list(stream.items()) if n == "list" else stream.value() for n in stream.names()}
    assert found == {"a": 1, "list": [2, [3]], "b": {"c": None}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "more than 4,300 digits"),
        ('["\\ud800"]', "half a letter"),
        ('["' + "x" * 2000 + '"]', "longer than 1000 letters"),
        ("[1, 2", "its end is missing"),
        ("[1, nothing]", "Expecting value"),
        ('{"a": 1}', "expected '\\[', found '{'"),
    ],
    ids=["deep", "digits", "surrogate", "long", "cut", "no value", "no list"],
)
def test_items_that_nothing_can_use_are_refused(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PIECE", 100)
    most = 10**7 if "deep" in told or "digits" in told else 1000
    with pytest.raises(ValueError, match=told):
        list(JsonStream(io.StringIO(text), most).items())
