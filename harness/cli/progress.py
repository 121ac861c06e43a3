"""Progress of a run: a live line on a terminal, plain lines in a log. Observers like any other."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from harness.plugin.events import CellFinished, EpochFinished, StageFinished, StageStarted
from harness.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from harness.tuning.tuner import TuningProgress

PLAIN_INTERVAL_SECONDS = 10.0


@contextmanager
def observer(quiet: bool) -> Iterator[tuple[object, ...]]:
    """Yields the observers that suit the output: none, a live display, or plain lines."""
    console = Console(stderr=True)
    if quiet:
        yield ()
    elif console.is_terminal:
        with _live(console) as progress:
            yield (LiveProgress(progress),)
    else:
        yield (PlainProgress(),)


def _live(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}"),
        console=console,
        transient=True,
    )


@contextmanager
def tuning_progress(quiet: bool) -> Iterator[Callable[[TuningProgress], None]]:
    """Yields what is told of the progress of a search: nothing, a live bar, or plain lines."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _live(console) as bars:
            bar = bars.add_task("trials", total=1.0, detail="")
            clock = _Clock()

            def show(progress: TuningProgress) -> None:
                detail = f"{_trials_text(progress)}, {clock.left(progress.fraction)} left"
                bars.update(
                    bar, completed=progress.fraction, description=progress.title, detail=detail
                )

            yield show
    else:
        yield _PlainTrials()


def _trials_text(progress: TuningProgress) -> str:
    best = f"{progress.best:.3f}" if math.isfinite(progress.best) else "none yet"
    done = f"{progress.finished} of {progress.wanted} trials"
    return f"{done}, best validation {progress.metric} {best}"


class _PlainTrials:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._last_line = 0.0

    def __call__(self, progress: TuningProgress) -> None:
        now = time.monotonic()
        if now - self._last_line >= PLAIN_INTERVAL_SECONDS or progress.fraction == 1.0:
            self._last_line = now
            left = self._clock.left(progress.fraction)
            _line(f"{progress.title}: {_trials_text(progress)}, {left} left")


class _Clock:
    """Time left, from the share of the work that was done since it was first asked."""

    def __init__(self) -> None:
        self._began = 0.0
        self._first: float | None = None

    def left(self, fraction: float) -> str:
        if self._first is None:  # what came before, an earlier session or a search, is not counted
            self._began, self._first = time.monotonic(), fraction
        done = fraction - self._first
        if done <= 0:
            return "unknown time"
        return as_time((time.monotonic() - self._began) * (1 - fraction) / done)


def as_time(seconds: float) -> str:
    """Returns `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _score_text(event: EpochFinished) -> str:
    finite = [score for score in event.score if math.isfinite(score)]
    mean = f"{sum(finite) / len(finite):.3f}" if finite else "none finite"
    skipped = f", {sum(event.skipped)} updates skipped" if any(event.skipped) else ""
    return f"epoch {event.epoch}/{event.epochs}, validation {event.metric} {mean}{skipped}"


class LiveProgress:
    """One bar for the whole run, one for the stage in training."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._clock = _Clock()
        self._whole: TaskID | None = None
        self._stage: TaskID | None = None
        self._key = ""

    @hookimpl
    def stage_started(self, event: StageStarted) -> None:
        """Starts the stage's bar."""
        self._key = event.key
        if self._whole is None:
            self._whole = self._progress.add_task("all stages", total=1.0, detail="")
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        title = f"stage {event.done + 1}/{event.total}  {event.title}"
        self._stage = self._progress.add_task(title, total=event.epochs or None, detail="")

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        """Moves both bars; the trials of a search have one of their own."""
        if event.key == self._key and self._stage is not None and self._whole is not None:
            self._progress.update(self._stage, completed=event.epoch, detail=_score_text(event))
            left = f"{self._clock.left(event.fraction)} left"
            self._progress.update(self._whole, completed=event.fraction, detail=left)


class PlainProgress:
    """A line when a stage starts and ends, and every few seconds in between."""

    def __init__(self) -> None:
        self._clock = _Clock()
        self._last_line = 0.0
        self._key = ""

    @hookimpl
    def stage_started(self, event: StageStarted) -> None:
        """Prints the stage's title."""
        self._key = event.key
        how = f"{event.epochs} epochs" if event.epochs else "in closed form"
        _line(f"[{event.done + 1}/{event.total}] {event.title}: {event.members} runs, {how}")

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        """Prints epoch, validation score and time left, unless a line was printed just now.

        The trials of a search have lines of their own.
        """
        now = time.monotonic()
        if event.key == self._key and now - self._last_line >= PLAIN_INTERVAL_SECONDS:
            self._last_line = now
            _line(f"    {_score_text(event)}, {self._clock.left(event.fraction)} left")

    @hookimpl
    def stage_finished(self, event: StageFinished) -> None:
        """Prints how long the stage took."""
        _line(f"[{event.done}/{event.total}] {event.title}: done in {as_time(event.seconds)}")

    @hookimpl
    def cell_finished(self, event: CellFinished) -> None:
        """Prints which cell has been scored."""
        _line(f"    scored {event.transfer}: {event.train_on} → {event.test_on}")


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
