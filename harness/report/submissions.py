"""Results to pass on: packed into one folder, checked without running anything in it, merged.

<folder>/submission.json   the manifest: every file with its sha256
<folder>/method.toml       the card of the method
<folder>/plan.json, results.jsonl, predictions/, stages/   as in a results folder, without weights
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchmarkError, HarnessError, StoreError
from harness.files import new_folder
from harness.planning.benchmark import Benchmark, check_settings
from harness.plugin.cell import DEFAULT
from harness.reading import UNREADABLE, parse_json, parse_toml, read_text
from harness.report.submission_schema import (
    ALLOWED,
    CARD_EXAMPLE,
    CARD_FILE,
    FORMAT,
    LEDGER_TYPES,
    MANIFEST_FILE,
    OPTIONAL_TYPES,
    PREDICTION_TYPES,
    Manifest,
    MethodCard,
    PlanFile,
    PlannedCell,
    ResultLine,
    StageRecord,
)
from harness.results.store import PLAN_FILE, Store

if TYPE_CHECKING:
    from pydantic import BaseModel

FILES_AT_MOST = 10_000
BYTES_AT_MOST = 2**30
"""Of a submission, and of a table in it once it is unpacked: what a check will read."""

SUBMISSIONS = "submissions"
"""Where the folder of a leaderboard of many people holds what they submitted, by name."""

NOT_SETTINGS = ("rows", "limit")
"""What `plan.json` holds of a benchmark besides its settings."""


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
            manifest = check_settings(Manifest, _json(path), MANIFEST_FILE)
            card = read_card(folder / CARD_FILE)
        except BenchmarkError as problem:
            raise StoreError(f"{folder}: {problem}") from None
        return cls(folder, manifest, card)


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
        raw = parse_toml(read_text(path, strict=True))
        card: MethodCard = check_settings(MethodCard, raw, str(path))
    except (*UNREADABLE, BenchmarkError) as problem:
        raise StoreError(f"{path}: {problem}\nFor example:\n\n{CARD_EXAMPLE}") from None
    return card


def _json(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_text(path, strict=True))
    except UNREADABLE as problem:
        raise StoreError(f"{path} is damaged: {problem}") from None
    if not isinstance(found, dict):
        raise StoreError(f"{path} is damaged: expected a JSON object")
    return found


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
    if plan["benchmark"].get("limit"):
        raise StoreError(f"{store.folder} holds a dry run (--limit): it cannot be submitted.")
    lines = _complete_lines(store, plan)
    with new_folder(target) as staging:
        shutil.copyfile(card, staging / CARD_FILE)
        for relative in _parts(plan):
            source, copy = store.folder / relative, staging / relative
            if not source.is_file():
                raise StoreError(f"{source} is missing. Run `harness run` again, then pack.")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (staging / "results.jsonl").write_text(text, encoding="utf-8")
        _write_manifest(staging, plan["benchmark"]["name"], harness_version)
    return Submission.read(target)


def copy_whole(source: Path, target: Path) -> None:
    """Copies a submission: the files of its manifest, all or nothing.

    Raises:
        StoreError: the target exists or cannot be written, or a file is missing.
    """
    with new_folder(target) as staging:
        for name in (MANIFEST_FILE, *Submission.read(source).manifest.files):
            if name != MANIFEST_FILE and not ALLOWED.fullmatch(name):
                raise StoreError(f"{source}: {name!r} does not belong in a submission.")
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, staging / name)


def _parts(plan: Mapping[str, Any]) -> Iterator[str]:
    """Paths of what is copied as it is."""
    yield PLAN_FILE
    for cell in plan["cells"]:
        yield f"predictions/{cell['key']}.parquet"
        if cell["tuning"] != DEFAULT:
            yield f"tuning/{cell['key']}.parquet"
    for key in dict.fromkeys(key for cell in plan["cells"] for key in cell["chain"]):
        yield from (f"stages/{key}/stage.json", f"stages/{key}/ledger.parquet")


def _complete_lines(store: Store, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The result lines of the plan, in its order; all of them, or an error that says which lack."""
    runs = range(1, plan["benchmark"]["runs"] + 1)
    have = {(line["key"], line["run"]): line for line in store.read_results()}
    wanted = [(cell["key"], run) for cell in plan["cells"] for run in runs]
    missing = [place for place in wanted if place not in have]
    if missing:
        raise StoreError(
            f"{store.results_path} lacks {len(missing)} of {len(wanted)} results (the first: "
            f"cell {missing[0][0]}, run {missing[0][1]}). Finish them with `harness run`."
        )
    return [have[place] for place in wanted]


def _write_manifest(folder: Path, benchmark: str, version: str) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _facts(path) for path in paths}
    content = {"format": FORMAT, "harness": version, "benchmark": benchmark, "files": files}
    (folder / MANIFEST_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _facts(path: Path) -> dict[str, Any]:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "bytes": path.stat().st_size}


# --- checking ---------------------------------------------------------------------------------


