"""Large tables as JSON are read row by row, as plain values, and refused where they are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from monty.json import MontyEncoder

from harness import load_dataset
from harness.data.json_rows import read_json_list, read_split_frame
from harness.errors import DataError


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    crystals = load_dataset("Experiment").crystals[:12]
    structures = [crystal.to_pymatgen() for crystal in crystals]
    values = [0.5, None, -3.0, *range(9)]
    return pd.DataFrame({"structure": structures, "a value": values}, index=range(5, 17))


def as_matminer(frame: pd.DataFrame, path: Path) -> None:
    """As `matminer.utils.io.store_dataframe_as_json` does."""
    with gzip.open(path, "wt") as file:
        file.write(json.dumps(frame.to_dict(orient="split"), cls=MontyEncoder))


def as_pandas(frame: pd.DataFrame, path: Path) -> None:
    plain = frame.assign(structure=[structure.as_dict() for structure in frame["structure"]])
    plain.to_json(path, orient="split", double_precision=15)


@pytest.mark.parametrize("write", [as_matminer, as_pandas])
def test_a_split_frame_is_read_row_by_row(
    write: Callable[[pd.DataFrame, Path], None], frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "frame.json.gz"
    write(frame, path)
    rows = list(read_split_frame(path))
    assert [label for label, _ in rows] == [str(number) for number in range(5, 17)]
    assert [row["a value"] for _, row in rows][3:] == list(range(9))
    structure = rows[0][1]["structure"]
    assert type(structure) is dict  # whatever class it names
    assert structure["@class"] == "Structure"


def test_the_first_rows_are_there_before_the_last_are_read(tmp_path: Path) -> None:
    path = tmp_path / "frame.json"
    row = json.dumps([{"x": "long " * 1000}, 1.0])
    path.write_text(f'{{"columns": ["structure", "v"], "data": [{", ".join([row] * 2000)}, torn')
    rows = read_split_frame(path)
    assert len(list(islice(rows, 1500))) == 1500
    with pytest.raises(DataError, match=r"frame.json cannot be read beyond row 2000: .*complete\?"):
        list(rows)


def test_rows_without_an_index_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "frame.json"
    path.write_text('{"columns": ["v"], "data": [[1], [2]], "more": {"not": "looked at"}}')
    assert list(read_split_frame(path)) == [("0", {"v": 1}), ("1", {"v": 2})]


def test_a_list_of_objects_is_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.json.gz"
    rows: list[dict[str, Any]] = [{"id": "a", "kappa": [1.5, 2.5]}, {}, {"id": "ä"}]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump(rows, file)
    assert list(read_json_list(path)) == rows


@pytest.mark.parametrize(
    ("read", "content", "told"),
    [
        (read_split_frame, b"", "its end is missing"),
        (read_split_frame, b"[1]", "expected '{', found '['"),
        (read_split_frame, b'{"data": [[1]], "columns": ["v"]}', "names of the columns"),
        (read_split_frame, b'{"columns": ["v"], "data": [[1, 2]]}', "no list of 1 values"),
        (read_split_frame, b'{"columns": ["v"], "data": [1]}', "no list of 1 values"),
        (read_split_frame, b'{"columns": ["v"], "data": [[1] [2]]}', "beyond row 1: expected ','"),
        (read_split_frame, b'{"columns": ["v"], "data": [[1]', "beyond row 1: its end is missing"),
        (read_json_list, b'[{"a": 1}, 2]', "beyond row 1: expected an object, found int"),
        (read_json_list, b"\xff\xfe\xff", "codec can't decode"),
    ],
)
def test_what_is_no_such_table_is_refused_with_the_row(
    read: Callable[[Path], Iterator[Any]], content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"table\.json cannot be read") as error:
        list(read(path))
    assert told in str(error.value)


def test_a_file_that_was_cut_off_is_refused(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "frame.json.gz"
    as_matminer(frame, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"is the file complete\?"):
        list(read_split_frame(path))
