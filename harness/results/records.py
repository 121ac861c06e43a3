"""The records of a results folder: one model each for what its files hold, and their format.

`Store` alone reads and writes them. In own files a key that no record knows is passed over, and not
written again; whether a value of the right kind is also right is for `harness verify` to say. In
what others send, an unknown key is refused, and so is text that could be more than a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from harness.planning.benchmark import explain
from harness.plugin.cell import CELL, DEFAULT
from harness.plugin.property import THERMAL_CONDUCTIVITY
from harness.plugin.protocol import Resampling

FORMAT: Final = 1
"""Of all records. It is not written, and files that name none have it."""

FROM_OTHERS: Final = "from others"
"""Context of a validation that trusts no text."""


def _form(pattern: str) -> AfterValidator:
    """Holds text of others to a pattern; own text is what our own code has made."""
    form = re.compile(pattern)

    def check(text: str, info: ValidationInfo) -> str:
        if info.context == FROM_OTHERS and not form.fullmatch(text):
            raise ValueError(f"expected text of the form {pattern}")
        return text

    return AfterValidator(check)


Key = Annotated[str, _form(r"[0-9a-f]{16}")]
Digest = Annotated[str, _form(r"[0-9a-f]{64}")]
Line = Annotated[str, _form(r"[^\n\r<>]+")]
"""What tables and pages show: one line, and nothing that a browser would take for markup."""

Subset = Annotated[str, _form(r"all|overlap-free")]
"""One of `scores.SUBSETS`."""

Count = Annotated[int, Field(ge=0)]
Sources = tuple[tuple[Key, int], ...]
"""(stage, member) of each model whose predictions are averaged."""


class OtherFormatError(Exception):
    """A record has a format that this version does not read; the message says what to do."""


def _other_format(found: Any) -> OtherFormatError:
    newer = isinstance(found, int) and found > FORMAT
    made, remedy = (
        ("a newer version", "Upgrade it")
        if newer
        else ("another version", "Read it with the version that wrote it, or run it again here")
    )
    return OtherFormatError(
        f"has the format {found!r}, of {made} of the harness; this one reads format {FORMAT}. "
        f"{remedy}."
    )


class Record(BaseModel):
    """What all records have in common.

    Attributes:
        LEFT_OUT: fields that are written only where they hold something else than by default.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    LEFT_OUT: ClassVar[tuple[str, ...]] = ("format",)

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """Reads what an own file holds.

        Raises:
            ValueError: it is no JSON, a field is missing, or one is of another kind.
            OtherFormatError: it has another format.
        """
        try:
            return cls.model_validate_json(text, extra="ignore")
        except ValidationError as problem:
            errors = problem.errors()
            if other := [error["input"] for error in errors if error["loc"] == ("format",)]:
                raise _other_format(other[0]) from None
            raise ValueError(explain(errors[0], cls).rstrip(".")) from None

    @classmethod
    def unread(cls, text: str | bytes) -> list[str]:
        """Names what of a text `read` passes over, or takes for something else.

        Raises:
            ValueError, OtherFormatError: see `read`.
        """
        return list(_left_over(json.loads(text), cls.read(text).as_json()))

    @classmethod
    def read_from_others(cls, text: str | bytes) -> Self:
        """Reads what somebody else has sent.

        Raises:
            ValidationError: a key is unknown or missing, or a value is not what it may be.
        """
        return cls.model_validate_json(text, context=FROM_OTHERS)

    def as_json(self) -> dict[str, Any]:
        """Returns what is written."""
        left_out, kind = self.LEFT_OUT, type(self)
        return {
            name: _plain(value)
            for name, value in vars(self).items()
            if name not in left_out or value != kind.model_fields[name].default
        }


def _plain(value: Any) -> Any:
    if isinstance(value, _LEAVES):  # first, since most are, and it is cheap to tell
        return value
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_LEAVES = (str, int, float, type(None))


