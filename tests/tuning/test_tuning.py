"""Searches for settings: fair to every run, fast, and not to be lost."""

from __future__ import annotations

import math
import multiprocessing
import re
import shutil
import signal
import sqlite3
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages.journal import JournalFileBackend

from harness import api, load_bundle, load_dataset
from harness.api.request import Request
from harness.api.searching import _join_search
from harness.apps.predict import predicting
from harness.errors import (
    BenchmarkError,
    BundleError,
    HarnessError,
    LeakError,
    PluginError,
    StoreError,
)
from harness.planning.benchmark import Benchmark
from harness.planning.planner import plan_chosen
from harness.plugin.events import EpochFinished, SearchProgressed
from harness.plugin.hookspecs import hookimpl
from harness.registry.registry import Registry
from harness.results.role_report import role_counts
from harness.results.store import Store
from harness.training.stop_signal import StopSignal
from harness.training.workers import Line
from harness.tuning.search import Search
from harness.tuning.trials_table import thaw_searches
from harness.tuning.tuning_figures import _mean_and_std

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
    backend = JournalFileBackend(str(folder / "tuning" / "journal.log"))
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path):
    """A benchmark that was searched, run and scored; to be looked at only."""
    path = tmp_path_factory.mktemp("finished") / "benchmark.toml"
    path.write_text(BENCHMARK.format(tuning="", protocol="strict"))
    return path, api.run(path, plugins=[tiny])


def trials(folder: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    """All trials by study; what only the storage calls them is left out."""
    found = {study.study_name: study.trials for study in studies(folder)}
    for own in found.values():
        for trial in own:
            trial._trial_id = trial.number  # noqa: SLF001
    return found


def test_a_frozen_search_is_verified_and_goes_on_where_it_was(
    finished, tiny: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished[0].parent, tmp_path / finished[0].parent.name))
    before, chosen = trials(folder), (folder / "best.toml").read_text()
    api.freeze(folder)
    assert not (folder / "tuning").exists()
    assert (folder / "trials.parquet").is_file()
    assert api.verify(folder, plugins=[tiny]).differences == ()
    assert api.tune(folder, plugins=[tiny]) is not None, "there is nothing left to try"
    assert trials(folder) == before, "every one is back, to the last note"
    assert (folder / "best.toml").read_text() == chosen
    api.tune(folder, plugins=[tiny], trials=6)
    after = trials(folder)
    assert {name: own[:5] for name, own in after.items()} == before
    assert {len(own) for own in after.values()} == {6}
    api.freeze(folder)
    thaw_searches(folder)
    assert trials(folder) == after


def test_a_search_that_is_killed_while_it_freezes_is_there_once(
    finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished[0].parent, tmp_path / finished[0].parent.name))
    before = trials(folder)
    with monkeypatch.context() as patch:
        patch.setattr("harness.tuning.trials_table._read_table", lambda path: [])
        with pytest.raises(StoreError, match="nothing was removed"):
            api.freeze(folder)
    assert trials(folder) == before
    thaw_searches(folder)
    assert trials(folder) == before, "the journal goes before the table"


def test_a_damaged_table_of_trials_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"trials\.parquet is damaged: .*remove it to search anew"):
        thaw_searches(tmp_path)
    assert not (tmp_path / "tuning" / "journal.log").exists()


LABELS = ["default", "tuned, 5 trials", "mean of the best 3 of 5 trials"]


def test_every_run_has_a_study_of_its_own_with_the_budget(finished) -> None:
    path, _ = finished
    made, chosen = studies(path.parent), Benchmark.load(path.parent / "best.toml").chosen
    assert len(made) == 3
    assert {len(study.trials) for study in made} == {5}
    assert [(own.run, own.rank) for own in chosen] == [(r, k) for r in (1, 2, 3) for k in (1, 2, 3)]
    assert {own.trials for own in chosen} == {5}
    for own in chosen:
        (study,) = [s for s in made if f"run {own.run} " in s.study_name]
        ended = sorted(t.value for t in study.trials if t.state.name == "COMPLETE")
        assert own.score == pytest.approx(ended[own.rank - 1])


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


