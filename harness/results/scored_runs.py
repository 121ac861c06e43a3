"""Which runs are scored: an index of `results.jsonl` that reads every line once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.reading import check_regular

if TYPE_CHECKING:
    from harness.results.records import ResultLine


class ScoredRuns:
    """Runs by scoring key, kept up with a file that grows and may be replaced.

    Args:
        path: of the file.
        read_line: reads a line; gets its number, from 1, for what it has to say of a damaged one.
    """

    def __init__(self, path: Path, read_line: Callable[[int, bytes], ResultLine]) -> None:
        self._path, self._read_line = path, read_line
        self._start_over()

    def _start_over(self) -> None:
        self._runs: dict[str, set[int]] = {}
        self._lines = self._bytes = 0
        self._last = b""

    def add(self, lines: Sequence[ResultLine], text: bytes) -> None:
        """Notes what was appended after an `update`, with nothing in between: it is not read again.

        Args:
            lines: those that were appended.
            text: the same, as they stand in the file.
        """
        for line in lines:
            self._runs.setdefault(line.key, set()).add(line.run)
        if lines:
            self._lines += len(lines)
            self._bytes += len(text)
            self._last = text[text.rfind(b"\n", 0, -1) + 1 :]

    def update(self) -> dict[str, set[int]]:
        """Reads what is new and returns all; a line that is not complete yet is left.

        Raises:
            OSError: the file cannot be read.
            StoreError: a line is damaged.
        """
        if not os.path.lexists(self._path):
            self._start_over()
            return self._runs
        check_regular(self._path)
        with self._path.open("rb") as file:
            file.seek(self._bytes - len(self._last))
            if file.read(len(self._last)) != self._last:  # another file has taken its place
                self._start_over()
                file.seek(0)
            fresh = file.read()
        for text in fresh.split(b"\n")[:-1]:
            if text.strip():
                line = self._read_line(self._lines + 1, text)
                self._runs.setdefault(line.key, set()).add(line.run)
            self._lines += 1
            self._last = text + b"\n"
            self._bytes += len(self._last)
        return self._runs
