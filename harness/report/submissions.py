"""Results to pass on: packed into one folder, checked without running anything in it, merged.

<folder>/submission.json   the manifest: every file with its sha256
<folder>/method.toml       the card of the method
<folder>/plan.json, results.jsonl, predictions/, stages/   as in a results folder, without weights
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import BenchmarkError, StoreError
from harness.files import explained, new_folder, sweep
from harness.planning.benchmark import Benchmark, check_settings, explain
from harness.reading import UNREADABLE, parse_json, parse_toml, read_text
from harness.redaction import holds_secret
from harness.report.submission_schema import (
    ALLOWED,
    CARD_EXAMPLE,
    CARD_FILE,
    LEDGER_TYPES,
    MANIFEST_FILE,
    OPTIONAL_TYPES,
    PREDICTION_TYPES,
    MethodCard,
)
from harness.results.records import (
    FORMAT,
    FROM_OTHERS,
    FileFacts,
    Manifest,
    PlanFile,
    Record,
    ResultLine,
    StageRecord,
)
from harness.results.store import (
    LEDGER_FILE,
    PLAN_FILE,
    RESULTS_FILE,
    STAGE_FILE,
    Store,
    lines_text,
)

FILES_AT_MOST = 10_000
BYTES_AT_MOST = 2**30
TEXT_AT_MOST = 64 * 2**20
"""Of a submission, and of a text file in it: what a check will read."""

TABLE_BYTES_AT_MOST = 2**29
ROWS_AT_MOST = 4_000_000
LETTERS_AT_MOST = 1_000
"""Of a table once it is unpacked, and of a text in it."""

LARGEST_INTEGER = 2**63
DEEPEST = 50
"""Of JSON: what the numbers of tables can hold, and how deep records are nested, by far."""

PANDAS = b"pandas"
"""Key of what pandas notes of a table in its metadata."""

TEXTS = (".toml", ".json", ".jsonl")
SUBMISSIONS = "submissions"
"""Where the folder of a leaderboard of many people holds what they submitted, by name."""


@dataclass(frozen=True)
class Submission:
    """A submission whose manifest and card could be read.

    Attributes:
        folder: where it lies.
        manifest: every file with its digest.
        card: who submits what.
    """

    folder: Path
    manifest: Manifest
    card: MethodCard

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """Reads manifest and card.

        Raises:
            StoreError: the folder is no submission, or one of the two is not as it must be.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise StoreError(
                f"{folder} is no submission: it has no {MANIFEST_FILE}. "
                "`harness submission pack` makes one of a results folder."
            )
        try:
            text = read_text(path, TEXT_AT_MOST, strict=True)
        except UNREADABLE as problem:
            raise StoreError(f"{path} cannot be read: {problem}") from None
        if differences := list(_differences(Manifest, text, MANIFEST_FILE)):
            raise StoreError("\n".join(f"{folder}: {line}" for line in differences))
        return cls(folder, Manifest.read(text), read_card(folder / CARD_FILE))


def read_card(path: Path) -> MethodCard:
    """Reads the card of a method.

    Raises:
        StoreError: it is missing or malformed; the message shows what a card looks like.
    """
    if not path.is_file():
        raise StoreError(
            f"{path}, the card of the method, is missing. For example:\n\n{CARD_EXAMPLE}"
        )
    try:
        raw = parse_toml(read_text(path, TEXT_AT_MOST, strict=True))
        card: MethodCard = check_settings(MethodCard, raw, str(path), FROM_OTHERS)
    except (*UNREADABLE, BenchmarkError) as problem:
        raise StoreError(f"{path}: {problem}\nFor example:\n\n{CARD_EXAMPLE}") from None
    return card


# --- packing ----------------------------------------------------------------------------------


def pack(store: Store, card: Path, target: Path, harness_version: str) -> Submission:
    """Packs finished results into a folder of their own.

    Args:
        store: the results.
        card: the method's card.
        target: the folder to make; there must be none yet.
        harness_version: for the manifest.

    Raises:
        StoreError: results are missing or incomplete, of a dry run, or the folder exists.
    """
    read_card(card)
    plan = store.read_plan()
    if plan.limit:
        raise StoreError(f"{store.folder} holds a dry run (--limit): it cannot be submitted.")
    lines = store.complete_results(plan)
    with explained(target.parent), new_folder(target) as staging:
        shutil.copyfile(card, staging / CARD_FILE)
        _copy(store, plan, lines, Store.create(staging))
        _refuse_secrets(staging)
        _write_manifest(staging, plan.name, harness_version)
    return Submission.read(target)


