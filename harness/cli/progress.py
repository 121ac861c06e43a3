"""Progress of a run: a live line on a terminal, plain lines in a log. Observers like any other."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from harness.cli.output import say
from harness.escaping import terminal_text
from harness.plugin.events import (
    CellFinished,
    EncodingProgressed,
    EpochFinished,
    ExecutorStarted,
    SearchProgressed,
    StageFinished,
    StageStarted,
)
from harness.plugin.hookspecs import hookimpl

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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}"),
        console=console,
        transient=True,
    )


def tell_of_stop() -> None:
    """Says what becomes of a first Ctrl-C; in a signal handler, so past Python's buffers."""
    with suppress(OSError):  # the terminal may be what has gone
        os.write(2, b"\nStopping as soon as nothing is lost by it. Once more: at once.\n")


class _Clock:
    """Time left, from the share of the work that was done since it was first asked.

    Attributes:
        fraction: the largest share that was heard of; each process knows of what it has seen.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._first: float | None = None
        self.fraction = 0.0

    def left(self, fraction: float) -> str:
        self.fraction = fraction = max(self.fraction, fraction)
        if self._first is None:  # what came before, an earlier session or a search, is not counted
            self._began, self._first = time.monotonic(), fraction
        done = fraction - self._first
        if done <= 0:
            return "unknown time"
        return as_time((time.monotonic() - self._began) * (1 - fraction) / done)


class _Numbers:
    """Numbers stages in the order in which they begin, whichever process trains them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._total = 0

    def text(self, event: StageStarted | StageFinished) -> str:
        self._total = max(self._total, event.total)  # a process that comes later has less to do
        done = event.done - isinstance(event, StageFinished)
        number = max(done, *self._numbers.values(), 0) + 1
        return f"{self._numbers.setdefault(event.key, number)}/{self._total}"


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


def _model_text(event: StageStarted) -> str:
    return f"{event.model}, " if event.model else ""


def _trials_text(event: SearchProgressed) -> str:
    best = f"{event.best:.3f}" if math.isfinite(event.best) else "none yet"
    return f"{event.done} of {event.total} trials, best validation {event.metric} {best}"


class LiveProgress:
    """Bars for the search, for all stages, and for the stage in training; each while it goes on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._clocks = {"search": _Clock(), "all stages": _Clock()}
        self._numbers = _Numbers()
        self._stages: dict[str, str] = {}  # by worker, the key of the stage that it began last

    @hookimpl
    def encoding_progressed(self, event: EncodingProgressed) -> None:
        """Moves the bar of a dataset that is being encoded."""
        if event.title not in self._bars:
            self._clocks[event.title] = _Clock()
            self._begin(event.title, event.title, total=1.0)
        detail = f"{event.done} of {event.total} crystals"
        self._move(event.title, event.done / event.total, detail, event.title)
        if event.done == event.total:
            self._end(event.title)

    @hookimpl
    def search_progressed(self, event: SearchProgressed) -> None:
        """Moves the bar of the search; the stages that its trials go on from are done."""
        self._end("all stages", *map(_bar_of, self._stages))
        self._clocks["all stages"] = _Clock()
        self._begin("search", event.title, total=1.0)
        self._move("search", event.fraction, _trials_text(event), event.title)
        if event.fraction == 1.0:
            self._end("search")

    @hookimpl
    def executor_started(self, event: ExecutorStarted) -> None:
        """Prints what runs where, above the bars."""
        self._progress.console.print(terminal_text(event.title), markup=False, highlight=False)

    @hookimpl
    def stage_started(self, event: StageStarted) -> None:
        """Starts the stage's bar, in the place of the one that the same worker was at."""
        self._stages[event.worker] = event.key
        self._begin("all stages", "all stages", total=1.0)
        self._end(_bar_of(event.worker))
        where = f"  on {event.worker}" if event.worker else ""
        name = f"{_model_text(event)}{event.title}{_beside(event)}{where}"
        title = f"stage {self._numbers.text(event)}  {name}"
        self._begin(_bar_of(event.worker), title, total=event.epochs or None)

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        """Moves both bars of a stage; the trials of a search have one of their own."""
        bar = self._bars.get(_bar_of(event.worker))
        if event.key == self._stages.get(event.worker) and bar is not None:
            detail = _score_text(event)
            self._progress.update(bar, completed=event.epoch, detail=detail)
            self._move("all stages", event.fraction, "", "all stages")

    def _begin(self, bar: str, title: str, total: float | None) -> None:
        if bar not in self._bars:
            self._bars[bar] = self._progress.add_task(terminal_text(title), total=total, detail="")

    def _move(self, bar: str, fraction: float, detail: str, title: str) -> None:
        clock = self._clocks[bar]
        detail = ", ".join(filter(None, (detail, f"{clock.left(fraction)} left")))
        self._progress.update(
            self._bars[bar],
            completed=clock.fraction,
            detail=detail,
            description=terminal_text(title),
        )

    def _end(self, *bars: str) -> None:
        for bar in bars:
            if bar in self._bars:
                self._progress.remove_task(self._bars.pop(bar))


