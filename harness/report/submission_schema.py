"""What the files of a submission may hold: models that refuse unknown keys."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from harness.plugin.cell import CELL, DEFAULT

FORMAT = 1
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1)]
Line = Annotated[str, Field(pattern=r"^[^\n\r<>]+$")]
"""What tables and pages show: one line, and nothing that a browser would take for markup."""

Count = Annotated[int, Field(ge=0)]

CARD_FILE, MANIFEST_FILE = "method.toml", "submission.json"
ALLOWED = re.compile(
    r"method\.toml|plan\.json|results\.jsonl|(predictions|tuning)/[0-9a-f]{16}\.parquet"
    r"|stages/[0-9a-f]{16}/(stage\.json|ledger\.parquet)"
)
"""Paths that a submission consists of besides its manifest; nothing that could be executed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MethodCard(_Strict):
    """The card of a method, `method.toml`.

    Attributes:
        name: of the submission, as tables show it.
        title: of the method, one line.
        authors: who submits it.
        summary: what it does, and what a reader must know before comparing.
        licence: of the results.
        url, code, citation, contact: where there are any.
        hardware: what it was trained on.
        notes: anything else.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    title: Line
    authors: Annotated[list[Line], Field(min_length=1)]
    summary: Text
    licence: Line
    url: str = ""
    code: str = ""
    citation: str = ""
    contact: str = ""
    hardware: str = ""
    notes: str = ""


CARD_EXAMPLE = """\
name = "my-method"
title = "What it is, in one line"
authors = ["A. Author"]
summary = "What it does, and what a reader must know before comparing."
licence = "CC-BY-4.0"
"""


class FileFacts(_Strict):
    """What the manifest says of a file."""

    sha256: Digest
    bytes: Count


class Manifest(_Strict):
    """The manifest, `submission.json`: every file with its digest."""

    format: Literal[1]
    harness: Line
    benchmark: Line
    files: dict[str, FileFacts]


class DatasetFacts(_Strict):
    """A dataset, as a result line names it."""

    digest: Digest
    rows: Count


class _Problem(_Strict):
    row: int
    id: str
    reason: str


class PlannedDataset(DatasetFacts):
    """A dataset in `plan.json`."""

    problems: list[_Problem]


def _cell_fields() -> dict[str, Any]:
    """The columns of a cell; results from before there was tuning do not say how it was done."""
    return {name: (Line, DEFAULT if name == "tuning" else ...) for name in CELL}


class _PlannedCell(_Strict):
    key: Key
    leak_free: bool
    weights: list[Line] | None = None
    chain: Annotated[list[Key], Field(min_length=1)]
    sources: list[list[list[Key | int]]] = []


class _ResultLine(_Strict):
    key: Key
    run: Annotated[int, Field(ge=1)]
    scores: dict[Literal["all", "overlap-free"], dict[str, float | int | None]]
    # of the member that predicts the run, or of each of several; see `plan.one_or_all`
    stage: Key | list[Key]
    train_rows: Count
    best_epoch: Count | list[Count | None] | None
    epochs: Count | list[Count]
    skipped_updates: Count | list[Count | None] | None
    datasets: dict[str, DatasetFacts]


PlannedCell: type[BaseModel] = create_model("PlannedCell", __base__=_PlannedCell, **_cell_fields())
ResultLine: type[BaseModel] = create_model("ResultLine", __base__=_ResultLine, **_cell_fields())


class PlanFile(_Strict):
    """`plan.json`, but for the benchmark and the cells, which have models of their own."""

    benchmark: dict[str, Any]
    datasets: dict[Line, PlannedDataset]
    not_applicable: list[list[str]]
    cells: Annotated[list[dict[str, Any]], Field(min_length=1)]


class StageRecord(_Strict):
    """`stage.json`."""

    title: str
    dataset: str
    dataset_digest: Digest
    dataset_rows: Count
    model: dict[str, Any]
    training: dict[str, Any] | list[dict[str, Any]] | None
    freeze: list[str]
    protocol: str
    parent: Key | None
    weights: str | None
    weights_digest: str | None
    runs: list[int]
    train_rows: list[int]
    validation_rows: list[int]
    scalers: list[dict[str, float]]
    parent_members: list[int] = []
    groups: list[dict[str, Any]] | list[list[dict[str, Any]]] = []
    alongside: list[dict[str, Any]] = []
    transferred: dict[str, Any] = {}
    tensors_transferred: int | None = None
    best_epoch: list[int] | None
    skipped_updates: list[int] | None
    history: dict[str, list[Any]] | None
    member_epochs: Count
    seconds: float
    peak_memory_mb: float | None
    environment: dict[str, Any]
    artefact_sha256: Digest


PREDICTION_TYPES = {
    "run": "integer",
    "part": "string",
    "id": "string",
    "role": "string",
    "target": "floating",
    "overlap": "boolean",
    "prediction": "floating",
}
OPTIONAL_TYPES = {"std_log": "floating"}
LEDGER_TYPES = {
    "run": "integer",
    "part": "string",
    "id": "string",
    "group": "string",
    "role": "string",
}