def _refuse_secrets(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _holds_secret(path):
            raise StoreError(
                f"{path.name} holds a password or key. Take it out before you pass it on."
            )


def _holds_secret(path: Path) -> bool:
    """Whether a text file of a submission holds a password or key; tables hold rows alone."""
    return path.suffix in TEXTS and holds_secret(
        path.read_bytes().decode(encoding="utf-8", errors="replace")
    )


def _copy(store: Store, plan: PlanFile, lines: Sequence[ResultLine], copy: Store) -> None:
    """Writes what a plan and its results need, one file each, frozen or not where they are."""
    copy.write_plan(plan)
    copy.write_text(RESULTS_FILE, lines_text(lines))
    for cell in plan.cells:
        copy.write_predictions(cell.key, store.read_predictions(cell.key))
        if cell.tuned:
            copy.write_tuning_ledger(cell.key, store.read_tuning_ledger(cell.key))
    for key in plan.stages:
        copy.write_record(key, store.stage_record(key), store.read_ledger(key))


def copy_whole(source: Path, target: Path) -> None:
    """Copies a submission: the files of its manifest, all or nothing.

    Raises:
        StoreError: the target exists or cannot be written, or a file is missing.
    """
    with explained(target.parent), new_folder(target) as staging:
        for name in (MANIFEST_FILE, *Submission.read(source).manifest.files):
            if name != MANIFEST_FILE and not ALLOWED.fullmatch(name):
                raise StoreError(f"{source}: {name!r} does not belong in a submission.")
            if not (source / name).is_file():
                raise StoreError(f"{source}: {name} is missing. Fetch the submission again.")
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, staging / name)


def folders_of(folder: Path) -> list[Path]:
    """Returns the folders of the submissions that a results folder holds, by name."""
    submissions = folder / SUBMISSIONS
    sweep(submissions)  # of a copy that was killed
    if not submissions.is_dir():
        return []
    return sorted(path for path in submissions.iterdir() if not path.name.startswith("."))


def _parts(plan: PlanFile) -> Iterator[str]:
    """Paths of what it needs besides card and result lines."""
    yield PLAN_FILE
    for cell in plan.cells:
        yield f"predictions/{cell.key}.parquet"
        if cell.tuned:
            yield f"tuning/{cell.key}.parquet"
    for key in plan.stages:
        yield from (f"stages/{key}/{STAGE_FILE}", f"stages/{key}/{LEDGER_FILE}")