def check_files(submission: Submission) -> Iterator[str]:
    """Compares the folder with its manifest; yields a line per difference.

    Links are refused, as is any file that a submission has no use for.
    """
    folder, listed = submission.folder, submission.manifest.files
    if len(listed) > FILES_AT_MOST or sum(f.bytes for f in listed.values()) > BYTES_AT_MOST:
        yield f"{MANIFEST_FILE}: more than {FILES_AT_MOST} files or {BYTES_AT_MOST} bytes"
        return
    found = set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name} is a link; a submission holds files only"
        elif path.is_file() and name != MANIFEST_FILE:
            found.add(name)
            if not ALLOWED.fullmatch(name):
                yield f"{name} does not belong in a submission"
            elif name not in listed:
                yield f"{name} is not in {MANIFEST_FILE}"
    for name, facts in listed.items():
        if not ALLOWED.fullmatch(name):
            yield f"{MANIFEST_FILE}: {name!r} does not belong in a submission"
        elif name not in found:
            yield f"{name} is in {MANIFEST_FILE}, but not in the folder"
        elif _facts(folder / name) != facts.model_dump():
            yield f"{name}: its sha256 or size is not that of {MANIFEST_FILE}"


def check_schema(submission: Submission) -> Iterator[str]:
    """Checks every file against its schema; yields a line per difference."""
    folder = submission.folder
    try:
        plan = check_settings(PlanFile, _json(folder / PLAN_FILE), PLAN_FILE)
    except HarnessError as problem:
        yield str(problem)
        return
    settings = {k: v for k, v in plan.benchmark.items() if k not in NOT_SETTINGS}
    yield from _differences(Benchmark, settings, f"{PLAN_FILE}, benchmark")
    if plan.benchmark.get("rows") != {name: data.rows for name, data in plan.datasets.items()}:
        yield f"{PLAN_FILE}, benchmark: rows are not those of its datasets"
    for number, cell in enumerate(plan.cells, start=1):
        yield from _differences(PlannedCell, cell, f"{PLAN_FILE}, cell {number}")
    try:
        lines = Store(folder).read_results()
    except StoreError as problem:
        yield str(problem)
        return
    for number, line in enumerate(lines, start=1):
        yield from _differences(ResultLine, line, f"results.jsonl, line {number}")
    for path in sorted(folder.glob("stages/*/stage.json")):
        try:
            record = _json(path)
        except StoreError as problem:
            yield str(problem)
            continue
        yield from _differences(StageRecord, record, path.relative_to(folder).as_posix())
    for path in sorted(folder.glob("predictions/*.parquet")):
        yield from _check_table(folder, path, PREDICTION_TYPES, OPTIONAL_TYPES)
    for path in sorted((*folder.glob("stages/*/ledger.parquet"), *folder.glob("tuning/*"))):
        yield from _check_table(folder, path, LEDGER_TYPES, {})


def _differences(model: type[BaseModel], values: Mapping[str, Any], who: str) -> Iterator[str]:
    try:
        check_settings(model, values, who)
    except BenchmarkError as problem:
        yield from str(problem).splitlines()


def _check_table(
    folder: Path, path: Path, needed: Mapping[str, str], optional: Mapping[str, str]
) -> Iterator[str]:
    """Compares a table's columns with the schema; reads its head only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = path.relative_to(folder).as_posix()
    try:
        head = pq.ParquetFile(path).metadata
        schema = head.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as problem:
        yield f"{name} is no Parquet file: {problem}"
        return
    size = sum(head.row_group(group).total_byte_size for group in range(head.num_row_groups))
    if size > BYTES_AT_MOST:
        yield f"{name} unpacks to more than {BYTES_AT_MOST} bytes"
    known = {**needed, **optional}
    for field in schema:
        if field.name not in known:
            yield f"{name}: unknown column {field.name!r}"
        elif not getattr(pa.types, f"is_{known[field.name]}")(field.type):
            yield f"{name}: column {field.name} is {field.type}, expected {known[field.name]}"
    for column in needed:
        if column not in schema.names:
            yield f"{name}: the column {column} is missing"


def check_complete(submission: Submission) -> Iterator[str]:
    """Looks for what the plan names and the folder lacks, or the other way round."""
    store = Store(submission.folder)
    plan = store.read_plan()
    try:
        lines = _complete_lines(store, plan)
    except StoreError as problem:
        yield str(problem)
        return
    extra = len(store.read_results()) - len(lines)
    if extra:
        yield f"results.jsonl has {extra} lines that are in no cell of {PLAN_FILE}, or twice"
    wanted = {CARD_FILE, "results.jsonl", *_parts(plan)}
    for name in sorted(wanted ^ set(submission.manifest.files)):
        what = "is missing" if name in wanted else f"is of no cell in {PLAN_FILE}"
        yield f"{name} {what}"
    if plan["benchmark"].get("limit"):
        yield f"{PLAN_FILE}: a dry run (limit) cannot be submitted"
    if plan["benchmark"]["name"] != submission.manifest.benchmark:
        yield f"{MANIFEST_FILE}: the benchmark is not that of {PLAN_FILE}"
