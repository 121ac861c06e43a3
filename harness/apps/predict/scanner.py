"""A scan: all structures of a source through one bundle or several, in chunks, into one table.

A chunk is some hundred structures in the order of the source. Each becomes a part, a file that is
written beside its place and renamed into it, in `<table>.parts/`, with the digest of what went in:
the structures, the bundles and the level. After a stop, of whatever kind, the source is gone
through again, which costs little, since nothing is read or predicted for a chunk whose part is
there and has its digest. So no row is lost or there twice, even where the source was changed
meanwhile. The table is put together at the end, part by part; nothing grows with the number of
structures.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.apps.predict.bundle import read_record
from harness.apps.predict.bundle_set import lay_out_records
from harness.apps.predict.bundle_task import (
    CHUNK_STRUCTURES,
    BundleRequest,
    Predictor,
    PredictorElsewhere,
)
from harness.apps.predict.prediction_table import BundleColumns, joint_schema
from harness.apps.predict.scan_sources import Item, ScanSource, digest_item
from harness.errors import HarnessError, StoreError
from harness.files import sweep, whole_file
from harness.processes import begin_helper, clean_context
from harness.remote.dispatcher import Dispatcher, TaskFailed
from harness.remote.executor_session import session_of
from harness.training.workers import refuse_unguarded_script

if TYPE_CHECKING:
    import pyarrow as pa

    from harness.plugin.executor import ExecutorRequest
    from harness.registry.registry import Registry

MOST_REASONS = 1000
"""So many different ones are counted."""

WAITING_CHUNKS = 2
"""Chunks per process that are read ahead."""

DIGEST_KEY = b"harness.chunk"
SCAN_KEY = b"harness.scan"


@dataclass
class ScanCounts:
    """What became of the rows of a scan.

    Attributes:
        failed: how many could not be predicted.
        applicable: how many predictions nothing speaks against.
        reasons: why rows could not be predicted, and how many.
    """

    failed: int = 0
    applicable: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, applicable: Sequence[bool | None], reasons: Sequence[str]) -> None:
        """Counts further rows."""
        self.applicable += applicable.count(True)
        for reason in filter(None, reasons):
            self.failed += 1
            if reason in self.reasons or len(self.reasons) < MOST_REASONS:
                self.reasons[reason] = self.reasons.get(reason, 0) + 1


@dataclass
class ScanReport:
    """What a scan has done.

    Attributes:
        rows: in the table, or, under way, gone through.
        kept: of these, how many were there from an earlier attempt.
        seconds: since it began.
        bundles: what each bundle made of the rows, by the beginning of its columns.
    """

    rows: int = 0
    kept: int = 0
    seconds: float = 0.0
    bundles: dict[str, ScanCounts] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many predictions could not be made, over all bundles."""
        return sum(counts.failed for counts in self.bundles.values())

    @property
    def applicable(self) -> int:
        """How many predictions nothing speaks against, over all bundles."""
        return sum(counts.applicable for counts in self.bundles.values())

    @property
    def reasons(self) -> dict[str, int]:
        """Why predictions could not be made, and how many, over all bundles."""
        return dict(sum((Counter(one.reasons) for one in self.bundles.values()), Counter()))


def scan(
    source: ScanSource,
    settings: BundleRequest,
    table: Path,
    registry: Registry,
    *,
    jobs: int = 1,
    executor: ExecutorRequest | None = None,
    progress: Callable[[ScanReport], None] = lambda report: None,
) -> ScanReport:
    """Predicts every structure of a source; goes on where an earlier call stopped.

    Args:
        source: see `find_source`.
        settings: which bundles, and how.
        table: Parquet file to write; columns as in `prediction_table`.
        registry: with the plugins of the settings.
        jobs: processes.
        executor: what predicts, on other machines say; in the place of processes of this one.
        progress: called when a chunk is done.

    Raises:
        ExecutorError: the executor cannot be had, or is lost; what was done before stays.
        BundleError: a bundle cannot be used, or is of another property than those asked for.
        DataError: the source cannot be gone through; what was done before stays.
        StoreError: the table is there already and of something else; the folder cannot be written
            to, or another scan writes to it; a process died.
    """
    if table.suffix != ".parquet":
        raise StoreError(f"{table}: a scan writes a Parquet file. Name one, as scan.parquet.")
    records = [read_record(folder) for _, folder in settings.bundles]
    layout = lay_out_records(settings.bundles, records, registry, settings.properties)
    identity = _identity([record.digest for record in records], layout, settings.level)
    parts = table.with_name(table.name + ".parts")
    if table.exists():
        report = _already_there(source, table, identity, layout)
        _clear(parts)
        return report
    with _reserved(parts, {**identity, "source": source.name}):
        begun = time.perf_counter()
        chunks = _Chunks(source, parts, identity)
        report = ScanReport()
        for chunk in _carried_out(chunks, settings, jobs, executor, registry):
            report.rows += chunk.rows
            report.kept += chunk.rows if chunk.kept else 0
            report.seconds = time.perf_counter() - begun
            progress(report)
        _assemble(chunks, table, identity, layout)
        report = _count(table, layout, report.kept)
        report.seconds = time.perf_counter() - begun
    _clear(parts)
    return report