def test_the_choice_is_refitted_scored_once_and_stands_beside_the_default(
    finished, tiny: Path
) -> None:
    path, leaderboard = finished
    assert list(dict.fromkeys(leaderboard.summary()["tuning"])) == LABELS
    assert len(leaderboard.summary()) == 3 * 2
    assert (leaderboard.summary()["runs"] == 3).all()
    store = Store(path.parent)
    lines = [line for line in store.read_results() if line.tuning == LABELS[1]]
    assert len(lines) == 3 * 2
    chosen = {c.run: c for c in Benchmark.load(path.parent / "best.toml").chosen if c.rank == 1}
    for line in lines:
        assert isinstance(line.stage, str)
        record = store.stage_record(line.stage)
        member = record.runs.index(line.run)
        score = record.history["score"][line.best_epoch - 1][member]
        assert score == pytest.approx(chosen[line.run].score, rel=1e-3), "the trial again"
    assert api.verify(path, plugins=[tiny]).differences == ()


@pytest.fixture
def copied(finished, tmp_path: Path) -> Path:
    """The results alone, to be changed."""
    leave = shutil.ignore_patterns("benchmark.toml")
    return Path(shutil.copytree(finished[0].parent, tmp_path / "copied", ignore=leave))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda trials, best: trials.loc[best.name != trials.index], "no complete trial has the"),
        (
            lambda trials, best: pd.concat([trials, best.to_frame().T.assign(**{"mae-log": 0.0})]),
            r"1 trials score better than .*, which is said to have rank 1",
        ),
        (lambda trials, best: trials.drop(columns="setting"), "trials.csv is no table of trials"),
    ],
)
def test_a_choice_that_is_not_the_best_of_its_trials_is_found(
    copied: Path, tiny: Path, change, said: str
) -> None:
    trials = pd.read_csv(copied / "trials.csv")
    complete = trials[(trials["state"] == "complete") & (trials["run"] == 2)]
    changed = change(trials, trials.loc[complete["mae-log"].idxmin()])
    changed.to_csv(copied / "trials.csv", index=False)
    found = api.verify(copied, plugins=[tiny])
    assert found.checked["choices"] == 9
    assert found.differences
    assert all(re.search("chosen|no table of trials", line) for line in found.differences)
    assert re.search(said, found.differences[0])


def test_a_search_whose_trials_were_not_kept_is_not_checked(copied: Path, tiny: Path) -> None:
    (copied / "trials.csv").unlink()
    found = api.verify(copied, plugins=[tiny])
    assert found.differences == ()
    assert "trials of the search: not kept here" in found.not_kept


def test_the_mean_of_the_best_is_that_of_their_logarithms(finished) -> None:
    path, _ = finished
    store = Store(path.parent)
    cells = [c for c in store.read_plan().cells if c.test_on == "Toy"]
    best, mean = (next(c for c in cells if c.tuning == label) for label in LABELS[1:])
    assert [len(sources) for sources in mean.sources] == [3, 3, 3]
    assert [sources[0] for sources in mean.sources] == [s[0] for s in best.sources]
    one, several = (store.read_predictions(cell.key) for cell in (best, mean))
    assert (one["id"] == several["id"]).all()
    assert not np.allclose(one["prediction"], several["prediction"])


def test_the_ledger_says_which_rows_chose_settings(finished) -> None:
    path, _ = finished
    store = Store(path.parent)
    for cell in store.read_plan().cells:
        if cell.tuning == "default":
            continue
        used = store.read_tuning_ledger(cell.key)
        tested = store.read_predictions(cell.key)
        assert set(used["role"]) == {"tuning"}
        assert used["run"].nunique() == 3
        for run in (1, 2, 3):
            names = set(used[used["run"] == run]["id"])
            if cell.test_on == "Toy":
                assert not names & set(tested[tested["run"] == run]["id"])
    counts = role_counts(store)
    assert counts["settings"].tolist() == [label for label in LABELS for _ in range(2)]
    assert (counts["gradient"] == counts["gradient"].iloc[0]).all(), "a row counts once"
    assert (counts["tuning"] > 0).tolist() == [False] * 2 + [True] * 4
    assert (counts["test and tuning"] == 0).all()


def test_what_a_search_leaves_runs_by_itself_to_the_same_scores(
    finished, tiny: Path, tmp_path: Path
) -> None:
    path, leaderboard = finished
    again = api.run(path.parent / "best.toml", plugins=[tiny], out=tmp_path / "again")
    pd.testing.assert_frame_equal(leaderboard.summary(), again.summary())
    trials = pd.read_csv(path.parent / "trials.csv")
    assert len(trials) == 3 * 5
    assert set(trials["state"]) <= {"complete", "pruned"}
    assert {"run", "trial", "mae-log", "epochs", "training.lr", "head.width"} <= set(trials)


