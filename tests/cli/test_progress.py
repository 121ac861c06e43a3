"""What is told of a run while it goes on."""

from __future__ import annotations

import pytest

from harness.cli import progress
from harness.plugin.events import EpochFinished, StageStarted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def epoch(key: str, fraction: float) -> EpochFinished:
    return EpochFinished(key, "Toy (random)", 1, 4, "mae-log", (0.5,), (0,), fraction)


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
