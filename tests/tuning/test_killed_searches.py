"""A search that is killed anywhere, and goes on, is the search that nobody has disturbed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from harness import BenchmarkError, api

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["mlp"]
baselines = []
metrics = ["mae-log"]
runs = 2

[training]
epochs = 4
loss = "mae-log"

[tuning]
trials = 8
batch = 3
ensemble = 2
report_every = 1
sampler = "{sampler}"
pruner = "{pruner}"

[tuning.space.training]
batch_size = [8, 16]
epochs = {{ low = 2, high = 4 }}
loss = "mae-log"

[tuning.space.heads.mlp]
layers = 1
width = [4, 8]
activation = "relu"
"""
WAYS = [("tpe", "median"), ("qmc", "hyperband")]
SPAWN = multiprocessing.get_context("spawn")


def write(folder: Path, sampler: str, pruner: str) -> Path:
    path = folder / "mine" / "benchmark.toml"
    path.parent.mkdir(parents=True)
    path.write_text(BENCHMARK.format(sampler=sampler, pruner=pruner))
    return path


def trials(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that is known of every trial but when, and by which process, it was made."""
    storage = JournalStorage(JournalFileBackend(str(path.parent / "tuning" / "journal.log")))
    return {
        study.study_name: [
            (
                trial.number,
                trial.state.name,
                trial.value,
                trial.params,
                trial.intermediate_values,
                {name: note for name, note in trial.user_attrs.items() if name != "worker"},
                trial.system_attrs,
            )
            for trial in storage.get_all_trials(study._study_id)  # noqa: SLF001
        ]
        for study in storage.get_all_studies()
    }


def outcome(path: Path) -> tuple[Any, ...]:
    files = ("best.toml", "trials.csv")
    return trials(path), *((path.parent / name).read_text() for name in files)


class KilledError(BaseException):
    """Stands for the end of a process: nothing catches it."""


def die_at(number: int, end: Callable[[], None]) -> Callable[..., None]:
    """Returns what appends to a journal, and dies at a line of it.

    Of three lines one is not begun, of the next a part is written, the third is the last.
    """
    original, written = JournalFileBackend.append_logs, 0

    def append(backend: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        nonlocal written
        written += 1
        if written < number:
            original(backend, logs)
            return
        if number % 3 == 2:
            original(backend, logs)
        if number % 3 == 1:
            with Path(backend._file_path).open("a") as journal:  # noqa: SLF001
                journal.write('{"op_code":')
        end()

    return append


def raise_killed() -> None:
    raise KilledError


@pytest.mark.parametrize(("sampler", "pruner"), WAYS)
def test_a_search_that_is_killed_at_any_line_of_its_journal_is_the_undisturbed_one(
    sampler: str, pruner: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = write(tmp_path / "a", sampler, pruner), write(tmp_path / "b", sampler, pruner)
    api.tune(path, plugins=[tiny])
    for number in (5, 13, 24, 31, 37, 44):
        with monkeypatch.context() as patch:
            patch.setattr(JournalFileBackend, "append_logs", die_at(number, raise_killed))
            try:
                api.tune(other, plugins=[tiny])
            except KilledError:
                continue
        break
    api.tune(other, plugins=[tiny])
    assert outcome(other) == outcome(path)
    assert {state for own in trials(path).values() for _, state, *_ in own} <= {
        "COMPLETE",
        "PRUNED",
    }


def tune_and_die(path: Path, tiny: Path, number: int) -> None:
    append = die_at(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    JournalFileBackend.append_logs = append  # type: ignore[method-assign]
    api.tune(path, plugins=[tiny])


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_makes_the_undisturbed_search(
    tiny: Path, tmp_path: Path
) -> None:
    path, other = write(tmp_path / "a", *WAYS[0]), write(tmp_path / "b", *WAYS[0])
    api.tune(path, plugins=[tiny])
    for number in (9, 31, 37):
        process = SPAWN.Process(target=tune_and_die, args=(other, tiny, number))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    api.tune(other, plugins=[tiny])
    assert outcome(other) == outcome(path)


def test_what_trials_propose_does_not_depend_on_who_asks_for_them(
    tiny: Path, tmp_path: Path
) -> None:
    path, other = write(tmp_path / "a", *WAYS[0]), write(tmp_path / "b", *WAYS[0])
    api.tune(path, plugins=[tiny])
    for number in (3, 6, 8):
        api.tune(other, plugins=[tiny], trials=number)
    assert trial_table(other) == trial_table(path)


def trial_table(path: Path) -> str:
    return (path.parent / "trials.csv").read_text()


@pytest.mark.parametrize("stump", [b'{"op_code":4,"torn', b"x" * 10_000, b"\x00\xff"])
def test_a_torn_last_line_of_the_journal_is_dropped(
    stump: bytes, tiny: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "random", "none")
    api.tune(path, plugins=[tiny], trials=1)
    before, journal = trials(path), path.parent / "tuning" / "journal.log"
    with journal.open("ab") as file:
        file.write(stump)
    for _ in range(2):
        api.tune(path, plugins=[tiny], trials=1)
        assert trials(path) == before
        assert stump not in journal.read_bytes()


def test_a_journal_that_is_nothing_but_a_stump_is_begun_anew(tiny: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a", "random", "none")
    (path.parent / "tuning").mkdir()
    (path.parent / "tuning" / "journal.log").write_bytes(b'{"op_code":0')
    api.tune(path, plugins=[tiny], trials=1)
    assert [len(own) for own in trials(path).values()] == [1, 1]


def hold_lock(path: Path) -> None:
    from harness_optuna.studies import _JournalLock

    _JournalLock(path).acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_lock_of_a_journal_ends_with_the_process_that_held_it(
    tiny: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "random", "none")
    journal = path.parent / "tuning" / "journal.log"
    journal.parent.mkdir()
    journal.touch()
    process = SPAWN.Process(target=hold_lock, args=(journal,))
    process.start()
    process.join()
    assert JournalFileOpenLock(str(journal)).acquire(), "Optuna's, of an earlier version"
    begun = time.monotonic()
    api.tune(path, plugins=[tiny], trials=1)
    assert time.monotonic() - begun < 20


def put_pipe(journal: Path) -> None:
    journal.unlink()
    os.mkfifo(journal)


def put_folder(journal: Path) -> None:
    journal.unlink()
    journal.mkdir()


def put_noise(journal: Path) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole[:200] + b"\xe7\x00" + whole[202:])


@pytest.mark.parametrize("damage", [put_pipe, put_folder, put_noise])
def test_a_damaged_journal_is_named(
    damage: Callable[[Path], None], tiny: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "a", "random", "none")
    api.tune(path, plugins=[tiny], trials=1)
    damage(path.parent / "tuning" / "journal.log")
    with pytest.raises(BenchmarkError, match=r"journal\.log, the journal of the search, is dam"):
        api.tune(path, plugins=[tiny], trials=1)