def test_one_setting_for_all_runs_is_refused_where_it_would_leak(tuned, benchmark_file) -> None:
    path = benchmark_file('selection = "shared"')
    with pytest.raises(LeakError, match=r"test row of run .* validation row of run .*per-run"):
        tuned(path)


def test_one_setting_for_all_runs_elsewhere(tuned, benchmark_file) -> None:
    path = benchmark_file('selection = "shared"', protocol="published")
    found = tuned(path)
    assert len(studies(path.parent)) == 1
    assert len({str(c.setting) for c in found.chosen if c.rank == 1}) == 1
    (study,) = studies(path.parent)
    assert all(t.user_attrs["spread"] > 0 for t in study.trials if t.state.name == "COMPLETE")


def test_a_finished_search_is_not_done_again(tuned, benchmark_file) -> None:
    path = benchmark_file()
    first = tuned(path)
    before = values(path.parent)
    assert tuned(path).chosen == first.chosen
    assert values(path.parent) == before
    more = tuned(path, trials=6)
    assert {chosen.trials for chosen in more.chosen} == {6}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_goes_on_tries_something_new(tuned, benchmark_file, sampler: str) -> None:
    path = benchmark_file()
    tuned(path, trials=2, overrides=[f"tuning.sampler={sampler}"])
    tuned(path, trials=4, overrides=[f"tuning.sampler={sampler}"])
    for study in studies(path.parent):
        assert len({trial.params["training.lr"] for trial in study.trials}) == 4


def test_brute_force_tries_every_combination_once(tuned, benchmark_file) -> None:
    path = benchmark_file(text=BENCHMARK.split("[tuning.space.training]")[0])
    space = "lr=[1e-3, 2e-3, 3e-3], batch_size=[8, 16], schedule=['cosine', 'constant']"
    fixed = "weight_decay=0.0, cosine_period_epochs=100.0, loss='mae-log'"
    changes = [f"tuning.space.training={{{space}, {fixed}}}", "tuning.space.heads.mlp=false"]
    changes += ["tuning.sampler=brute-force", "tuning.batch=3", "runs=1", "seed=1"]
    tuned(path, overrides=changes, trials=12)
    (study,) = studies(path.parent)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 12


def test_a_choice_is_laid_out_as_if_it_had_been_read_from_its_file(finished, tiny: Path) -> None:
    path, _ = finished
    registry, best = Registry([tiny]), Benchmark.load(path.parent / "best.toml")
    afresh = api.prepare(best, registry=registry)
    again = plan_chosen(api.prepare(path, registry=registry), best, registry)
    assert len(again.scorings) == 6
    for own, other in ((again.stages, afresh.stages), (again.scorings, afresh.scorings)):
        assert [one.key for one in own] == [one.key for one in other]


def test_progress_counts_every_trial_once(tuned) -> None:
    class Listener:
        @hookimpl
        def search_progressed(self, event: SearchProgressed) -> None:
            said.append(event)

    said: list[SearchProgressed] = []
    tuned(observers=[Listener()])
    fractions = [event.fraction for event in said]
    assert fractions == sorted(fractions)
    assert fractions.count(1.0) == 1
    assert all((event.fraction == 1.0) == (event.done == event.total) for event in said)
    said.clear()
    tuned(observers=[Listener()])
    assert [(event.done, event.total) for event in said] == [(15, 15)], "they are done already"


def test_trials_that_do_badly_are_dropped_from_the_stack(tuned, benchmark_file) -> None:
    path = benchmark_file()
    tuned(path, overrides=["tuning.trials=14", "tuning.report_every=1", "training.epochs=8"])
    ended = [trial for study in studies(path.parent) for trial in study.trials]
    pruned = [trial.last_step for trial in ended if trial.state.name == "PRUNED"]
    assert pruned
    assert max(pruned) < 8
    assert {trial.last_step for trial in ended if trial.state.name == "COMPLETE"} == {8}


def test_heads_in_closed_form_are_searched_too(benchmark_file, tiny: Path) -> None:
    text = BENCHMARK.split("[tuning.space.training]")[0].replace('"mlp"', '"gp"')
    path = benchmark_file(text=text)
    changes = ["tuning.trials=2", "tuning.ensemble=2", "runs=2"]
    leaderboard = api.run(path, plugins=[tiny], overrides=changes)
    assert leaderboard.summary()["tuning"].nunique() == 3
    assert leaderboard.skipped.empty
    chosen = Benchmark.load(path.parent / "best.toml").chosen
    assert {own.setting.head["kernel"] for own in chosen} <= {"matern", "rbf"}


