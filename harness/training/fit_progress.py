"""How far a fit has come, and what it leaves: plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch. Tuples hold one value per member.

    Attributes:
        epoch: 1, 2, ….
        train_loss: mean loss over the rows of updates that were made; NaN where there were none.
        score: validation score; NaN where a prediction was not finite.
        skipped: updates left out since the fit began, the loss or gradient not being finite.
        seconds: since the fit began, earlier sessions of a resumed fit included.
    """

    epoch: int
    train_loss: tuple[float, ...]
    score: tuple[float, ...]
    skipped: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves besides the weights in the modules.

    Attributes:
        best_epoch: per member, the epoch (1, 2, …) whose weights were kept; 0 where no epoch had
            finite predictions and the initial weights were kept.
        history: `train_loss` and `score` (epochs × members).
        skipped: per member, updates left out, the loss or gradient not being finite.
        member_epochs: epochs trained, summed over members.
        seconds: time taken, earlier sessions of a resumed fit included.
    """

    best_epoch: tuple[int, ...]
    history: Mapping[str, list[Any]]
    skipped: tuple[int, ...]
    member_epochs: int
    seconds: float


@dataclass
class Progress:
    """Where a fit stands, as JSON can hold it. Lists hold one value per member.

    Attributes:
        best_epoch: see `FitResult`.
        best_score: validation score of that epoch; NaN before there is one.
        skipped: see `FitResult`.
        trained: epochs in which the member was trained.
        epoch: epochs finished.
        seconds: see `FitResult`.
        history: see `FitResult`.
    """

    best_epoch: list[int]
    best_score: list[float]
    skipped: list[int]
    trained: list[int]
    epoch: int = 0
    seconds: float = 0.0
    history: dict[str, list[Any]] = field(default_factory=lambda: {"train_loss": [], "score": []})

    @classmethod
    def start(cls, members: int) -> Progress:
        """A fit that has not begun."""
        return cls([0] * members, [math.nan] * members, [0] * members, [0] * members)

    def of_stage(self, members: Sequence[int]) -> FitResult:
        """What the fit leaves of members that are a stage of their own, as if they had been alone.

        Epochs end with the last in which one of them was trained. The time is shared by epochs.
        """
        own = self.of_members(members)
        result = own.result()
        last = max(own.trained)
        return replace(
            result,
            history={name: epochs[:last] for name, epochs in own.history.items()},
            seconds=self.seconds * result.member_epochs / sum(self.trained),
        )

    def of_members(self, members: Sequence[int]) -> Progress:
        """Where some of the members stand; what belongs to the whole fit goes on."""
        history = {
            name: [[epoch[member] for member in members] for epoch in epochs]
            for name, epochs in self.history.items()
        }
        return replace(
            self,
            best_epoch=[self.best_epoch[member] for member in members],
            best_score=[self.best_score[member] for member in members],
            skipped=[self.skipped[member] for member in members],
            trained=[self.trained[member] for member in members],
            history=history,
        )

    def report(self) -> EpochReport:
        """The epoch just finished."""
        return EpochReport(
            self.epoch,
            tuple(self.history["train_loss"][-1]),
            tuple(self.history["score"][-1]),
            tuple(self.skipped),
            self.seconds,
        )

    def result(self) -> FitResult:
        """What the fit leaves."""
        return FitResult(
            tuple(self.best_epoch),
            self.history,
            tuple(self.skipped),
            sum(self.trained),
            self.seconds,
        )
