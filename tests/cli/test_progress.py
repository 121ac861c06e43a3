"""What is told of a run while it goes on."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from harness.cli import progress
from harness.plugin.events import (
    EncodingProgressed,
    EpochFinished,
    SearchProgressed,
    StageFinished,
    StageStarted,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def epoch(key: str, fraction: float) -> EpochFinished:
    return EpochFinished(key, "Toy (random)", 1, 4, "mae-log", (0.5,), (0,), fraction)


def trials(done: int, fraction: float | None = None) -> SearchProgressed:
    share = done / 4 if fraction is None else fraction
    return SearchProgressed("tiny, mlp, Toy", done, 4, "mae-log", 0.25, share)


STAGE = StageStarted("stage", "Toy (random)", 3, 4, 0, 1, "tiny + mlp")


def test_a_run_that_tunes_nothing_shows_no_bar_of_trials() -> None:
    bars = Progress(disable=True)
    live = progress.LiveProgress(bars)
    live.stage_started(STAGE)
    live.epoch_finished(epoch("stage", 0.25))
    assert [task.description for task in bars.tasks] == [
        "all stages",
        "stage 1/1  tiny + mlp, Toy (random)",
    ]


def test_stages_of_all_processes_are_counted_as_they_begin(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second process comes when one stage is done, and sees three where there are four."""
    lines = progress.PlainProgress()
    first = StageStarted("a", "A", 3, 4, done=1, total=4)
    second = StageStarted("b", "B", 3, 4, done=0, total=3, worker="process 2")
    for event in (first, second):
        lines.stage_started(event)
    lines.stage_finished(StageFinished("b", "B", 1.0, done=1, total=3))
    lines.stage_started(StageStarted("c", "C", 3, 4, done=2, total=3, worker="process 2"))
    printed = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert printed == ["[2/4] A", "[3/4] B", "[3/4] B", "[4/4] C"]


def test_a_search_has_one_bar_and_the_stages_it_needs_have_theirs_while_they_train() -> None:
    bars = Progress(disable=True)
    live = progress.LiveProgress(bars)
    live.search_progressed(trials(1))
    live.stage_started(STAGE)
    assert [task.completed for task in bars.tasks] == [0.25, 0, 0]
    live.search_progressed(trials(2, 0.6))
    (search,) = bars.tasks
    assert (search.description, search.completed) == ("tiny, mlp, Toy", 0.6)
    assert "2 of 4 trials, best validation mae-log 0.250" in search.fields["detail"]
    live.search_progressed(trials(4))
    assert bars.tasks == []


def test_lines_tell_of_a_search_now_and_then_and_of_its_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.PlainProgress()
    for done in (1, 2, 3, 4):
        lines.search_progressed(trials(done))
        clock[0] += 6
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1][:6] for line in printed] == ["1 of 4", "3 of 4", "4 of 4"]
    assert printed[1].endswith("0:06 left")


def test_a_first_ctrl_c_is_told_what_a_second_one_does(capfd: pytest.CaptureFixture[str]) -> None:
    progress.tell_of_stop()
    assert "Once more: at once" in capfd.readouterr().err


def test_trials_neither_print_epochs_nor_count_in_the_time_that_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.PlainProgress()
    lines.epoch_finished(epoch("trial", 0.9))
    clock[0] += 3600
    lines.stage_started(StageStarted("stage", "Toy (random)", 3, 4, 0, 1))
    for fraction in (0.25, 0.5):
        clock[0] += 20
        lines.epoch_finished(epoch("stage", fraction))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 3
    assert printed[-1].endswith("0:40 left")


def test_crystals_have_a_bar_while_they_are_encoded() -> None:
    bars = Progress(disable=True)
    live = progress.LiveProgress(bars)
    live.encoding_progressed(EncodingProgressed("encoding AFLOW by slow", 1, 4))
    live.encoding_progressed(EncodingProgressed("encoding AFLOW by slow", 3, 4))
    (bar,) = bars.tasks
    assert (bar.description, bar.completed) == ("encoding AFLOW by slow", 0.75)
    live.encoding_progressed(EncodingProgressed("encoding AFLOW by slow", 4, 4))
    assert not bars.tasks


def test_lines_tell_how_far_encoding_is_and_what_is_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = progress.PlainProgress()
    for done in (100, 101, 200):
        lines.encoding_progressed(EncodingProgressed("encoding AFLOW by slow", done, 400))
        clock[0] += 20
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "encoding AFLOW by slow: 200 of 400 crystals, 1:20 left"
