"""Searches for settings: fair to every run, fast, and not to be lost."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from harness import api
from harness.benchmark import Benchmark

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = ["mlp"]
transfers = ["scratch"]
protocols = ["{protocol}"]
baselines = []
metrics = ["mae-log"]
runs = 3

[training]
epochs = 6
loss = "mae-log"

[tuning]
trials = 5
batch = 2
ensemble = 3
report_every = 2
{tuning}

[tuning.space.training]
batch_size = [8, 16]
loss = "mae-log"

[tuning.space.heads.mlp]
layers = {{ low = 1, high = 2 }}
width = {{ low = 4, high = 8 }}
activation = "relu"
"""


@pytest.fixture
def benchmark_file(tmp_path: Path):
    def write(tuning: str = "", protocol: str = "strict", text: str = BENCHMARK) -> Path:
        path = tmp_path / "mine" / "benchmark.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(tuning=tuning, protocol=protocol))
        return path

    return write


def studies(folder: Path) -> list[optuna.Study]:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "tuning" / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    names = optuna.get_all_study_names(storage)
    return [optuna.load_study(study_name=name, storage=storage) for name in names]


def values(folder: Path) -> dict[str, list[float | None]]:
    return {study.study_name: [t.value for t in study.trials] for study in studies(folder)}


@pytest.fixture
def tuned(benchmark_file, tiny: Path):
    def go(path: Path | None = None, **options) -> Benchmark | None:
        return api.tune(path or benchmark_file(), plugins=[tiny], **options)

    return go


def test_every_run_has_a_study_of_its_own_with_the_budget(tuned, benchmark_file) -> None:
    path = benchmark_file()
    found = tuned(path)
    made = studies(path.parent)
    assert len(made) == 3
    assert {len(study.trials) for study in made} == {5}
    assert [(c.run, c.rank) for c in found.chosen] == [(r, k) for r in (1, 2, 3) for k in (1, 2, 3)]
    assert {chosen.trials for chosen in found.chosen} == {5}
    for chosen in found.chosen:
        (study,) = [s for s in made if f"run {chosen.run} " in s.study_name]
        ended = sorted(t.value for t in study.trials if t.state.name == "COMPLETE")
        assert chosen.score == pytest.approx(ended[chosen.rank - 1])


def test_a_run_learns_nothing_of_the_rows_of_others(tuned, benchmark_file, tmp_path) -> None:
    """Trials of run 1 come out the same, to the last digit, whatever runs there are beside it."""
    path = benchmark_file()
    tuned(path, out=tmp_path / "three")
    tuned(path, out=tmp_path / "one", overrides=["runs=1"])
    (one,) = [s for s in studies(tmp_path / "one") if " run 1 " in s.study_name]
    (three,) = [s for s in studies(tmp_path / "three") if s.study_name == one.study_name]
    assert [t.params for t in one.trials] == [t.params for t in three.trials]
    assert [t.state for t in one.trials] == [t.state for t in three.trials]
    for mine, theirs in zip(one.trials, three.trials, strict=True):
        assert mine.intermediate_values == pytest.approx(theirs.intermediate_values, abs=1e-4)
