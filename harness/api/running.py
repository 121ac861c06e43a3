"""Carries out benchmarks, by one process or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.leaderboards import published_cells, write_tables
from harness.api.lookup import Source
from harness.api.plans import describe
from harness.api.request import Request
from harness.api.searching import choose_settings
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store
from harness.training.workers import StopSignal, workers

if TYPE_CHECKING:
    from harness.tuning.tuner import TuningProgress


def run(
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
    tell: Callable[[TuningProgress], None] = lambda progress: None,
) -> Leaderboard:
    """Trains and scores whatever of a benchmark is not on disk yet, and writes its tables.

    A benchmark that says how to tune is searched first; see `tune`.

    Args:
        source: path or name of the benchmark, or a `Benchmark` made in Python.
        out: results folder; beside the benchmark file unless given. A dry run (`limit`) goes to a
            sub-folder of its own.
        overrides: `key=value` changes to the file, as `training.epochs=10`.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        limit: keep at most that many rows of each dataset.
        strict_data: refuse datasets with unusable rows.
        plugins: Python files to load as plugins besides the installed ones.
        observers: objects with observer hooks (`@hookimpl`); they hear of this process's stages.
        jobs: processes that share the work, stage by stage. More than one needs the usual
            `if __name__ == "__main__"` in a script.
        tell: hears of the progress of a search.

    Returns:
        The leaderboard; `.runs` and `.summary()` are pandas frames.

    Raises:
        HarnessError: see its subclasses; results that were complete stay on disk. What a plugin
            raises becomes a `PluginError` that names it, with file and line.
    """
    published = published_cells(source, overrides)
    asked = Request(source, overrides, data_dir, weights_dir, limit, plugins, strict_data)
    store = Store.create(asked.folder(out))
    benchmark = asked.read()
    if benchmark.tuning is not None and not benchmark.chosen:
        found = choose_settings(asked, store, asked.register(observers), jobs, tell)
        asked = replace(asked, source=found, overrides=())
    registry = asked.register(observers)
    _carry_out(asked, store, registry, jobs)
    return write_tables(store, registry, published)


def _carry_out(asked: Request, store: Store, registry: Registry, jobs: int) -> None:
    """Trains and scores what is pending, in this process and in up to `jobs` - 1 further ones."""
    from harness.training.plan_executor import complete_metrics, execute, pending_stages

    planned = asked.plan(registry)
    store.write_plan(describe(planned))
    with blaming(registry):
        complete_metrics(planned, store, registry)
        further = min(jobs, len(pending_stages(planned, store))) - 1
        with workers(further, partial(_join, asked, store.folder)):
            execute(planned, store, registry)


def _join(asked: Request, folder: Path, leash: StopSignal) -> None:
    """Joins, in a process of its own, a run that another one has begun."""
    from harness.training.plan_executor import execute

    registry = asked.register([leash])
    planned = asked.plan(registry)
    with blaming(registry):
        execute(planned, Store.create(folder), registry)
