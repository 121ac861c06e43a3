"""The frozen form of a complete leaderboard: what was a file per stage and scoring, in few.

<out>/predictions.parquet     the rows of all scorings, with their key
<out>/ledger.parquet          what all stages used their rows for, with the key of the stage
<out>/tuning-ledger.parquet   the rows that settings were chosen by, with the key of the scoring
<out>/history.parquet         key, epoch, member, and what was recorded of that epoch
<out>/stages.jsonl            the records of stages, their histories left out

A loose file of the same thing goes before: a run that goes on writes those, beside what is frozen,
and the next freeze merges both. A file is packed, read back and compared before any is removed, so
a process that is killed at any moment leaves all results, each of them once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import replacing
from harness.results.records import FrozenStage, PackedIndex, PackedRows, StageRecord
from harness.results.row_tables import digest_of, digest_of_table, read_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEY = "key"
INDEX = b"harness"
"""Under this name the metadata of a packed table hold its index."""

PREDICTIONS_FILE = "predictions.parquet"
LEDGERS_FILE = "ledger.parquet"
TUNING_LEDGERS_FILE = "tuning-ledger.parquet"
HISTORIES_FILE = "history.parquet"
STAGES_FILE = "stages.jsonl"
TABLES = (PREDICTIONS_FILE, LEDGERS_FILE, TUNING_LEDGERS_FILE, HISTORIES_FILE)

History = dict[str, list[Any]]


class PackedTable:
    """A Parquet file with the rows of many scorings or stages; it need not be there.

    Raises OtherFormatError, or whatever a damaged file leads to; `Store` names the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def index(self) -> Mapping[str, PackedRows]:
        """Where the rows of every key lie; only the end of the file is read for it."""
        import pyarrow.parquet as pq

        if not self.path.is_file():
            return {}
        metadata = pq.read_schema(self.path).metadata or {}
        return PackedIndex.read(metadata.get(INDEX, b"{}")).keys

    @cached_property
    def _starts(self) -> Mapping[str, int]:
        starts, start = {}, 0
        for key, packed in self.index.items():
            starts[key] = start
            start += packed.rows
        return starts

    @cached_property
    def _table(self) -> pa.Table:
        table = read_table(self.path).drop_columns([KEY])
        if len(table) != (expected := sum(packed.rows for packed in self.index.values())):
            raise ValueError(f"it has {len(table)} rows where its index says {expected}")
        return table

    def read(self, key: str) -> pd.DataFrame:
        """Returns the rows of one key."""
        packed, start = self.index[key], self._starts[key]
        rows = self._table.slice(start, packed.rows).drop_columns(list(packed.absent))
        if packed.sha256 is not None and packed.sha256 != digest_of_table(rows, key):
            raise ValueError(f"the rows of {key} have another digest than its index says")
        frame: pd.DataFrame = rows.to_pandas(use_threads=False)
        return frame


def write_packed(path: Path, frames: Mapping[str, pd.DataFrame], **facts: Any) -> None:
    """Writes rows by key as one Parquet file, atomically.

    Args:
        path: to write.
        frames: by key; one that lacks a column of others gets it back without.
        facts: by name of a field of `PackedRows`, and key: what else the index says.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys(str(name) for frame in frames.values() for name in frame))
    whole = pd.concat([frame.assign(**{KEY: key}) for key, frame in frames.items()])
    index = {
        key: PackedRows(
            rows=len(frame),
            absent=tuple(column for column in columns if column not in frame),
            sha256=digest_of(frame, key),
            **{name: values[key] for name, values in facts.items()},
        )
        for key, frame in frames.items()
    }
    table = pa.Table.from_pandas(whole[[KEY, *columns]], preserve_index=False)
    text = json.dumps(PackedIndex(keys=index).as_json())
    table = table.replace_schema_metadata({**table.schema.metadata, INDEX: text.encode()})
    with replacing(path) as staging:
        pq.write_table(table, staging, compression="zstd")
        flush(staging)


def flush(path: Path) -> None:
    """Sees that a file has reached the disk: what was packed in it is going to be removed."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


class Frozen:
    """The frozen files of a results folder, as they are at this moment; none need be there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = {name: PackedTable(folder / name) for name in TABLES}

    @cached_property
    def _records(self) -> Mapping[str, StageRecord]:
        path = self.folder / STAGES_FILE
        if not path.is_file():
            return {}
        lines = path.read_bytes().splitlines()
        return {found.key: found.record for found in map(FrozenStage.read, lines)}

    def keys(self, name: str) -> AbstractSet[str]:
        """Returns the keys of what one of the files holds."""
        return (self._records if name == STAGES_FILE else self.tables[name].index).keys()

    def record(self, key: str) -> StageRecord:
        """Returns the record of a stage with its history."""
        record, histories = self._records[key], self.tables[HISTORIES_FILE]
        if key not in histories.index:
            return record
        history = _history(histories.read(key), histories.index[key].per_epoch)
        return record.model_copy(update={"history": history})

    @property
    def signature(self) -> tuple[object, ...]:
        """Changes whenever one of the files does."""
        paths = (self.folder / name for name in (*TABLES, STAGES_FILE))
        facts = (path.stat() if path.is_file() else None for path in paths)
        return tuple(fact and (fact.st_mtime_ns, fact.st_size, fact.st_ino) for fact in facts)


def write_records(path: Path, records: Mapping[str, StageRecord]) -> None:
    """Writes the records of stages by key, atomically."""
    lines = (FrozenStage(key=key, record=record).as_json() for key, record in records.items())
    with replacing(path) as staging:
        staging.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        flush(staging)


# --- histories --------------------------------------------------------------------------------


def is_table(history: History) -> bool:
    """Whether a history is numbers by epoch, or by epoch and member, as all that we write are."""
    lengths = {len(values) for values in history.values()}
    widths = {len(row) for values in history.values() for row in values if isinstance(row, list)}
    numbers = (
        number
        for values in history.values()
        for row in values
        for number in (row if isinstance(row, list) else [row])
    )
    alike = all(len({isinstance(row, list) for row in values}) == 1 for values in history.values())
    return (
        len(lengths) == len(widths) == 1
        and alike
        and 0 not in widths
        and all(number is None or type(number) in (int, float) for number in numbers)
    )


def history_rows(history: History) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns a history as rows by epoch and member, and its columns that are alike for members."""
    import numpy as np
    import pandas as pd

    per_epoch = tuple(n for n, values in history.items() if not isinstance(values[0], list))
    width = next(len(values[0]) for values in history.values() if isinstance(values[0], list))
    epochs = len(next(iter(history.values())))
    columns = {
        name: np.repeat(np.array(values, dtype=np.float64), width)
        if name in per_epoch
        else np.array(values, dtype=np.float64).ravel()
        for name, values in history.items()
    }
    epoch = np.repeat(np.arange(1, epochs + 1, dtype=np.int32), width)
    member = np.tile(np.arange(width, dtype=np.int32), epochs)
    return pd.DataFrame({"epoch": epoch, "member": member, **columns}), per_epoch


def _history(rows: pd.DataFrame, per_epoch: Iterable[str]) -> History:
    """Returns the history that rows were made of; what is no number is None, as in JSON."""
    width = int(rows["member"].max()) + 1
    found: History = {}
    for name in rows.columns.drop(["epoch", "member"]):
        values = [None if math.isnan(value) else value for value in rows[name].tolist()]
        found[name] = (
            values[::width]
            if name in per_epoch
            else [values[start : start + width] for start in range(0, len(values), width)]
        )
    return found
