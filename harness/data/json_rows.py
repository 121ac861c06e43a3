"""Large tables as JSON, read row by row: plain values, whatever classes the text names.

Matbench's largest file has 132,752 structures, and pymatgen or monty would build, and import,
whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import DataError
from harness.reading import UNREADABLE, JsonStream, open_text

Row = TypeVar("Row")


def read_split_frame(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the rows of a pandas frame in JSON of the orient `split`, as matminer writes it.

    Args:
        path: plain, or gzipped if its name ends in .gz.

    Yields:
        The label of each row (its number, from 0, where there is no index), and values by column.

    Raises:
        DataError: the file cannot be read, or is no such frame.
    """
    return _rows(path, _frame_rows, "a pandas frame of the orient 'split'")


def read_json_list(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON list, plain or gzipped.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    return _rows(path, _objects, "a list of objects")


def _rows(path: Path, find: Callable[[JsonStream], Iterator[Row]], expected: str) -> Iterator[Row]:
    number = 0
    try:
        with open_text(path, strict=True) as text:
            for number, row in enumerate(find(JsonStream(text)), start=1):  # noqa: B007 (told below)
                yield row
    except UNREADABLE as problem:
        raise DataError(
            f"{path} cannot be read beyond row {number}: {problem}. Expected {expected} as JSON; "
            "is the file complete?"
        ) from None


def _frame_rows(stream: JsonStream) -> Iterator[tuple[str, dict[str, Any]]]:
    head: dict[str, Any] = {}
    for key in stream.names():
        if key == "data":
            yield from _data_rows(stream, head)
        else:
            head[key] = stream.value()


def _data_rows(stream: JsonStream, head: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    columns, index = head.get("columns"), head.get("index")
    if not isinstance(columns, list):
        raise ValueError("the names of the columns do not come before the data")
    for number, values in enumerate(stream.items()):
        if not isinstance(values, list) or len(values) != len(columns):
            raise ValueError(f"a row is no list of {len(columns)} values")
        labels = index if isinstance(index, list) and number < len(index) else range(number + 1)
        yield str(labels[number]), dict(zip(map(str, columns), values, strict=True))


def _objects(stream: JsonStream) -> Iterator[dict[str, Any]]:
    for found in stream.items():
        if not isinstance(found, dict):
            raise ValueError(f"expected an object, found {type(found).__name__}")
        yield found
