"""Searches for settings, by one process or several."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from functools import partial
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.lookup import Source
from harness.api.request import Request
from harness.errors import BenchmarkError
from harness.escaping import csv_frame
from harness.planning.benchmark import Benchmark
from harness.registry.attribution import blaming
from harness.results.store import CHOICES_FILE, TRIALS_FILE, TUNING_FOLDER, Store
from harness.training.stop_signal import StopSignal
from harness.training.workers import Line, workers

if TYPE_CHECKING:
    from harness.plugin.executor import ExecutorRequest
    from harness.training.run_context import RunContext
    from harness.tuning.tuner import Tuner


def tune(
    source: Source,
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    data_dir: Path | str | None = None,
    weights_dir: Path | str | None = None,
    limit: int | None = None,
    strict_data: bool = False,
    plugins: Sequence[Path | str] = (),
    observers: Sequence[object] = (),
    jobs: int = 1,
    trials: int | None = None,
    timeout: float | None = None,
    join: bool = False,
    stop: StopSignal | None = None,
    executor: ExecutorRequest | None = None,
) -> Benchmark | None:
    """Searches for the settings of every configuration of a benchmark; trains no cell of it.

    What is in its studies already is not done again. Several processes may search at once, in this
    call (`jobs`) and in others on the same results folder.

    Args:
        source: path or name of the benchmark, or a `Benchmark` made in Python.
        out: results folder; beside the benchmark file unless given.
        overrides: `key=value` changes to the file.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset; see `run`.
        strict_data: refuse datasets with unusable rows.
        plugins: Python files to load as plugins besides the installed ones.
        observers: objects with observer hooks; they hear of all processes.
        jobs: processes that search.
        trials: in place of the benchmark's.
        timeout: seconds after which no trial is begun.
        join: only help with a search that is there already; nothing is written.
        stop: ends the search where it is set; see `run`.
        executor: what carries out trials, on other machines say; see `run`.

    Returns:
        The benchmark with what was chosen, which is also in `best.toml` of the results folder;
        `trials.csv` beside it lists all trials, `trials.png` and `trials.svg` draw them. None for
        one that has joined.

    Raises:
        HarnessError: see its subclasses; finished trials stay in the study.
        KeyboardInterrupt: it was stopped; the next call goes on from there.
    """
    more = () if trials is None else (f"tuning.trials={trials}",)
    asked = Request.read(
        source,
        (*overrides, *more),
        out=out,
        data_dir=data_dir,
        weights_dir=weights_dir,
        limit=limit,
        plugins=plugins,
        strict_data=strict_data,
    )
    if join and not (asked.folder / TUNING_FOLDER).is_dir():
        raise BenchmarkError(
            f"There is no search to join in {asked.folder}: begin one with `harness tune`."
        )
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    with asked.begun(stop or StopSignal(), observers, jobs, executor) as context:
        if join:
            _search(asked, context, jobs, deadline, join)
            return None
        return choose_settings(asked, context, jobs, deadline)


def choose_settings(
    asked: Request,
    context: RunContext,
    jobs: int,
    deadline: float = math.inf,
) -> Benchmark:
    """Searches, and writes what comes of it; returns the benchmark with what was chosen."""
    tuner = _search(asked, context, jobs, deadline)
    with blaming(context.registry):
        return write_choices(tuner, context.store, asked.home)


def _search(
    asked: Request,
    context: RunContext,
    jobs: int,
    deadline: float,
    join: bool = False,
) -> Tuner:
    """Searches on the executor, or by `jobs` processes, until no trial is left to begin.

    Args:
        asked: what further processes are sent.
        context: with the observers of this process.
        jobs: processes, this one included, where there is no executor.
        deadline: of `time.monotonic()`; no trial is begun after it.
        join: another process has begun the search.
    """
    tuner = _make_tuner(context, join)
    if tuner.untuned:
        warnings.warn(
            f"There is nothing to search for in {'; '.join(tuner.untuned)}: no part declares a "
            "search space, or the benchmark fixes all of it. There the defaults stay.",
            stacklevel=4,
        )
    work, stop = partial(_join_search, asked, deadline), context.stop
    further = jobs - 1 if context.elsewhere is None else 0
    tell = context.tell
    with blaming(context.registry), stop.listening(), workers(further, work, stop, tell):
        tuner.search(deadline)
    return tuner


def _join_search(asked: Request, deadline: float, line: Line) -> None:
    """Joins, in a process of its own, a search that another one has begun."""
    with asked.begun(line.stop) as begun:
        context = line.context(begun)
        tuner = _make_tuner(context, join=True)
        with blaming(context.registry):
            tuner.search(deadline)


def _make_tuner(context: RunContext, join: bool) -> Tuner:
    from harness.tuning.tuner import Tuner

    benchmark = context.plan.benchmark
    if benchmark.tuning is None:
        raise BenchmarkError(
            f"The benchmark {benchmark.name!r} does not say how to tune: add a table "
            "[tuning], as with trials = 60; or, for once, --set tuning.trials=60."
        )
    with blaming(context.registry):
        return Tuner(context, join)


def write_choices(tuner: Tuner, store: Store, home: Path = Path()) -> Benchmark:
    """Writes `best.toml`, `trials.csv` and their figure; returns the benchmark with the choice.

    Args:
        tuner: of the search.
        store: where to.
        home: what the plugin files that the benchmark lists are relative to.
    """
    import pandas as pd
    import tomli_w

    from harness.drawing.style import write_figure
    from harness.tuning.search import trial_rows
    from harness.tuning.tuning_figures import draw_searches

    rows = pd.DataFrame([row for search in tuner.searches for row in trial_rows(search)])
    store.write_text(TRIALS_FILE, csv_frame(rows).to_csv(index=False, float_format="%.6g"))
    benchmark = tuner.benchmark.model_copy(update={"chosen": tuner.choose()})
    written = benchmark.model_dump(
        mode="json", exclude_none=True, exclude={"tuning", "finding", "order", *benchmark.unset}
    )
    if benchmark.plugins:
        here = (relpath(home / name, store.folder) for name in benchmark.plugins)
        written["plugins"] = [Path(path).as_posix() for path in here]
    store.write_text(
        CHOICES_FILE,
        "# Written by `harness tune`: the benchmark with the settings that were chosen, run by "
        "run.\n# `harness run` on this file trains and scores them.\n\n" + tomli_w.dumps(written),
    )
    for suffix in (".png", ".svg"):
        write_figure(draw_searches(tuner.searches), store.folder / f"trials{suffix}")
    return benchmark