def test_what_has_nothing_to_search_for_stays_at_its_defaults(benchmark_file, tiny: Path) -> None:
    path = benchmark_file(text=BENCHMARK.replace('["mlp"]', '["mlp", "nearest"]'))
    changes = ["tuning.trials=2", "tuning.ensemble=1", "runs=2"]
    with pytest.warns(
        UserWarning, match="search for in tiny, nearest, scratch, strict, Toy: no part"
    ):
        leaderboard = api.run(path, plugins=[tiny], overrides=changes)
    rows = {(row["head"], row["tuning"]) for _, row in leaderboard.summary().iterrows()}
    assert rows == {("mlp", "default"), ("mlp", "tuned, 2 trials"), ("nearest", "default")}
    text = BENCHMARK.split("[tuning.space.training]")[0].replace('"mlp"', '"nearest"')
    with pytest.raises(
        BenchmarkError, match=r"nothing to search for in tiny, nearest, .*tuning\.space"
    ):
        api.tune(benchmark_file(text=text), plugins=[tiny])


def test_unusable_rows_are_refused_before_anything_is_searched(benchmark_file, tiny: Path) -> None:
    path = benchmark_file()
    for go in (api.run, api.tune):
        with pytest.raises(HarnessError, match="12 unusable rows in Nothing"):
            go(path, plugins=[tiny], overrides=['train_on=["Nothing"]'], strict_data=True)
    assert not (path.parent / "tuning").exists()


def test_a_plugin_brings_its_own_study(tuned, benchmark_file, tmp_path, tiny: Path) -> None:
    plugin = tmp_path / "grid.py"
    plugin.write_text(
        dedent("""
        from harness.plugin import hookimpl

        @hookimpl
        def make_study(request):
            if request.tuning.sampler != "grid":
                return None
            import optuna
            grid = optuna.samplers.RandomSampler(seed=1)
            sampler = optuna.samplers.PartialFixedSampler({"training.lr": 2e-3}, grid)
            return optuna.create_study(study_name=request.name, sampler=sampler)
        """)
    )
    changes = ["tuning.sampler=grid", "tuning.trials=2", "tuning.shapes=free"]
    fixed = ["weight_decay=0.0", "batch_size=8", "schedule=constant", "cosine_period_epochs=10.0"]
    changes += [f"tuning.space.training.{one}" for one in fixed]
    changes += ["tuning.space.heads.mlp=false"]
    found = api.tune(benchmark_file(), plugins=[tiny, plugin], overrides=changes)
    assert {chosen.setting.training["lr"] for chosen in found.chosen} == {2e-3}
    with pytest.raises(BenchmarkError, match=r"tuning.sampler = 'grid': no plugin knows it"):
        tuned(overrides=["tuning.sampler=grid"])


GATED = """
from harness.plugin import Choice, HeadSpec, SearchSpace, Settings, StackedLinear, hookimpl
from torch import nn


class GatedSettings(Settings):
    width: int = 4
    gate: float | None = 0.5


class Gated(nn.Module):
    def __init__(self, settings, width, generators):
        super().__init__()
        self.linear = StackedLinear(generators, width, 1)

    def forward(self, x):
        return self.linear(x).squeeze(-1)


SPACE = {{"width": Choice(2, 4), "gated": Choice(True, False)}}


def settle(values):
    gate = {{"gate": {gate}}} if values["gated"] else {{}}
    return {{"width": values["width"], **gate}}


@hookimpl
def register_heads():
    return [HeadSpec("gated", "", GatedSettings, Gated, space=SearchSpace(SPACE, settle))]
"""