def _write_manifest(folder: Path, benchmark: str, version: str) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): facts_of(path) for path in paths}
    made = Manifest(format=FORMAT, harness=version, benchmark=benchmark, files=files)
    text = json.dumps(made.as_json(), indent=1)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def facts_of(path: Path) -> FileFacts:
    """Returns what a manifest says of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return FileFacts(sha256=digest.hexdigest(), bytes=path.stat().st_size)


# --- checking ---------------------------------------------------------------------------------


def check_files(submission: Submission) -> Iterator[str]:
    """Compares the folder with its manifest; yields a line per difference.

    Links are refused, as is any file that a submission has no use for, and one with a secret.
    """
    folder, listed = submission.folder, submission.manifest.files
    if len(listed) > FILES_AT_MOST or sum(f.bytes for f in listed.values()) > BYTES_AT_MOST:
        yield f"{MANIFEST_FILE}: more than {FILES_AT_MOST} files or {BYTES_AT_MOST} bytes"
        return
    paths = list(islice(folder.rglob("*"), 4 * FILES_AT_MOST))
    if len(paths) == 4 * FILES_AT_MOST:
        yield f"the folder holds more than {FILES_AT_MOST} files"
        return
    yield from _check_paths(folder, paths, listed)
    plain = (path for path in paths if path.is_file() and not path.is_symlink())
    found = {path.relative_to(folder).as_posix() for path in plain}
    for name, facts in listed.items():
        if not ALLOWED.fullmatch(name):
            yield f"{MANIFEST_FILE}: {name!r} does not belong in a submission"
        elif name not in found:
            yield f"{name} is in {MANIFEST_FILE}, but not in the folder"
        else:
            yield from _check_file(folder, name, facts)


def _check_paths(
    folder: Path, paths: Sequence[Path], listed: Mapping[str, FileFacts]
) -> Iterator[str]:
    for path in sorted(paths):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name} is a link; a submission holds files only"
        elif not path.is_file() and not path.is_dir():
            yield f"{name} is no plain file"
        elif path.is_file() and name != MANIFEST_FILE:
            if not ALLOWED.fullmatch(name):
                yield f"{name} does not belong in a submission"
            elif name not in listed:
                yield f"{name} is not in {MANIFEST_FILE}"


def _check_file(folder: Path, name: str, facts: FileFacts) -> Iterator[str]:
    size = (folder / name).stat().st_size
    if size != facts.bytes or facts_of(folder / name) != facts:  # a huge file is not read
        yield f"{name}: its sha256 or size is not that of {MANIFEST_FILE}"
    elif Path(name).suffix in TEXTS and size > TEXT_AT_MOST:
        yield f"{name} is larger than {TEXT_AT_MOST} bytes"
    elif _holds_secret(folder / name):
        yield f"{name} holds a password or key: tell its owner to change it, and to pack again"


def check_schema(submission: Submission) -> Iterator[str]:
    """Checks every file against its schema; yields a line per difference."""
    folder = submission.folder
    for name in (PLAN_FILE, RESULTS_FILE):
        if not (folder / name).is_file():
            yield f"{name} is missing"
            return
    if found := list(_differences(PlanFile, (folder / PLAN_FILE).read_bytes(), PLAN_FILE)):
        yield from found
        return
    plan = Store(folder).read_plan()
    try:
        check_settings(Benchmark, plan.settings, f"{PLAN_FILE}, benchmark")
    except BenchmarkError as problem:
        yield from str(problem).splitlines()
    else:
        yield from _check_sources(plan)
    if plan.benchmark.get("rows") != {name: data.rows for name, data in plan.datasets.items()}:
        yield f"{PLAN_FILE}, benchmark: rows are not those of its datasets"
    lines = (folder / RESULTS_FILE).read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        yield from _differences(ResultLine, line, f"{RESULTS_FILE}, line {number}")
    for path in sorted(folder.glob(f"stages/*/{STAGE_FILE}")):
        name = path.relative_to(folder).as_posix()
        yield from _differences(StageRecord, path.read_bytes(), name)
    for path in sorted(folder.glob("predictions/*.parquet")):
        yield from _check_table(folder, path, PREDICTION_TYPES, OPTIONAL_TYPES)
    for path in sorted((*folder.glob(f"stages/*/{LEDGER_FILE}"), *folder.glob("tuning/*"))):
        yield from _check_table(folder, path, LEDGER_TYPES, {})


def _check_sources(plan: PlanFile) -> Iterator[str]:
    """Looks for cells whose predictions come from no member of a stage of their own."""
    for cell in plan.cells:
        runs = plan.runs_of(cell)
        if list(runs) != sorted(set(runs)) or runs[-1] > plan.runs:
            yield f"{PLAN_FILE}, {cell.title}: runs are to be some of 1 to {plan.runs}, in order"
        if cell.sources and len(cell.sources) != len(runs):
            yield f"{PLAN_FILE}, {cell.title}: sources of {len(cell.sources)} runs, not {len(runs)}"
        for run, sources in zip(runs, cell.sources, strict=False):
            if not sources or any(s not in cell.chain or not 0 <= i < 10_000 for s, i in sources):
                yield (
                    f"{PLAN_FILE}, {cell.title}, run {run}: sources are to be members of its stages"
                )


def _differences(model: type[Record], text: str | bytes, who: str) -> Iterator[str]:
    try:
        _check_values(parse_json(text.decode() if isinstance(text, bytes) else text))
        model.read_from_others(text)
    except ValidationError as problem:
        for error in problem.errors():
            yield shortened(f"{who}: {explain(error, model)}")
    except ValueError as problem:  # no JSON in UTF-8, or such that nothing can be done with it
        yield shortened(f"{who}: {problem}")


def _check_values(value: Any, depth: int = 0) -> None:
    """Refuses what records never hold and reading them would choke on.

    Raises:
        ValueError: JSON is nested too deeply, or holds an integer beyond what tables can hold.
    """
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        raise ValueError("it holds an integer beyond 64 bits")
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, depth + 1)


def shortened(text: str, most: int = 500) -> str:
    """Returns text without what is too long to be read."""
    return text if len(text) <= most else f"{text[:most]} …"


def _check_table(
    folder: Path, path: Path, needed: Mapping[str, str], optional: Mapping[str, str]
) -> Iterator[str]:
    """Compares a table's columns with the schema, and if they fit, looks through its texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path.relative_to(folder).as_posix()
    try:
        head = pq.ParquetFile(path).metadata
        schema = head.schema.to_arrow_schema()
    except (*UNREADABLE, pa.ArrowException) as problem:
        yield shortened(f"{name} is no Parquet file: {problem}")
        return
    differences = [
        *_check_size(head),
        *_check_columns(schema, needed, optional),
    ]
    try:
        differences = differences or list(_check_texts(path, needed))
    except (*UNREADABLE, pa.ArrowException) as problem:
        differences = [f"cannot be read: {problem}"]
    yield from (shortened(f"{name}: {line}") for line in differences)


