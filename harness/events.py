"""What observers hear of: plain data about stages, epochs and cells."""

from __future__ import annotations

from dataclasses import dataclass

from harness.scores import Cell


@dataclass(frozen=True)
class StageStarted:
    """A stage begins; `done` of `total` stages of this run are finished.

    `epochs` is 0 where the head is fitted in closed form.
    """

    key: str
    title: str
    members: int
    epochs: int
    done: int
    total: int


@dataclass(frozen=True)
class EpochFinished:
    """One epoch of a stage is done.

    Attributes:
        epoch: from 1.
        score: each member's validation score by the protocol's selection metric, called `metric`.
        skipped: each member's updates left out so far because its loss was not finite.
        fraction: share of the training work of the whole run that is done, 0 … 1.
    """

    key: str
    title: str
    epoch: int
    epochs: int
    metric: str
    score: tuple[float, ...]
    skipped: tuple[int, ...]
    fraction: float


@dataclass(frozen=True)
class StageFinished:
    """A stage's artefact is on disk."""

    key: str
    title: str
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class CellFinished(Cell):
    """The results of one cell are on disk."""

    runs: int