def test_settings_that_only_some_trials_have_are_drawn_and_written(
    benchmark_file, tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "gated.py"
    plugin.write_text(GATED.format(gate=0.1))
    text = BENCHMARK.split("[tuning.space.heads.mlp]")[0].replace('"mlp"', '"gated"')
    path = benchmark_file('sampler = "random"\nshapes = "free"\npruner = "none"', text=text)
    found = api.tune(path, plugins=[tiny, plugin])
    heads = {tuple(own.setting.head) for own in found.chosen}
    assert heads == {("width",), ("width", "gate")}
    assert Benchmark.load(path.parent / "best.toml").chosen == found.chosen
    assert (path.parent / "trials.svg").is_file()


@pytest.mark.slow
def test_of_many_searches_some_are_drawn_and_all_are_written(tuned, benchmark_file) -> None:
    path = benchmark_file(text=BENCHMARK.split("[tuning.space.heads.mlp]")[0])
    heads = ", ".join(f"{{name='mlp', hidden=[{width}]}}" for width in range(2, 23))
    changes = [f"heads=[{heads}]", "runs=1", "training.epochs=1", "tuning.space.heads.mlp=false"]
    assert len({own.head.label for own in tuned(path, overrides=changes, trials=1).chosen}) == 21
    assert "The first 20 of 21 searches" in (path.parent / "trials.svg").read_text()


def test_the_spread_of_a_score_is_that_of_a_sample() -> None:
    search: Any = Search
    trials = [optuna.create_trial(value=value) for value in (1.0, 2.0, 4.0)]
    assert _mean_and_std(search, trials) == pytest.approx((7 / 3, np.std([1, 2, 4], ddof=1)))
    assert _mean_and_std(search, trials[:1]) == (1.0, 0.0)


def test_a_search_space_says_nothing_that_a_file_cannot(
    benchmark_file, tiny: Path, tmp_path: Path
) -> None:
    plugin = tmp_path / "gated.py"
    plugin.write_text(GATED.format(gate=None))
    text = BENCHMARK.split("[tuning.space.heads.mlp]")[0].replace('"mlp"', '"gated"')
    with pytest.raises(PluginError, match=r"of the head gives gate = None, .*gated\.py"):
        api.tune(benchmark_file(text=text), plugins=[tiny, plugin])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tuning.space.training.lrr=1e-3", r"space.training.lrr: neither .* Did you mean 'lr'"),
        ("tuning.space.heads.mpl=false", r"space.heads: 'mpl' is not in .* Did you mean 'mlp'"),
        ("tuning.space.training.lr={low=2.0, high=1.0}", r"training.lr = .* no search space"),
        ("tuning.space.training.lr={low=1.0}", r"training.lr = .* no search space .*'high'"),
        ("tuning.space.training.lr={low=nan, high=1.0}", r"training.lr = .* finite numbers"),
        ("tuning.space.training.lr={low=1e-4, high=inf}", r"training.lr = .* finite numbers"),
        ("tuning.space.training.lr={low=1e-4, high=1e308}", r"training.lr = .* up to 2\^53"),
        ("tuning.space.training.lr={low=0.1, high=1.0, step=nan}", r"lr = .* finite numbers"),
        ("tuning.space.training.lr={low=0.1, high=1.0, step=1e-30}", r"lr = .* than 1,000,000,000"),
        ("tuning.space.training.lr={low=1e-4, high=1.0, log='yes'}", r"lr = .* log is true or"),
        ("tuning.space.training.lr=[1e-3, inf]", r"training.lr = .* finite numbers"),
        ("tuning.space.training.epochs={low=1, high=true}", r"training.epochs = .* finite numbers"),
        ("tuning.space.training.epochs={low=1, high=1000000000000}", r"epochs: expected less than"),
        ("tuning.space.heads.mlp.layers={low=1, high=1000000000}", r"heads.mlp.layers: .* at most"),
        ("tuning.space.heads.mlp.layers=1000000000", r"heads.mlp.layers: 1,000,000,000 is more"),
        ("tuning.pruner=medain", r"tuning.pruner = 'medain'.* Did you mean 'median'"),
        ("tuning.storage=nonsense", r"tuning.storage = 'nonsense' cannot be opened"),
        ("tuning.trails=3", r"unknown key 'tuning.trails'. Did you mean 'trials'"),
    ],
)
def test_what_is_wrong_is_named(tuned, change: str, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        tuned(overrides=[change])


def test_a_benchmark_that_does_not_say_how_to_tune(tuned, benchmark_file) -> None:
    path = benchmark_file(text=BENCHMARK.split("[tuning]")[0])
    with pytest.raises(BenchmarkError, match=r"add a table \[tuning\]"):
        tuned(path)


def test_there_must_be_a_search_to_join(tuned) -> None:
    with pytest.raises(BenchmarkError, match="There is no search to join"):
        tuned(join=True)


def test_a_search_is_joined_with_the_settings_that_it_was_begun_with(tuned) -> None:
    tuned(trials=2)
    tuned(trials=3, join=True)
    with pytest.raises(BenchmarkError, match=r"no search to join for tiny, mlp, .*--set"):
        tuned(join=True, overrides=["training.epochs=5"])


def test_choices_that_are_not_complete_are_refused(
    tuned, benchmark_file, tiny: Path, tmp_path: Path
) -> None:
    found = tuned(benchmark_file())
    without = found.model_copy(update={"chosen": found.chosen[1:]})
    with pytest.raises(BenchmarkError, match=r"missing, .* run 1, rank 1"):
        api.run(without, plugins=[tiny], out=tmp_path)


class Impatient:
    """Stops a search by Ctrl-C."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    @hookimpl
    def epoch_finished(self, event: EpochFinished) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def test_a_search_that_is_stopped_goes_on(tuned, benchmark_file) -> None:
    path = benchmark_file()
    with pytest.raises(KeyboardInterrupt):
        tuned(path, observers=[Impatient(9)])
    before = [t for study in studies(path.parent) for t in study.trials]
    assert any(trial.state.name == "RUNNING" for trial in before)
    tuned(path)
    for study in studies(path.parent):
        finished = [t for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]
        assert len(finished) == 5
    kept = {t.params["training.lr"] for t in before if t.state.is_finished()}
    after = [t for study in studies(path.parent) for t in study.trials if t.state.is_finished()]
    assert kept <= {t.params["training.lr"] for t in after}


def test_searches_advance_together_so_that_none_is_left_out_when_time_is_up(
    tuned, benchmark_file
) -> None:
    path = benchmark_file()
    two_batches = Impatient(2 * 6 + 1)
    with pytest.raises(KeyboardInterrupt):
        tuned(path, observers=[two_batches], overrides=['train_on=["Toy", "Twins"]'])
    for study in studies(path.parent):
        assert sum(trial.state.is_finished() for trial in study.trials) == 2


def test_protocols_that_ask_for_the_same_trials_share_them(tuned, benchmark_file) -> None:
    path = benchmark_file()
    views = 'protocols=["published", {name="published", label_view="as-published"}]'
    found = tuned(path, overrides=[views, "runs=1"])
    assert len({own.protocol.label for own in found.chosen}) == 2
    (study,) = studies(path.parent)
    assert len(study.trials) == 5
    locks = {file.name for file in (path.parent / "tuning").glob(".lock-*")} - {".lock-studies"}
    assert len(locks) == 1, "or two processes could ask for the last trials at once"


def test_a_process_that_helps_stops_between_batches_of_heads_in_closed_form(
    tuned, benchmark_file, tiny: Path
) -> None:
    text = BENCHMARK.split("[tuning.space.training]")[0].replace('"mlp"', '"gp"')
    path = benchmark_file(text=text)
    with pytest.raises(BenchmarkError, match="No trial"):
        tuned(path, timeout=0)  # begins the search, and no trial
    told = multiprocessing.Event()
    told.set()
    request = Request.read(path, plugins=[tiny])
    _, end = multiprocessing.Pipe(duplex=False)
    with pytest.raises(KeyboardInterrupt):
        _join_search(request, math.inf, Line(StopSignal(told), "process 2", end))
    assert [len(study.trials) for study in studies(path.parent)] == [0, 0, 0]


@pytest.mark.parametrize(("name", "call"), [("record_heartbeat", 2), ("_create_new_trial", 2)])
def test_a_process_that_dies_while_it_asks_leaves_no_trial_that_is_waited_for_for_ever(
    tuned, benchmark_file, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    path = benchmark_file(f'storage = "{url}"\nheartbeat_seconds = 1')
    storage, calls = optuna.storages.RDBStorage, 0
    original = getattr(storage, name)

    def dying(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(storage, name, dying)
        with pytest.raises(KeyboardInterrupt):
            tuned(path)
    # As if the time after which a trial is missed had passed.
    query = "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
    with sqlite3.connect(tmp_path / "trials.db") as connection:
        connection.execute(query)
    assert {own.trials for own in tuned(path).chosen} == {5}


@pytest.mark.parametrize("label", LABELS[1:])
def test_a_tuned_cell_becomes_a_bundle_that_predicts_what_is_stored(
    finished, label, tiny: Path, tmp_path: Path
) -> None:
    path, _ = finished
    folder = tmp_path / "bundle"
    predicting.export(path, f"tuning={label}", folder, plugins=[tiny])
    # The export has compared what every run predicts with what is stored; here: it loads.
    bundle = load_bundle(folder, plugins=[tiny])
    twins = load_dataset("Twins", plugins=[tiny])
    assert np.isfinite(bundle.predict(twins.crystals[:5])["kappa_mean"]).all()
    damaged = folder / "bundle.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"bundle\.safetensors"):
        load_bundle(folder, plugins=[tiny])
    assert sum(len(stack.runs) for stack in bundle.record.stacks) == 3 * (
        3 if "mean" in label else 1
    )
