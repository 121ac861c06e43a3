"""What a run leaves on disk: stage artefacts, per-row predictions, result lines. All atomic.

<out>/plan.json               the benchmark as it was run, and the cells that belong to it
<out>/results.jsonl           one line per (cell, run)
<out>/failures.jsonl          what has failed in the last run, which the next one tries again
<out>/predictions/<key>.parquet   rows (run, part, id, role, target, prediction, overlap)
<out>/stages/<key>/           weights.safetensors + stage.json + ledger.parquet; remade when missing
<out>/tuning/<key>.parquet    rows that settings were chosen by

All but the first three and the weights may lie in the few files of `frozen` instead.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.errors import StoreError
from harness.files import (
    explained,
    make_folder,
    replacing,
    replacing_files,
    replacing_folder,
    sweep,
    unwritable,
)
from harness.planning.ledger import COLUMNS
from harness.reading import check_regular
from harness.redaction import redacted
from harness.results.frozen import (
    HISTORIES_FILE,
    LEDGERS_FILE,
    PREDICTIONS_FILE,
    STAGES_FILE,
    TUNING_LEDGERS_FILE,
    Frozen,
)
from harness.results.records import (
    Failure,
    FrozenStage,
    OtherFormatError,
    PlanFile,
    Record,
    ResultLine,
    StageFacts,
    StageRecord,
)
from harness.results.row_tables import (
    check_columns,
    load_rows,
    read_rows,
    write_rows,
)
from harness.results.scored_runs import ScoredRuns

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from harness.plugin.property import Scale
    from harness.results.row_tables import Rows

PLAN_FILE = "plan.json"
RESULTS_FILE = "results.jsonl"
FAILURES_FILE = "failures.jsonl"
TUNING_FOLDER = "tuning"
SUBFOLDERS = ("stages", "predictions", TUNING_FOLDER)
WEIGHTS_FILE, STAGE_FILE, LEDGER_FILE = "weights.safetensors", "stage.json", "ledger.parquet"
CHOICES_FILE = "best.toml"
"""The benchmark with the settings that a search has chosen."""
TRIALS_FILE = "trials.csv"
"""All trials of a search."""

SPREAD_COLUMNS: Mapping[Scale, str] = {"log": "std_log", "linear": "std"}
"""What the std of predictions is called, by the scale that it is on; heads may give none."""
PREDICTION_COLUMNS = ("run", "part", "id", "target", "prediction", "overlap")
RESTORE = "Restore the file, or remove what was made of it and run `harness run` again."


@dataclass(frozen=True, eq=False)
class ScoredCell:
    """What is written of a cell once it is scored.

    Attributes:
        key: of its scoring.
        rows: its file of what it predicts; see `file_of_rows`.
        tuning: the rows that its settings were chosen by; none where they were not searched for.
        results: one line per run.
    """

    key: str
    rows: memoryview
    tuning: pd.DataFrame | None
    results: Sequence[ResultLine]


class Store:
    """A results folder. Opening it reads and writes nothing; `create` makes one to write to.

    Whatever is read raises StoreError, naming the file, where it is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._frozen = Frozen(folder)
        self._signature = self._frozen.signature
        self._scored = ScoredRuns(self.results_path, self._parse_line)

    @property
    def frozen(self) -> Frozen:
        """What is frozen here, read again whenever its files change."""
        fresh = Frozen(self.folder)
        if fresh.signature != self._signature:
            self._frozen, self._signature = fresh, fresh.signature
        return self._frozen

    @classmethod
    def create(cls, folder: Path) -> Store:
        """Makes a results folder, where there is none yet, and sees that it can be written.

        Raises:
            StoreError: it cannot.
        """
        try:
            for sub in ("stages", "predictions"):
                (folder / sub).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as problem:
            raise unwritable(folder, problem) from problem
        store = cls(folder)
        store.sweep()
        return store

    def sweep(self) -> None:
        """Removes what writers that were killed have left; costs 0.1 ms per stage."""
        folders = (self.folder, *(self.folder / sub for sub in SUBFOLDERS))
        for folder in (*folders, *self.folder.glob("stages/*/")):
            sweep(folder)

    @property
    def results_path(self) -> Path:
        """The file with one line per (cell, run)."""
        return self.folder / RESULTS_FILE

    # --- stages -----------------------------------------------------------------------------

    def stage_folder(self, key: str) -> Path:
        """Where a stage's artefact lies, or will lie."""
        return self.folder / "stages" / key

    def weights_path(self, key: str) -> Path:
        """Where a stage's tensors lie; results that are passed on go without them."""
        return self.stage_folder(key) / WEIGHTS_FILE

    def has_stage(self, key: str) -> bool:
        """Whether a stage's artefact is complete."""
        return self.weights_path(key).is_file()

    def checkpoint_path(self, key: str) -> Path:
        """Where a stage in training, or a stack of them, keeps its checkpoint."""
        return self.folder / "stages" / f"{key}.checkpoint"

    @contextmanager
    def try_stage(self, key: str) -> Iterator[bool]:
        """Takes a stage for this process; yields False where another process has it.

        The lock is the operating system's: it vanishes with the process that holds it.
        """
        lock = FileLock(self.folder / "stages" / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        except OSError as problem:
            raise unwritable(self.folder, problem) from problem
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def try_stages(self, keys: Iterable[str]) -> Iterator[bool]:
        """Takes all of some stages; yields False where another process has one of them."""
        with ExitStack() as locks:
            yield all(locks.enter_context(self.try_stage(key)) for key in keys)

    def write_stage(
        self,
        key: str,
        tensors: Mapping[str, torch.Tensor],
        facts: StageFacts,
        ledger: pd.DataFrame,
    ) -> None:
        """Writes a stage's artefact: all of it or nothing; then drops its checkpoint."""
        from safetensors.torch import save

        with explained(self.folder), replacing_folder(self.stage_folder(key)) as staging:
            content = save(dict(tensors))  # `save_file` has errors of its own for a full disk
            (staging / WEIGHTS_FILE).write_bytes(content)
            record = {**facts.as_json(), "artefact_sha256": sha256(content).hexdigest()}
            (staging / STAGE_FILE).write_text(redacted(json.dumps(record)) + "\n")
            write_rows(staging / LEDGER_FILE, key, ledger)
        self.checkpoint_path(key).unlink(missing_ok=True)

    def stage_files(self, key: str) -> dict[str, bytes]:
        """Reads all files of a stage's artefact as they are, by name."""
        with _reading(self.stage_folder(key)):
            return {
                path.name: path.read_bytes() for path in sorted(self.stage_folder(key).iterdir())
            }

    def put_stage(self, key: str, files: Mapping[str, bytes]) -> None:
        """Writes a stage's artefact that was made elsewhere: all of it or nothing.

        Raises:
            StoreError: its weights are not those that its record names.
        """
        record = StageRecord.read(files[STAGE_FILE])
        if sha256(files[WEIGHTS_FILE]).hexdigest() != record.artefact_sha256:
            raise StoreError(f"The weights of the stage {key} came back damaged: run it again.")
        with explained(self.folder), replacing_folder(self.stage_folder(key)) as staging:
            for name, content in files.items():
                (staging / Path(name).name).write_bytes(content)

    def read_stage(self, key: str) -> tuple[dict[str, torch.Tensor], StageRecord]:
        """Reads a stage's tensors (on the CPU) and record; the tensors are those it names.

        That costs 1 to 3 ms per MB.
        """
        from safetensors.torch import load

        record, path = self.stage_record(key), self.weights_path(key)
        with _reading(path):
            check_regular(path)
            content = path.read_bytes()
            if sha256(content).hexdigest() != record.artefact_sha256:
                raise ValueError("it is not the file that was trained")
            return load(content), record

    def has_record(self, key: str) -> bool:
        """Whether a stage's record is there."""
        return self._record_path(key).is_file() or self._is_frozen(STAGES_FILE, key)

    def has_ledger(self, key: str) -> bool:
        """Whether a stage's ledger is there."""
        return self.ledger_path(key).is_file() or self._is_frozen(LEDGERS_FILE, key)

    def read_ledger(self, key: str) -> pd.DataFrame:
        """Reads what a stage used each row for; columns as `ledger.COLUMNS`."""
        return self._read_rows(self.ledger_path(key), LEDGERS_FILE, key, COLUMNS)

    def stage_record(self, key: str) -> StageRecord:
        """Reads a stage's record: history, best epochs, skipped updates, seconds."""
        path = self._record_path(key)
        if not path.is_file() and self._is_frozen(STAGES_FILE, key):
            with _reading(self.folder / HISTORIES_FILE):
                return self.frozen.record(key)
        with _reading(path):
            check_regular(path)
            return StageRecord.read(path.read_bytes())

    def write_record(self, key: str, record: StageRecord, ledger: pd.DataFrame) -> None:
        """Writes a stage's record and ledger, without the weights."""
        text = redacted(json.dumps(record.as_json()))
        with explained(self.folder):
            self.stage_folder(key).mkdir(exist_ok=True)
            self._record_path(key).write_text(text + "\n")
        self.write_ledger(key, ledger)

    def write_ledger(self, key: str, ledger: pd.DataFrame) -> None:
        """Writes what a stage used each row for, atomically."""
        write_rows(self.ledger_path(key), key, ledger)

    def ledger_path(self, key: str) -> Path:
        """Where a stage's ledger lies until it is frozen."""
        return self.stage_folder(key) / LEDGER_FILE

    def _record_path(self, key: str) -> Path:
        return self.stage_folder(key) / STAGE_FILE

    # --- damage ------------------------------------------------------------------------------

    def predictions_damage(self, key: str) -> StoreError | None:
        """Returns why the rows of a scoring cannot be read; none where they can.

        Raises:
            StoreError: frozen ones cannot: they are better restored than made again.
        """
        path = self.predictions_path(key)
        return self._rows_damage(path, PREDICTIONS_FILE, key, PREDICTION_COLUMNS)

    def ledger_damage(self, key: str) -> StoreError | None:
        """Returns why the ledger of a stage cannot be read; see `predictions_damage`."""
        return self._rows_damage(self.ledger_path(key), LEDGERS_FILE, key, COLUMNS)

    def tuning_ledger_damage(self, key: str) -> StoreError | None:
        """Returns why the tuning ledger of a scoring cannot be read; see `predictions_damage`."""
        path = self.tuning_ledger_path(key)
        return self._rows_damage(path, TUNING_LEDGERS_FILE, key, COLUMNS)

    def record_damage(self, key: str) -> StoreError | None:
        """Returns why the record of a stage cannot be read; see `predictions_damage`."""
        return self._damage(self._record_path(key), STAGES_FILE, key, self.stage_record)

    def stage_damage(self, key: str) -> StoreError | None:
        """Returns why a stage's weights cannot be gone on with; none where they can, or are gone.

        Raises:
            StoreError: its record is frozen, and damaged.
        """
        if not self.has_stage(key):
            return None
        return self.record_damage(key) or _problem(self.read_stage, key)

    def _rows_damage(
        self, path: Path, name: str, key: str, columns: Sequence[str]
    ) -> StoreError | None:
        """Is `_damage` of rows, without making a frame of them."""
        if not path.is_file() and self._is_frozen(name, key):
            self._read_rows(path, name, key, columns)
            return None
        try:
            with _reading(path):
                load_rows(path, key, columns)
        except StoreError as problem:
            return problem
        return None

    def _damage(
        self, path: Path, name: str, key: str, read: Callable[[str], object]
    ) -> StoreError | None:
        if not path.is_file() and self._is_frozen(name, key):
            read(key)
            return None
        return _problem(read, key)

    # --- what may be frozen -------------------------------------------------------------------

    def _is_frozen(self, name: str, key: str) -> bool:
        with _reading(self.folder / name):
            return key in self.frozen.keys(name)

    def _read_rows(self, path: Path, name: str, key: str, columns: Sequence[str]) -> pd.DataFrame:
        """Reads the rows of a loose file; where there is none, those in the frozen one."""
        if path.is_file() or not self._is_frozen(name, key):
            with _reading(path):
                return read_rows(path, key, columns)
        with _reading(self.folder / name):
            return check_columns(self.frozen.tables[name].read(key), columns)

    # --- predictions and results --------------------------------------------------------------

    def predictions_path(self, key: str) -> Path:
        """Where the rows of a scoring lie until they are frozen."""
        return self.folder / "predictions" / f"{key}.parquet"

    def write_predictions(self, key: str, rows: Rows) -> None:
        """Writes the rows of a scoring atomically."""
        write_rows(self.predictions_path(key), key, rows)

    def write_scored(self, cells: Sequence[ScoredCell]) -> None:
        """Writes some cells: their rows, each cell's atomically, then all their result lines.

        Many at once cost a quarter of what they would one by one: 0.7 ms each, for few rows.
        """
        if not cells:
            return
        with replacing_files(self.folder / "predictions") as staging:
            for cell in cells:
                path = staging / self.predictions_path(cell.key).name
                path.write_bytes(cell.rows)
        for cell in cells:
            if cell.tuning is not None:
                self.write_tuning_ledger(cell.key, cell.tuning)
        self.append_results(line for cell in cells for line in cell.results)

    def put_rows(self, path: Path, content: bytes) -> None:
        """Writes a file of rows, predictions or a tuning ledger, that was made elsewhere."""
        make_folder(path.parent)
        with replacing(path) as staging:
            staging.write_bytes(content)

    def has_predictions(self, key: str) -> bool:
        """Whether the rows of a scoring are there."""
        return self.predictions_path(key).is_file() or self._is_frozen(PREDICTIONS_FILE, key)

    def read_predictions(self, key: str) -> pd.DataFrame:
        """Reads the rows of a scoring."""
        path = self.predictions_path(key)
        return self._read_rows(path, PREDICTIONS_FILE, key, PREDICTION_COLUMNS)

    def write_tuning_ledger(self, key: str, frame: pd.DataFrame) -> None:
        """Writes the rows that the settings of a scoring were chosen by, atomically."""
        path = self.tuning_ledger_path(key)
        make_folder(path.parent)
        write_rows(path, key, frame)

    def has_tuning_ledger(self, key: str) -> bool:
        """Whether the rows that the settings of a scoring were chosen by are there."""
        return self.tuning_ledger_path(key).is_file() or self._is_frozen(TUNING_LEDGERS_FILE, key)

    def read_tuning_ledger(self, key: str) -> pd.DataFrame:
        """Reads the rows that the settings of a scoring were chosen by."""
        return self._read_rows(self.tuning_ledger_path(key), TUNING_LEDGERS_FILE, key, COLUMNS)

    def tuning_ledger_path(self, key: str) -> Path:
        """Where the rows that settings were chosen by lie until they are frozen."""
        return self.folder / TUNING_FOLDER / f"{key}.parquet"

    def append_results(self, lines: Iterable[ResultLine]) -> None:
        """Appends result lines in one write; a line torn by an earlier kill is cut off first.

        A (scoring, run) that is there already, from another process or an earlier attempt, is
        not written again.
        """
        with explained(self.folder), FileLock(self.folder / ".lock-results"):
            have = self.scored()
            fresh = [line for line in lines if line.run not in have.get(line.key, ())]
            self._cut_torn_line()
            text = lines_text(fresh).encode()
            with self.results_path.open("ab") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._scored.add(fresh, text)

    def replace_results(self, lines: Iterable[ResultLine]) -> None:
        """Puts new result lines in the place of those of the same (scoring, run)."""
        fresh = {line.place: line for line in lines}
        with explained(self.folder), FileLock(self.folder / ".lock-results"):
            kept = [fresh.get(old.place, old) for old in self.read_results()]
            self.write_text(self.results_path.name, lines_text(kept))

    def forget_results(self, keys: AbstractSet[str]) -> None:
        """Takes out the result lines of some scorings, which are to be scored again."""
        with FileLock(self.folder / ".lock-results"):
            kept = [line for line in self.read_results() if line.key not in keys]
            self.write_text(self.results_path.name, lines_text(kept))

    def read_results(self) -> list[ResultLine]:
        """Reads all complete result lines.

        Raises:
            StoreError: names the file and the line that is damaged.
        """
        if not os.path.lexists(self.results_path):
            return []
        with _reading(self.results_path):
            check_regular(self.results_path)
            complete = self.results_path.read_bytes().rpartition(b"\n")[0].decode()
        numbered = enumerate(complete.split("\n"), start=1)
        return [self._parse_line(number, text) for number, text in numbered if text.strip()]

    def _parse_line(self, number: int, text: str | bytes) -> ResultLine:
        with _reading(self.results_path, f", line {number}"):
            return ResultLine.read(text)

    def complete_results(self, plan: PlanFile) -> list[ResultLine]:
        """Reads the result lines of a plan, in its order.

        Raises:
            StoreError: some are not there; says how many, and the first.
        """
        have = {line.place: line for line in self.read_results()}
        wanted = [(cell.key, run) for cell in plan.cells for run in plan.runs_of(cell)]
        missing = [place for place in wanted if place not in have]
        if missing:
            raise StoreError(
                f"{self.results_path} lacks {len(missing)} of {len(wanted)} results (the first: "
                f"cell {missing[0][0]}, run {missing[0][1]}). Finish them with `harness run`."
            )
        return [have[place] for place in wanted]

    def scored(self) -> dict[str, set[int]]:
        """Runs that have a result line, by scoring key."""
        with _reading(self.results_path):
            return self._scored.update()

    def _cut_torn_line(self) -> None:
        if not self.results_path.is_file():
            return
        with self.results_path.open("r+b") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - 1))
            if length and file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)

    # --- failures -----------------------------------------------------------------------------

    def append_failure(self, failure: Failure) -> None:
        """Notes that a stage or a scoring has failed."""
        line = redacted(json.dumps(failure.as_json(), ensure_ascii=False)) + "\n"
        with explained(self.folder), (self.folder / FAILURES_FILE).open("ab") as file:
            file.write(line.encode("utf-8", "backslashreplace"))

    def failures(self) -> dict[str, Failure]:
        """Reads what has failed in the last run, by key of the stage or scoring."""
        path = self.folder / FAILURES_FILE
        if not path.is_file():
            return {}
        with _reading(path):
            complete = path.read_bytes().rpartition(b"\n")[0].decode()
            found = [Failure.read(text) for text in complete.split("\n") if text.strip()]
        return {failure.key: failure for failure in found}

    def forget_failures(self) -> None:
        """Lets everything that has failed be tried again."""
        with explained(self.folder):
            (self.folder / FAILURES_FILE).unlink(missing_ok=True)

    # --- the plan and what is made of the results ---------------------------------------------

    def write_plan(self, plan: PlanFile) -> None:
        """Writes what is run, atomically."""
        text = json.dumps(plan.as_json(), indent=1, ensure_ascii=False)
        self.write_text(PLAN_FILE, text + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the results folder atomically, without secrets."""
        with replacing(self.folder / name) as staging:
            staging.write_text(redacted(text), encoding="utf-8")

    def read_plan(self) -> PlanFile:
        """Reads the benchmark as it was run, its datasets and cells.

        An old plan may hold a password; nobody is to get it from there.

        Raises:
            StoreError: there is none, it is damaged, or of another format.
        """
        path = self.folder / PLAN_FILE
        if not path.is_file():
            raise StoreError(
                f"{path} does not exist: {self.folder} holds no results yet. "
                f"Run `harness run` first.{self._other_folders()}"
            )
        with _reading(path):
            return PlanFile.read(redacted(path.read_text(encoding="utf-8")))

    def unread(self, stages: Iterable[str]) -> Iterator[str]:
        """Names what files hold that no record has a field for: all of the plan and the results.

        Args:
            stages: keys of those whose records to look at; one that is damaged has nothing to say.
        """
        texts: list[tuple[Path, type[Record], list[bytes]]] = [
            (self.folder / PLAN_FILE, PlanFile, [(self.folder / PLAN_FILE).read_bytes()]),
            (self.results_path, ResultLine, _lines_of(self.results_path)),
            (self.folder / STAGES_FILE, FrozenStage, _lines_of(self.folder / STAGES_FILE)),
        ]
        for path in map(self._record_path, stages):
            if path.is_file():
                texts.append((path, StageRecord, [path.read_bytes()]))
        for path, kind, found in texts:
            for number, text in enumerate(found, start=1):
                line = f", line {number}" if len(found) > 1 else ""
                with suppress(ValueError, OtherFormatError):
                    for name in kind.unread(text):
                        yield f"{path.relative_to(self.folder)}{line}: {name}"

    def _other_folders(self) -> str:
        """Names the dry runs or submissions below this folder; empty where there are none."""
        dry, sent = (
            " or ".join(
                str(path.parent) for path in sorted(self.folder.glob(f"{below}/{PLAN_FILE}"))
            )
            for below in ("limit-*", "submissions/*")
        )
        if sent:
            return f" Did you mean one of its submissions, {sent}?"
        return f" Did you mean --results {dry}?" if dry else ""


def lines_text(lines: Iterable[ResultLine]) -> str:
    """Returns result lines as their file holds them."""
    text = "".join(json.dumps(line.as_json(), ensure_ascii=False) + "\n" for line in lines)
    return redacted(text)


def _lines_of(path: Path) -> list[bytes]:
    """Returns the complete lines of a file; none where there is none."""
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def _problem(read: Callable[[str], object], key: str) -> StoreError | None:
    try:
        read(key)
    except StoreError as problem:
        return problem
    return None


@contextmanager
def _reading(path: Path, place: str = "") -> Iterator[None]:
    """Turns whatever a missing or damaged file leads to into an error that names it."""
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. {RESTORE}") from None
    except OtherFormatError as problem:
        raise StoreError(f"{path}{place} {problem}") from None
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as problem:
        what = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise StoreError(f"{path}{place} is damaged: {what}. {RESTORE}") from None
