"""What observers hear of, as plain data: executors, encodings, stages, cells and searches."""

from __future__ import annotations

from dataclasses import dataclass

from harness.plugin.cell import Cell


@dataclass(frozen=True)
class EncodingProgressed:
    """Crystals of a dataset are being encoded that were not encoded before.

    Attributes:
        title: whose, and by what, as `encoding AFLOW by chgnet`.
        done: crystals that have been encoded.
        total: crystals that were not.
    """

    title: str
    done: int
    total: int


@dataclass(frozen=True)
class ExecutorStarted:
    """Work is given to an executor from now on.

    Attributes:
        title: of the executor: what runs where, and the address of a page that shows it.
    """

    title: str


@dataclass(frozen=True)
class StageStarted:
    """A stage begins.

    Attributes:
        key: of the stage: the hash of what determines its outcome.
        title: what it fits and where it starts, as `Dataset1 (after AFLOW)`.
        members: runs that are trained side by side.
        epochs: it will make; 0 where the head is fitted in closed form.
        done: stages that are finished, of this run of the command.
        total: stages that this run of the command has to do.
        model: backbone and head, as tables show them.
        worker: name of the one that trains it, on another machine say; empty for this process.
        beside: further stages that are trained side by side with it, in one stack.
    """

    key: str
    title: str
    members: int
    epochs: int
    done: int
    total: int
    model: str = ""
    worker: str = ""
    beside: int = 0


@dataclass(frozen=True)
class EpochFinished:
    """One epoch of a stage is done.

    Attributes:
        key: of the stage.
        title: of the stage.
        epoch: from 1.
        epochs: of the stage.
        metric: name of the metric that chooses the epoch.
        score: each member's validation score by that metric.
        skipped: each member's updates left out so far because its loss was not finite.
        fraction: share of the training work of the whole run that is done, 0 … 1.
        worker: see `StageStarted`.
    """

    key: str
    title: str
    epoch: int
    epochs: int
    metric: str
    score: tuple[float, ...]
    skipped: tuple[int, ...]
    fraction: float
    worker: str = ""


@dataclass(frozen=True)
class StageFinished:
    """A stage's artefact is on disk.

    Attributes:
        key: of the stage.
        title: of the stage.
        seconds: it took to train.
        done: stages that are finished, this one included.
        total: stages that this run of the command has to do.
    """

    key: str
    title: str
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class CellFinished(Cell):
    """The results of one cell, named by the labels that stand in tables, are on disk.

    Attributes:
        runs: number of its runs.
    """

    runs: int


@dataclass(frozen=True)
class SearchProgressed:
    """The searches for settings have come further.

    Attributes:
        title: of the search that this process is at.
        done: trials that have ended, over all searches and runs.
        total: trials that are asked for, likewise.
        metric: name of the metric on validation rows that settings are chosen by.
        best: mean over runs of the best value by it in that search; NaN before there is one.
        fraction: share of the trials that is done, 0 … 1; those in training count in part.
    """

    title: str
    done: int
    total: int
    metric: str
    best: float
    fraction: float
