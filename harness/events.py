"""What observers hear of: plain data about stages, epochs and cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageStarted:
    """A stage begins. `done` of `total` stages are on disk; `resumed_at` epochs were done before."""

    key: str
    title: str
    members: int
    epochs: int
    resumed_at: int
    done: int
    total: int


@dataclass(frozen=True)
class EpochFinished:
    """One epoch of a stage: `score` holds each member's validation score (lower is better or not,
    as the protocol's selection metric says), `skipped` its updates left out so far because the
    loss was not finite."""

    key: str
    title: str
    epoch: int
    epochs: int
    score: tuple[float, ...]
    skipped: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class StageFinished:
    """A stage's artefact is on disk."""

    key: str
    title: str
    seconds: float
    done: int
    total: int


@dataclass(frozen=True)
class CellFinished:
    """The results of one cell are on disk."""

    backbone: str
    head: str
    transfer: str
    protocol: str
    train_on: str
    test_on: str
    runs: int