def _left_over(written: Any, read: Any, place: str = "") -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            where = f"{place}.{name}" if place else str(name)
            if name in read:
                yield from _left_over(value, read[name], where)
            elif name != "format":
                yield where
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from _left_over(one, other, f"{place}[{number}]")
    elif isinstance(written, bool) != isinstance(read, bool) or written != read:
        yield place


def as_stored(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns facts as JSON gives them back: tuples are lists."""
    stored: dict[str, Any] = json.loads(json.dumps(facts))
    return stored


# --- plan.json --------------------------------------------------------------------------------


class DatasetFacts(Record):
    """A dataset, as a result line names it."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ()

    digest: Digest
    rows: Count

    @property
    def facts(self) -> DatasetFacts:
        """Digest and rows alone."""
        return DatasetFacts(digest=self.digest, rows=self.rows)


class Problem(Record):
    """A row that could not be used, and why."""

    LEFT_OUT = ()

    row: int
    id: str
    reason: str


class PlannedDataset(DatasetFacts):
    """A dataset in `plan.json`."""

    LEFT_OUT: ClassVar[tuple[str, ...]] = ("property",)

    property: Line = THERMAL_CONDUCTIVITY
    problems: tuple[Problem, ...] = ()


class _OfCell(Record):
    """What belongs to one cell; results from before there was tuning do not say how it was done."""

    key: Key
    backbone: Line
    head: Line
    transfer: Line
    tuning: Line = DEFAULT
    protocol: Line
    train_on: Line
    test_on: Line

    @property
    def columns(self) -> dict[str, str]:
        """What tells the cell apart, by the columns of `CELL`."""
        return {column: getattr(self, column) for column in CELL}

    def named(self, columns: Iterable[str] = CELL) -> tuple[str, ...]:
        """Returns the values of some columns of `CELL`."""
        return tuple(getattr(self, column) for column in columns)

    @property
    def title(self) -> str:
        """The cell in words."""
        return title_of(self)


def title_of(cell: object) -> str:
    """Returns a cell in words: whatever has the fields of `Cell`."""
    *model, train_on, test_on = (getattr(cell, column) for column in CELL)
    shown = ", ".join(part for part in model if part != DEFAULT)
    return f"{shown}, {train_on} → {test_on}"


class PlannedCell(_OfCell):
    """A cell in `plan.json`.

    Attributes:
        key: of its scoring.
        leak_free: whether its protocol promises that no test row has another role.
        weights: name of the pretrained weights it starts from, and of what these have seen.
        chain: keys of its stages, first to last.
        sources: per run, (stage, member) of each model that predicts; none where it is member
            r - 1 of the last stage in run r.
        crystals_seen: see `Scoring`.
        runs: those that have test rows; none where all of them have.
    """

    LEFT_OUT = ("sources", "crystals_seen", "runs")

    leak_free: bool
    weights: tuple[Line, Line] | None = None
    chain: Annotated[tuple[Key, ...], Field(min_length=1)]
    sources: tuple[Sources, ...] = ()
    crystals_seen: tuple[Line, ...] = ()
    runs: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @property
    def tuned(self) -> bool:
        """Whether its settings were searched for."""
        return self.tuning != DEFAULT

    def sources_of(self, run: int) -> Sources:
        """Returns (stage, member) of each model that predicts a run."""
        place = self.runs.index(run) if run in self.runs else run - 1
        if place < len(self.sources):
            return self.sources[place]
        return ((self.chain[-1], run - 1),)


SETTINGS_READ: Final = {
    "name": str,
    "title": str,
    "summary": str,
    "runs": int,
    "seed": int,
    "metrics": list,
    "test_on": list,
    "training": dict,
    "training_on": dict,
    "rows": dict,
}
"""Settings of the benchmark that tables and pages are made with, and their kinds."""

SETTINGS_OF_SOME: Final = {"finding": str, "order": int}
"""Likewise, those that not every benchmark has."""


def _check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    if missing := [name for name in SETTINGS_READ if name not in settings]:
        raise ValueError(f"lacks {', '.join(missing)}")
    for name, kind in {**SETTINGS_READ, **SETTINGS_OF_SOME, "models": list}.items():
        if name in settings and not isinstance(settings[name], kind):
            raise ValueError(f"{name} = {settings[name]!r}: expected {_KINDS[kind]}")
    return settings


_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


BenchmarkSettings = Annotated[dict[str, Any], AfterValidator(_check_settings)]


class ProtocolFacts(Record):
    """What `plan.json` says of a protocol whose runs are no random splits.

    Attributes:
        resampling: how runs share rows.
        runs: what each of them tests.
    """

    LEFT_OUT = ()

    resampling: Resampling
    runs: tuple[Line, ...] = ()


class PlanFile(Record):
    """`plan.json`: what was run.

    Attributes:
        benchmark: the settings of the benchmark file, `limit` and, by dataset, `rows`.
        datasets: by name.
        not_applicable: (transfer, train_on) pairs that were left out.
        cells: in table order.
        plugins: digests of the plugin files that were loaded, by file name. Nothing is ever loaded
            because it stands here.
        protocols: by label, those whose runs are no random splits, or have names.
    """

    LEFT_OUT = ("format", "plugins", "protocols")

    format: Literal[1] = 1
    benchmark: BenchmarkSettings
    datasets: dict[Line, PlannedDataset]
    not_applicable: tuple[tuple[str, str], ...] = ()
    cells: Annotated[tuple[PlannedCell, ...], Field(min_length=1)]
    plugins: dict[Line, Line] = {}
    protocols: dict[Line, ProtocolFacts] = {}

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return str(self.benchmark["name"])

    @property
    def property_name(self) -> str:
        """Name of what the datasets tested on hold values of."""
        tested = self.datasets.get(self.benchmark["test_on"][0])
        return tested.property if tested else THERMAL_CONDUCTIVITY

    @property
    def runs(self) -> int:
        """Number of runs of the benchmark."""
        return int(self.benchmark["runs"])

    def runs_of(self, cell: PlannedCell) -> tuple[int, ...]:
        """Returns the runs of a cell: all, unless some have no test rows in its dataset."""
        return cell.runs or tuple(range(1, self.runs + 1))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the first being shown by default."""
        return tuple(self.benchmark["metrics"])

    @property
    def limit(self) -> int | None:
        """Rows kept of each dataset, in a dry run."""
        return self.benchmark.get("limit")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the benchmark file alone."""
        return {k: v for k, v in self.benchmark.items() if k not in ("rows", "limit")}

    @property
    def stages(self) -> list[str]:
        """Keys of the stages of all cells."""
        return list(dict.fromkeys(key for cell in self.cells for key in cell.chain))


# --- results.jsonl ----------------------------------------------------------------------------


class ResultLine(_OfCell):
    """A line of `results.jsonl`: one run of one cell.

    Attributes:
        scores: by subset of test rows, then by metric; with `n` and `failed`.
        stage: key of the stage that predicts; of each, where several members are averaged.
        train_rows: that the last stage was fitted to.
        best_epoch, epochs, skipped_updates: of the member that predicts, or of each of several.
        datasets: those of the chain, and the one that is tested on.
    """

    format: Literal[1] = 1
    run: Annotated[int, Field(ge=1)]
    scores: dict[Subset, dict[str, float | int | None]]
    stage: Key | list[Key]
    train_rows: Count
    epochs: Count | list[Count]
    datasets: dict[str, DatasetFacts]
    best_epoch: Count | list[Count | None] | None
    skipped_updates: Count | list[Count | None] | None

    @property
    def place(self) -> tuple[str, int]:
        """What tells it apart: key of the cell and run."""
        return self.key, self.run


# --- failures.jsonl ---------------------------------------------------------------------------


class Failure(Record):
    """A line of `failures.jsonl`: what of the last run has failed, and is tried again by the next.

    Attributes:
        key: of the stage or the scoring.
        reason: what the user is told.
        traceback: where in the code it came from.
    """

    format: Literal[1] = 1
    key: Key
    reason: str
    traceback: str


# --- stage.json -------------------------------------------------------------------------------


class StageFacts(Record):
    """What is known of a stage once it is trained; see `StageNode.facts` and `FitResult`.

    Attributes:
        tensors_transferred: of records from before there was `transferred`.
        trained_parameters: how many numbers of one member were trained; none of records from
            before it was noted, and of stages that train nothing.
        stack: keys of the stages that were trained side by side with it, and its own, in order;
            none where it was alone.
    """

    LEFT_OUT = (
        "format",
        "tensors_transferred",
        "transferred",
        "parent_members",
        "groups",
        "alongside",
        "adapters",
        "new_head",
        "trained_parameters",
        "stack",
    )

    format: Literal[1] = 1
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
    tensors_transferred: int | None = None
    runs: list[int]
    train_rows: list[int]
    validation_rows: list[int]
    scalers: list[dict[str, float | None]]
    parent_members: list[int] = []
    groups: list[dict[str, Any]] | list[list[dict[str, Any]]] = []
    alongside: list[dict[str, Any]] = []
    adapters: list[dict[str, Any]] = []
    new_head: bool = False
    trained_parameters: int | None = None
    stack: list[Key] = []
    transferred: dict[str, Any] | None = None
    best_epoch: list[int] | None
    skipped_updates: list[int] | None
    history: dict[str, list[Any]] | None
    member_epochs: Count
    seconds: float
    peak_memory_mb: float | None
    environment: dict[str, Any]

    def of_member(self, field: str, index: int) -> Any:
        """Returns what a list of the record says of one member; None where it says nothing."""
        values = getattr(self, field)
        return values[index] if isinstance(values, list) and index < len(values) else None

    @property
    def trainings(self) -> list[Mapping[str, Any]]:
        """Training settings: of all members alike, or of each; none of a head in closed form."""
        if not self.training:
            return []
        return list(self.training) if isinstance(self.training, list) else [self.training]


class StageRecord(StageFacts):
    """`stage.json`: also says what the weights are that lie beside it."""

    artefact_sha256: Digest


# --- submission.json --------------------------------------------------------------------------


class FileFacts(Record):
    """What the manifest says of a file."""

    sha256: Digest
    bytes: Count


class Manifest(Record):
    """The manifest of a submission, `submission.json`: every file with its digest."""

    LEFT_OUT = ()

    format: Literal[1]
    harness: Line
    benchmark: Line
    files: dict[str, FileFacts]


# --- the frozen form --------------------------------------------------------------------------


class FrozenStage(Record):
    """A line of `stages.jsonl`: a stage's record, whose history lies in `history.parquet`."""

    format: Literal[1] = 1
    key: Key
    record: StageRecord


class PackedRows(Record):
    """Where the rows of one scoring or stage lie in a table that holds those of all.

    Attributes:
        rows: their number; they follow those of the keys before.
        absent: columns that they do not have, though others do.
        per_epoch: of a history, the columns that hold one number per epoch for all members.
        sha256: digest of the rows; none in files from before there were any.
    """

    LEFT_OUT = ("absent", "per_epoch", "sha256")

    rows: Count
    absent: tuple[str, ...] = ()
    per_epoch: tuple[str, ...] = ()
    sha256: Digest | None = None


class PackedIndex(Record):
    """What the metadata of such a table say of it, in the order of its rows."""

    format: Literal[1] = 1
    keys: dict[str, PackedRows]


class StudyFacts(Record):
    """A study of `trials.parquet`, as Optuna knows it.

    Attributes:
        directions: 1 to minimise, 2 to maximise.
        user_attrs, system_attrs: what was noted of it.
    """

    name: str
    directions: tuple[int, ...]
    user_attrs: dict[str, Any] = {}
    system_attrs: dict[str, Any] = {}


class StudiesIndex(Record):
    """What the metadata of `trials.parquet` say of it: its studies, in the order of the journal."""

    format: Literal[1] = 1
    studies: tuple[StudyFacts, ...]
