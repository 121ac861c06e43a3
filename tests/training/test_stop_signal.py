"""A run is stopped in one way, whoever asks for it: a signal, another process, an observer."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from harness.training.stop_signal import SIGNALS, StopSignal


@pytest.fixture(params=SIGNALS)
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal, handled as Python starts."""
    found = getattr(signal, request.param)
    start = signal.default_int_handler if found == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(found, start)
    yield found
    signal.signal(found, before)


def test_a_run_goes_on_until_somebody_asks() -> None:
    stop = StopSignal(multiprocessing.Event(), os.getppid())
    stop.check()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        stop.check()


def test_another_process_asks_by_its_flag() -> None:
    flag = multiprocessing.Event()
    stop = StopSignal(flag)
    flag.set()
    assert stop.is_set()


def test_the_end_of_the_process_that_is_helped_is_an_end() -> None:
    assert StopSignal(parent=-1).is_set()


def test_a_signal_is_heeded_at_the_next_point_and_a_second_one_at_once(number: int) -> None:
    noticed: list[bool] = []
    stop = StopSignal(notice=lambda: noticed.append(True))
    before = signal.getsignal(number)
    with stop.listening():
        signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert noticed == [True]
    assert signal.getsignal(number) == before


def test_a_signal_that_is_ignored_stays_so(number: int) -> None:
    """As for a run below `nohup`."""
    signal.signal(number, signal.SIG_IGN)
    stop = StopSignal()
    with stop.listening():
        signal.raise_signal(number)
    assert not stop.is_set()


def test_a_run_outside_the_main_thread_leaves_signals_alone(number: int) -> None:
    handlers = []

    def listen() -> None:
        with StopSignal().listening():
            handlers.append(signal.getsignal(number))

    before = signal.getsignal(number)
    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert handlers == [before]
