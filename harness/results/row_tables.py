"""Rows on disk: Parquet files that say what digest their rows have, so that damage is seen.

The digest is of the rows and their key, not of the file: it stays what it is when rows are packed
with others, or written by another version of Parquet. Files from before there were digests have
none, and are read as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import replacing
from harness.reading import check_regular

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    Rows = pd.DataFrame | Mapping[str, Sequence[str] | NDArray[Any]]

MAX_ROWS = 20_000_000
"""Most rows of a file: a few MB of Parquet can hold more than any memory. AFLOW's cells, of nine
runs, have 30,000 each."""

DIGEST = b"harness-rows-sha256"
"""Under this name the metadata of a file hold the digest of its rows."""


def write_rows(path: Path, key: str, rows: Rows) -> None:
    """Writes the rows of one scoring or stage, atomically.

    Args:
        path: of the file.
        key: of the scoring or stage.
        rows: as a frame, or as columns by name.

    Raises:
        StoreError: the file cannot be written.
    """
    content = file_of_rows(key, rows)
    with replacing(path) as staging:
        staging.write_bytes(content)


def file_of_rows(key: str, rows: Rows) -> memoryview:
    """Returns what a file of the rows of one scoring or stage holds.

    Few rows cost 0.2 ms, a quarter of it their digest. By default pyarrow takes twice as long, and
    for 30,000 rows four times: it makes dictionaries of numbers, which hardly any rows share, and
    notes the extremes of columns, by which nobody looks for rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _table_of(rows)
    facts = {**(table.schema.metadata or {}), DIGEST: digest_of_table(table, key).encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(facts),
        sink,
        compression="lz4",
        use_dictionary=[field.name for field in table.schema if _is_text(field.type)],
        write_statistics=False,
    )
    return memoryview(sink.getvalue())


def read_rows(path: Path, key: str, columns: Sequence[str]) -> pd.DataFrame:
    """Reads rows as they were written; raises what `load_rows` does."""
    frame: pd.DataFrame = load_rows(path, key, columns).to_pandas()
    return frame


def load_rows(path: Path, key: str, columns: Sequence[str]) -> pa.Table:
    """Reads and checks rows: half of the time of `read_rows`, for few rows.

    Raises:
        OSError: there are none, or the file cannot be read.
        ValueError: it is damaged, or of another key, or lacks one of the columns.
    """
    table = read_table(path)
    stated = (table.schema.metadata or {}).get(DIGEST)
    if stated is not None and stated.decode() != digest_of_table(table, key):
        raise ValueError("its rows have another digest than it says")
    _refuse_missing(table.column_names, columns)
    return table


def read_table(path: Path) -> pa.Table:
    """Reads a whole Parquet file.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is damaged, or has more rows than any results have.
    """
    import pyarrow.parquet as pq

    check_regular(path)
    with pq.ParquetFile(path) as file:
        if (rows := file.metadata.num_rows) > MAX_ROWS:
            raise ValueError(f"it has {rows} rows, and at most {MAX_ROWS} are read")
        return file.read(use_threads=False)


def check_columns(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns rows that have all of the columns.

    Raises:
        ValueError: one is missing.
    """
    _refuse_missing(frame.columns, columns)
    return frame


def _refuse_missing(found: Collection[str], columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in found]:
        raise ValueError(f"the table lacks {', '.join(missing)}")


def digest_of(frame: pd.DataFrame, key: str) -> str:
    """Returns the digest of rows and their key: 20 ms for 30,000 rows of predictions."""
    return digest_of_table(_table_of(frame), key)


def _table_of(rows: Rows) -> pa.Table:
    """Returns what `pa.Table.from_pandas` makes of rows.

    Most of its time goes into what the file says of the frame. That depends on the names and types
    of the columns alone, so it is asked once where columns are given.
    """
    import pandas as pd
    import pyarrow as pa

    if isinstance(rows, pd.DataFrame):
        return pa.Table.from_pandas(rows, preserve_index=False)
    arrays = [pa.array(column, from_pandas=True) for column in rows.values()]
    kinds = tuple(array.type for array in arrays)
    if (tuple(rows), kinds) not in _schemas:
        whole = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
        if tuple(whole.schema.types) != kinds:  # other versions of pandas have other types of text
            return whole
        _schemas[tuple(rows), kinds] = whole.schema
    return pa.Table.from_arrays(arrays, schema=_schemas[tuple(rows), kinds])


_schemas: dict[tuple[tuple[str, ...], tuple[pa.DataType, ...]], pa.Schema] = {}
"""By names and types of columns."""


def digest_of_table(table: pa.Table, key: str) -> str:
    """Returns the digest of rows and their key: 3 ms for 30,000 rows that need no conversion."""
    found = sha256(key.encode())
    for name in sorted(table.column_names):
        found.update(f"\0{name}\0".encode())
        for part in _content(table.column(name)):
            found.update(part)
    return found.hexdigest()


def _content(column: pa.ChunkedArray) -> list[Any]:
    """Returns what a column holds as bytes, whichever of the types for it the file uses."""
    import numpy as np
    import pyarrow.compute as pc

    if not _is_text(column.type):
        numbers = column.to_numpy().astype(np.float64)
        return [np.where(np.isnan(numbers), np.nan, numbers).tobytes()]
    absent = column.is_null().to_numpy() if column.null_count else None
    chunks = (pc.fill_null(column, "") if column.null_count else column).chunks
    ends = [_ends(chunk) for chunk in chunks]
    lengths = np.concatenate([np.zeros(0, np.int64), *map(np.diff, ends)])
    if absent is not None:
        lengths[absent] = -1
    letters = [
        memoryview(chunk.buffers()[2] or b"")[own[0] : own[-1]]
        for chunk, own in zip(chunks, ends, strict=True)
    ]
    return [lengths.tobytes(), *letters]


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _ends(chunk: pa.StringArray | pa.LargeStringArray) -> NDArray[Any]:
    """Returns where the texts of a piece of a column begin among its letters, and the last ends."""
    import numpy as np
    import pyarrow as pa

    width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    places = np.frombuffer(chunk.buffers()[1] or bytes(8), dtype=width)
    return places[chunk.offset : chunk.offset + len(chunk) + 1]
