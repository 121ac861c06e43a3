"""Text, JSON and TOML that others have written: any encoding, bounded, errors that say where.

Whoever reads a file of a user's or of another project does it through here.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import stat
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

MAX_TEXT = 256 * 2**20
"""Most letters of a file that is read as a whole, after decompression."""

MAX_LINE = 64 * 2**20
"""Most letters of one line of a file that is read line by line."""

MAX_ITEM = 64 * 2**20
"""Most letters of one item of JSON that is read item by item."""

PIECE = 2**20
"""Letters that are read of such a file at a time."""

Found = TypeVar("Found")

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's: asked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

UNREADABLE = (OSError, EOFError, zlib.error, ValueError)
"""What reading a file of others may raise."""


def check_regular(path: Path) -> None:
    """Refuses what is no plain file, such as a pipe, which may never end.

    Raises:
        OSError: it does not exist, or is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a regular file")


def open_text(path: Path, strict: bool = False) -> TextIO:
    """Opens a text file, plain or gzipped: UTF-8, or what its byte order mark says.

    Args:
        path: of the file.
        strict: whether a letter that does not belong to the encoding is an error when it is read.
            Otherwise it is replaced: in a file with structures it stands in a comment or an
            author's name most likely, and must cost nothing else.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    check_regular(path)
    zipped = path.suffix.lower() == ".gz"
    raw = gzip.open(path, "rb") if zipped else path.open("rb")  # noqa: SIM115 (closed by text)
    try:
        start = raw.peek(4)[:4]
        encoding = next((name for mark, name in _ENCODINGS if start.startswith(mark)), "utf-8")
        return io.TextIOWrapper(raw, encoding=encoding, errors="strict" if strict else "replace")
    except BaseException:
        raw.close()
        raise


def read_lines(text: TextIO, most: int = MAX_LINE) -> Iterator[str]:
    """Yields lines, each with its end.

    Raises:
        ValueError: a line is longer than `most` letters.
    """
    for number in range(1, 2**63):
        line = text.readline(most + 1)
        if not line:
            return
        if len(line) > most:
            raise ValueError(f"line {number} is longer than {most} letters")
        yield line


def read_text(path: Path, most: int = MAX_TEXT, strict: bool = False) -> str:
    """Reads a whole text file, plain or gzipped; see `open_text`.

    Raises:
        OSError, EOFError, zlib.error, ValueError: it cannot be read, or is longer than `most`
            letters.
    """
    with open_text(path, strict) as text:
        content = text.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is longer than {most} letters")
    return content


def parse_json(text: str) -> Any:
    """Reads JSON of others.

    Raises:
        ValueError: it is none, nested too deeply, or holds an integer or text that nothing can use.
    """
    found = _decode(lambda: json.loads(text))
    if "\\u" in text:
        _refuse_lone_surrogates(found)
    return found


def _decode(decode: Callable[[], Found]) -> Found:
    """Calls a decoder of JSON, and says why where what it finds cannot be used."""
    try:
        return decode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's own bound on the digits of an integer
        raise ValueError("it holds an integer of more than 4,300 digits") from None


def _refuse_lone_surrogates(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a letter (a lone surrogate)") from None


class JsonStream:
    """JSON of others that is read item by item, where the whole would not fit into memory.

    Every method raises `ValueError` where the text is not what is expected, ends too early, or
    holds an item that nothing can use.
    """

    def __init__(self, text: TextIO, most: int = MAX_ITEM) -> None:
        self._text, self._most = text, most
        self._buffer, self._place = "", 0
        self._decoder = json.JSONDecoder()

    def names(self) -> Iterator[str]:
        """Yields the names in an object; before the next one, the value of each must be read."""
        yield from (str(key) for key in self._members("{", "}"))

    def items(self) -> Iterator[Any]:
        """Yields the items of a list."""
        yield from self._members("[", "]")

    def value(self) -> Any:
        """Reads a whole value."""
        self._peek()
        while True:
            try:
                found, end = _decode(lambda: self._decoder.raw_decode(self._buffer, self._place))
            except json.JSONDecodeError:
                if not self._read_more():
                    raise
                continue
            # A number may go on: of 1.5e-3, 1.5 can be read once 1.5e- is there.
            if end + len("e-") < len(self._buffer) or not self._read_more():
                break
        if "\\u" in self._buffer[self._place : end]:
            _refuse_lone_surrogates(found)
        self._place = end
        return found

    def _members(self, opening: str, closing: str) -> Iterator[Any]:
        self._take(opening)
        if self._peek() == closing:
            self._take(closing)
            return
        while True:
            found = self.value()
            if closing == "}":
                self._take(":")
            yield found
            if self._take(f",{closing}") == closing:
                return

    def _take(self, expected: str) -> str:
        """Passes one letter, which must be one of those expected."""
        found = self._peek()
        if not found or found not in expected:
            wanted = " or ".join(map(repr, expected))
            raise ValueError(
                f"expected {wanted}, found {found!r}" if found else "its end is missing"
            )
        self._place += 1
        return found

    def _peek(self) -> str:
        """The next letter that is no space; empty at the end."""
        while True:
            while self._place < len(self._buffer):
                if not self._buffer[self._place].isspace():
                    return self._buffer[self._place]
                self._place += 1
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        """Reads on, by as much as is waiting, so that a long item is not decoded time and again."""
        waiting = len(self._buffer) - self._place
        if waiting > self._most:
            raise ValueError(f"an item is longer than {self._most} letters")
        piece = self._text.read(max(PIECE, waiting))
        if piece:
            self._buffer = self._buffer[self._place :] + piece
            self._place = 0
        return bool(piece)


def parse_toml(text: str) -> dict[str, Any]:
    """Reads TOML of others.

    Raises:
        ValueError: it is none, nested too deeply, or holds an integer that nothing can use.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise ValueError("it holds an integer of more than 4,300 digits") from None


def parse_number(text: str) -> float:
    """Reads a number as people and programs write it: no `1_0`, `7.1(3)`, `~17`, `nan` or `inf`.

    Raises:
        ValueError: it is none.
    """
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"{text!r} is not a number")
    return float(text)