def _clear(parts: Path) -> None:
    """Removes what a table was put together from, and what writers that were killed have left."""
    shutil.rmtree(parts, ignore_errors=True)
    sweep(parts.parent)


def _identity(
    digests: Sequence[str], layout: Sequence[BundleColumns], level: float
) -> dict[str, Any]:
    """Names what determines the rows of a table: one bundle, or several and their columns."""
    if len(digests) == 1:
        return {"bundle": digests[0], "level": level}
    named = [[one.key, digest] for one, digest in zip(layout, digests, strict=True)]
    return {"bundles": named, "level": level}


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some items of a source, by their place in it; without the items once its part is written."""

    number: int
    digest: str
    path: Path
    rows: int
    kept: bool
    items: Sequence[Item] = ()


class _Chunks:
    """The chunks of a source, and where their parts lie.

    Attributes:
        digest: of all of them, once they were gone through.
        count: how many there were.
    """

    def __init__(self, source: ScanSource, parts: Path | None, identity: dict[str, Any]) -> None:
        self._source, self._parts = source, parts
        self._identity = json.dumps(identity, sort_keys=True).encode()
        self.digest = ""
        self.count = 0

    def __iter__(self) -> Iterator[_Chunk]:
        whole = sha256(self._identity)
        items = self._source.items()
        self.count = 0
        while taken := list(islice(items, CHUNK_STRUCTURES)):
            digest = sha256(self._identity + b"".join(map(digest_item, taken))).hexdigest()
            whole.update(digest.encode())
            path = self.path(self.count)
            kept = self._parts is not None and _digest_of(path, DIGEST_KEY) == digest
            yield _Chunk(self.count, digest, path, len(taken), kept, () if kept else taken)
            self.count += 1
        self.digest = whole.hexdigest()

    def path(self, number: int) -> Path:
        """Where the part of a chunk lies."""
        return (self._parts or Path()) / f"{number:08d}.parquet"


# --- carrying out -----------------------------------------------------------------------------


def _carried_out(
    chunks: _Chunks,
    settings: BundleRequest,
    jobs: int,
    request: ExecutorRequest | None,
    registry: Registry,
) -> Iterator[_Chunk]:
    """Yields every chunk when its part is there; few are under way at a time."""
    with session_of(request, registry) as session:
        if session is not None:
            yield from _carried_out_elsewhere(chunks, PredictorElsewhere(settings, session))
            return
    if jobs == 1:
        predictor = Predictor(settings)
        for chunk in chunks:
            if not chunk.kept:
                _write(predictor, chunk)
            yield chunk
        return
    with _pool(settings, jobs) as pool:
        under_way: dict[Future[None], _Chunk] = {}
        for chunk in chunks:
            if chunk.kept:
                yield chunk
                continue
            under_way[pool.submit(_write_there, chunk)] = chunk
            if len(under_way) >= jobs * WAITING_CHUNKS:
                yield from _finished(under_way)
        while under_way:
            yield from _finished(under_way)


def _carried_out_elsewhere(chunks: _Chunks, elsewhere: PredictorElsewhere) -> Iterator[_Chunk]:
    """Yields every chunk when an executor has sent its part."""
    dispatcher = elsewhere.dispatcher
    try:
        for chunk in chunks:
            if chunk.kept:
                yield chunk
                continue
            elsewhere.start(replace(chunk, items=()), chunk.items, {DIGEST_KEY: chunk.digest})
            while not dispatcher.room:
                yield from _received(dispatcher)
        while dispatcher.under_way:
            yield from _received(dispatcher)
    finally:
        dispatcher.cancel()


def _received(dispatcher: Dispatcher) -> Iterator[_Chunk]:
    for chunk, outcome in dispatcher.finished():
        if isinstance(outcome, TaskFailed):
            raise outcome
        _write_part(outcome, chunk.path)
        yield chunk


def _finished(under_way: dict[Future[None], _Chunk]) -> Iterator[_Chunk]:
    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
    for future in done:
        chunk = under_way.pop(future)
        future.result()
        yield chunk


@contextmanager
def _pool(settings: BundleRequest, jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share nothing with this one, and end when it ends, even if it is killed."""
    refuse_unguarded_script()
    pool = ProcessPoolExecutor(
        jobs, mp_context=clean_context(), initializer=_start_worker, initargs=(settings,)
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise StoreError(
            "A process of the scan died: it was killed, or ran out of memory. What is done is "
            "kept: run the same again, with fewer --jobs if it happens again."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write(predictor: Predictor, chunk: _Chunk) -> None:
    """Predicts the items of a chunk, and writes its part."""
    _write_part(predictor.part(chunk.items, {DIGEST_KEY: chunk.digest}), chunk.path)


_predictor: Predictor | HarnessError | None = None
"""Of this process, where it is one that `_pool` has started; or why there is none."""


def _start_worker(settings: BundleRequest) -> None:
    global _predictor  # noqa: PLW0603
    begin_helper()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _predictor = Predictor(settings)
    except HarnessError as problem:  # a pool would only say that it is broken
        _predictor = problem


def _write_there(chunk: _Chunk) -> None:
    if not isinstance(_predictor, Predictor):
        raise _predictor or RuntimeError("not a process of a scan")
    _write(_predictor, chunk)


# --- files ------------------------------------------------------------------------------------


@contextmanager
def _reserved(parts: Path, identity: dict[str, Any]) -> Iterator[None]:
    """Takes the folder of parts for this scan; leftovers of writers that were killed go away."""
    try:
        parts.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parts / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"Another scan is writing to {parts}: wait for it, or stop it.") from None
    except OSError as problem:
        raise StoreError(
            f"Cannot write to {parts}: {problem.strerror}. Name another file with -o."
        ) from None
    try:
        sweep(parts)
        record = parts / "scan.json"
        if record.is_file() and json.loads(record.read_text()) != identity:
            raise StoreError(
                f"{parts} holds the beginning of another scan (of {record.read_text().strip()}): "
                "name another file with -o, or remove that folder."
            )
        with _replacing(record) as staging:
            staging.write_text(json.dumps(identity) + "\n")
        yield
    finally:
        lock.release()


def _assemble(
    chunks: _Chunks, table: Path, identity: dict[str, Any], layout: Sequence[BundleColumns]
) -> None:
    """Writes the table, part after part."""
    import pyarrow.parquet as pq

    about = json.dumps({**identity, "source": chunks.digest})
    columns = joint_schema(layout).with_metadata({SCAN_KEY: about})

    with (
        _replacing(table) as staging,
        pq.ParquetWriter(staging, columns, compression="zstd") as writer,
    ):
        for number in range(chunks.count):
            rows = pq.read_table(chunks.path(number))
            writer.write_table(rows.replace_schema_metadata(columns.metadata))


def _already_there(
    source: ScanSource, table: Path, identity: dict[str, Any], layout: Sequence[BundleColumns]
) -> ScanReport:
    """Reports a table that is complete.

    Raises:
        StoreError: it is of another source, bundle or level, or no scan's at all.
    """
    chunks = _Chunks(source, None, identity)
    for _ in chunks:
        pass
    stated = _digest_of(table, SCAN_KEY)
    if stated != json.dumps({**identity, "source": chunks.digest}):
        raise StoreError(
            f"{table} is there already, and not the table of this source, bundle and level: name "
            "another file with -o, or remove it."
        )
    report = _count(table, layout, 0)
    report.kept = report.rows
    return report


def _count(table: Path, layout: Sequence[BundleColumns], kept: int) -> ScanReport:
    """Goes through a table and counts."""
    report = ScanReport(kept=kept, bundles={one.key: ScanCounts() for one in layout})
    columns = [(one.key, one.column("applicable"), one.column("reason")) for one in layout]
    for batch in read_batches(table, [name for _, *names in columns for name in names]):
        report.rows += len(batch)
        for key, applicable, reason in columns:
            report.bundles[key].add(batch[applicable].to_pylist(), batch[reason].to_pylist())
    return report


def read_batches(table: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a table, some at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(table) as file:
        yield from file.iter_batches(columns=list(columns))


def _digest_of(path: Path, key: bytes) -> str | None:
    """What a Parquet file says of itself; None where it is none, or says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stated = (pq.read_schema(path).metadata or {}).get(key)
    except (OSError, pa.ArrowException):
        return None
    return stated.decode() if stated is not None else None


def _write_part(content: bytes, path: Path) -> None:
    with _replacing(path) as staging:
        staging.write_bytes(content)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        with whole_file(path) as staging:
            yield staging
    except OSError as problem:
        raise StoreError(f"Cannot write {path}: {problem.strerror or problem}.") from problem