def _check_size(head: Any) -> Iterator[str]:
    """Refuses a table that would not fit into memory; `head` is what pyarrow says of it."""
    size = sum(head.row_group(group).total_byte_size for group in range(head.num_row_groups))
    if not 0 <= size <= TABLE_BYTES_AT_MOST:
        yield f"unpacks to more than {TABLE_BYTES_AT_MOST} bytes"
    if not 0 <= head.num_rows <= ROWS_AT_MOST:
        yield f"has {head.num_rows} rows; at most {ROWS_AT_MOST} are read"


def _check_texts(path: Path, needed: Mapping[str, str]) -> Iterator[str]:
    """Looks for texts that are too long, and for missing values where there must be some.

    Texts stay in their dictionaries, so that a long one is not written out once for every row.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    texts = [column for column, kind in needed.items() if kind == "string"]
    columns = [column for column, kind in needed.items() if kind != "floating"]
    file = pq.ParquetFile(path, read_dictionary=texts)
    for batch in file.iter_batches(batch_size=65_536, columns=columns):
        for column in columns:
            values = batch.column(column)
            if values.null_count:
                yield f"{column} is missing in some row"
                return
            words = getattr(values, "dictionary", None)
            if words is None or not len(words):
                continue
            if pc.max(pc.binary_length(words)).as_py() > LETTERS_AT_MOST:
                yield f"{column} holds a text of more than {LETTERS_AT_MOST} bytes"
                return


def _check_columns(
    schema: Any, needed: Mapping[str, str], optional: Mapping[str, str]
) -> Iterator[str]:
    """Compares columns, as pyarrow names them, with those that are known."""
    import pyarrow as pa

    if PANDAS in (schema.metadata or {}) and not _is_plain(schema.metadata[PANDAS]):
        yield "what it says of itself to pandas is malformed"
    known = {**needed, **optional}
    for field in schema:
        if field.name not in known:
            yield f"unknown column {field.name!r}"
        elif not getattr(pa.types, f"is_{known[field.name]}")(field.type):
            yield f"column {field.name} is {field.type}, expected {known[field.name]}"
    for column in needed:
        if column not in schema.names:
            yield f"the column {column} is missing"


def _is_plain(described: bytes) -> bool:
    """Whether what pandas noted of a table is what it notes of one without an index of its own."""
    try:
        noted = parse_json(described.decode())
    except ValueError:
        return False
    return isinstance(noted, dict) and all(
        isinstance(index, dict) for index in noted.get("index_columns", ())
    )


def check_complete(submission: Submission) -> Iterator[str]:
    """Looks for what the plan names and the folder lacks, or the other way round."""
    store = Store(submission.folder)
    plan = store.read_plan()
    try:
        lines = store.complete_results(plan)
    except StoreError as problem:
        yield str(problem)
        return
    extra = len(store.read_results()) - len(lines)
    if extra:
        yield f"{RESULTS_FILE} has {extra} lines that are in no cell of {PLAN_FILE}, or twice"
    wanted = {CARD_FILE, RESULTS_FILE, *_parts(plan)}
    for name in sorted(wanted ^ set(submission.manifest.files)):
        what = "is missing" if name in wanted else f"is of no cell in {PLAN_FILE}"
        yield f"{name} {what}"
    if plan.limit:
        yield f"{PLAN_FILE}: a dry run (limit) cannot be submitted"
    if plan.name != submission.manifest.benchmark:
        yield f"{MANIFEST_FILE}: the benchmark is not that of {PLAN_FILE}"
