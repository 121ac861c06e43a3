"""What a run leaves on disk: stage artefacts, per-row predictions, result lines. All atomic.

<out>/plan.json               the benchmark as it was run, and the cells that belong to it
<out>/results.jsonl           one line per (cell, run)
<out>/predictions/<key>.parquet   rows (run, part, id, role, target, prediction, overlap)
<out>/stages/<key>/           weights.safetensors + stage.json; remade when missing
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd
    import torch

PLAN_FILE = "plan.json"


class Store:
    """A results folder.

    Args:
        folder: created where it does not exist.

    Raises:
        StoreError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for sub in ("stages", "predictions"):
                (folder / sub).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as problem:
            raise StoreError(
                f"Cannot write results to {folder}: {problem.strerror}. "
                "Choose another folder with --out, or change its permissions."
            ) from problem

    @property
    def results_path(self) -> Path:
        """The file with one line per (cell, run)."""
        return self.folder / "results.jsonl"

    # --- stages -----------------------------------------------------------------------------

    def stage_folder(self, key: str) -> Path:
        """Where a stage's artefact lies, or will lie."""
        return self.folder / "stages" / key

    def has_stage(self, key: str) -> bool:
        """Whether a stage's artefact is complete."""
        return (self.stage_folder(key) / "weights.safetensors").is_file()

    def checkpoint_path(self, key: str) -> Path:
        """Where a stage in training keeps its checkpoint."""
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
        try:
            yield True
        finally:
            lock.release()

    def write_stage(
        self,
        key: str,
        tensors: Mapping[str, torch.Tensor],
        record: Mapping[str, Any],
        ledger: pd.DataFrame,
    ) -> None:
        """Writes a stage's artefact: all of it or nothing; then drops its checkpoint."""
        from safetensors.torch import save_file

        for leftover in (self.folder / "stages").glob(f".{key}.*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=self.folder / "stages"))
        try:
            weights = staging / "weights.safetensors"
            save_file(dict(tensors), weights)
            record = {**record, "artefact_sha256": sha256(weights.read_bytes()).hexdigest()}
            (staging / "stage.json").write_text(json.dumps(record) + "\n")
            ledger.to_parquet(staging / "ledger.parquet", index=False, compression="zstd")
            staging.chmod(0o755)
            target = self.stage_folder(key)
            if target.exists():
                shutil.rmtree(target)
            os.replace(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        self.checkpoint_path(key).unlink(missing_ok=True)

    def read_stage(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Reads a stage's tensors (on the CPU) and record."""
        from safetensors.torch import load_file

        folder = self.stage_folder(key)
        return load_file(folder / "weights.safetensors"), self.stage_record(key)

    def has_ledger(self, key: str) -> bool:
        """Whether a stage's ledger is there."""
        return (self.stage_folder(key) / "ledger.parquet").is_file()

    def read_ledger(self, key: str) -> pd.DataFrame:
        """Reads what a stage used each row for; columns as `ledger.COLUMNS`."""
        import pandas as pd

        return pd.read_parquet(self.stage_folder(key) / "ledger.parquet")

    def stage_record(self, key: str) -> dict[str, Any]:
        """Reads a stage's record: history, best epochs, skipped updates, seconds."""
        record: dict[str, Any] = json.loads((self.stage_folder(key) / "stage.json").read_text())
        return record

    # --- predictions and results --------------------------------------------------------------

    def predictions_path(self, key: str) -> Path:
        """Where the rows of a scoring lie."""
        return self.folder / "predictions" / f"{key}.parquet"

    def write_predictions(self, key: str, frame: pd.DataFrame) -> None:
        """Writes the rows of a scoring atomically."""
        path = self.predictions_path(key)
        with _replacing(path) as staging:
            frame.to_parquet(staging, index=False, compression="zstd")

    def has_predictions(self, key: str) -> bool:
        """Whether the rows of a scoring are there."""
        return self.predictions_path(key).is_file()

    def read_predictions(self, key: str) -> pd.DataFrame:
        """Reads the rows of a scoring."""
        import pandas as pd

        return pd.read_parquet(self.predictions_path(key))

    def append_results(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Appends result lines in one write; a line torn by an earlier kill is cut off first.

        A (scoring, run) that is there already, from another process or an earlier attempt, is
        not written again.
        """
        with FileLock(self.folder / ".lock-results"):
            have = {(line["key"], line["run"]) for line in self.read_results()}
            fresh = [line for line in lines if (line["key"], line["run"]) not in have]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in fresh)
            self._cut_torn_line()
            with self.results_path.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())

    def read_results(self) -> list[dict[str, Any]]:
        """Reads all complete result lines."""
        if not self.results_path.is_file():
            return []
        complete = self.results_path.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.decode().splitlines() if line]

    def scored(self) -> dict[str, set[int]]:
        """Runs that have a result line, by scoring key."""
        runs: dict[str, set[int]] = {}
        for line in self.read_results():
            runs.setdefault(line["key"], set()).add(line["run"])
        return runs

    def _cut_torn_line(self) -> None:
        if not self.results_path.is_file():
            return
        content = self.results_path.read_bytes()
        if content and not content.endswith(b"\n"):
            with self.results_path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)

    def write_json(self, name: str, content: Any) -> None:
        """Writes a JSON file of the results folder atomically."""
        self.write_text(name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the results folder atomically."""
        with _replacing(self.folder / name) as staging:
            staging.write_text(text, encoding="utf-8")

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the results folder.

        Raises:
            StoreError: it does not exist.
        """
        path = self.folder / name
        if not path.is_file():
            raise StoreError(
                f"{path} does not exist: {self.folder} holds no results yet. "
                "Run `harness run` first."
            )
        return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path that takes the place of `path` when the block succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    staging = Path(name)
    try:
        yield staging
        staging.chmod(0o644)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)