def _beside(event: StageStarted) -> str:
    """What is trained side by side with a stage; the bar of a worker shows the last of them."""
    others = "others" if event.beside > 1 else "other"
    return f" beside {event.beside} {others}" if event.beside else ""


def _bar_of(worker: str) -> str:
    """Names the bar of a worker's stage."""
    return f"stage of {worker}"


class ExecutorTitle:
    """A line that says what runs where."""

    @hookimpl
    def executor_started(self, event: ExecutorStarted) -> None:
        """Prints it."""
        _line(event.title)


class PlainProgress(ExecutorTitle):
    """A line when a stage starts and ends, and every few seconds in between."""

    def __init__(self) -> None:
        self._clock, self._search_clock = _Clock(), _Clock()
        self._encoding_clock, self._encoding = _Clock(), ""
        self._last_line = 0.0
        self._numbers = _Numbers()
        self._stages: dict[str, str] = {}  # by worker, the key of the stage that it began last

    @hookimpl
    def encoding_progressed(self, event: EncodingProgressed) -> None:
        """Prints crystals and time left, unless a line was printed just now."""
        if self._encoding != event.title:
            self._encoding_clock, self._encoding = _Clock(), event.title
        left = self._encoding_clock.left(event.done / event.total)
        if self._is_due():
            _line(f"{event.title}: {event.done} of {event.total} crystals, {left} left")

    @hookimpl
    def search_progressed(self, event: SearchProgressed) -> None:
        """Prints trials, best score and time left, unless a line was printed just now."""
        self._clock = _Clock()
        left = self._search_clock.left(event.fraction)
        if self._is_due() or event.fraction == 1.0:
            _line(f"{event.title}: {_trials_text(event)}, {left} left")

    @hookimpl
    def stage_started(self, event: StageStarted) -> None:
        """Prints the stage's title."""
        self._stages[event.worker] = event.key
        how = f"{event.epochs} epochs" if event.epochs else "in closed form"
        how += f", on {event.worker}" if event.worker else ""
        title = f"{_model_text(event)}{event.title}{_beside(event)}"
        _line(f"[{self._numbers.text(event)}] {title}: {event.members} runs, {how}")

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        """Prints epoch, validation score and time left, unless a line was printed just now.

        The trials of a search have lines of their own.
        """
        if event.key == self._stages.get(event.worker) and self._is_due():
            whose = f"{event.title} on {event.worker}: " if event.worker else ""
            _line(f"    {whose}{_score_text(event)}, {self._clock.left(event.fraction)} left")

    @hookimpl
    def stage_finished(self, event: StageFinished) -> None:
        """Prints how long the stage took."""
        _line(f"[{self._numbers.text(event)}] {event.title}: done in {as_time(event.seconds)}")

    @hookimpl
    def cell_finished(self, event: CellFinished) -> None:
        """Prints which cell has been scored."""
        _line(f"    scored {event.transfer}: {event.train_on} → {event.test_on}")

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._last_line >= PLAIN_INTERVAL_SECONDS
        self._last_line = now if due else self._last_line
        return due


def _line(text: str) -> None:
    say(text, to_errors=True)
