"""Carries out benchmarks, by one process or several."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.leaderboards import published_cells, refresh_tables
from harness.api.lookup import Source
from harness.api.plans import describe
from harness.api.request import Request
from harness.api.searching import choose_settings
from harness.errors import FailedCellsWarning
from harness.planning.planner import plan_chosen
from harness.registry.attribution import blaming
from harness.report.leaderboard import Leaderboard
from harness.results.plan_claim import claim
from harness.training.stop_signal import StopSignal
from harness.training.workers import Line, workers

if TYPE_CHECKING:
    from harness.planning.plan import StageNode
    from harness.plugin.executor import ExecutorRequest
    from harness.training.run_context import RunContext


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
    stop: StopSignal | None = None,
    executor: ExecutorRequest | None = None,
) -> Leaderboard:
    """Trains and scores whatever of a benchmark is not on disk yet, and writes its tables.

    A benchmark that says how to tune is searched first; see `tune`.

    A stage or cell that fails, by a plugin or by its settings, is noted with its reason, which a
    `FailedCellsWarning` tells at the end; the others go on, and the next call tries it again.

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
        observers: objects with observer hooks (`@hookimpl`); they hear of all processes.
        jobs: processes that share the work, stage by stage. More than one needs the usual
            `if __name__ == "__main__"` in a script.
        stop: ends the run where it is set, from an observer or another thread. Ctrl-C, SIGTERM
            and SIGHUP set it while stages are trained; a second one ends the run at once.
        executor: what encodes crystals and carries out trials and stages, on other machines say;
            a plugin makes it. The processes of this machine unless given.

    Returns:
        The leaderboard; `.runs` and `.summary()` are pandas frames, `.failed` says which cells
        have no number since they failed, and why.

    Raises:
        StoreError: another process is at work in the folder, with other settings.
        HarnessError: see its subclasses; results that were complete stay on disk. What a plugin
            raises becomes a `PluginError` that names it, with file and line.
        KeyboardInterrupt: it was stopped; the next call goes on from there.
    """
    asked = Request.read(
        source,
        overrides,
        out=out,
        data_dir=data_dir,
        weights_dir=weights_dir,
        limit=limit,
        plugins=plugins,
        strict_data=strict_data,
    )
    published_cells(source, asked.benchmark)  # what is wrong with them is told before the work
    with asked.begun(stop or StopSignal(), observers, jobs, executor) as begun:
        context = begun
        if asked.benchmark.tuning is not None and not asked.benchmark.chosen:
            asked = replace(asked, benchmark=choose_settings(asked, context, jobs))
            with blaming(context.registry):
                planned = plan_chosen(context.plan, asked.benchmark, context.registry)
            context = replace(context, plan=planned)
        plan, store = describe(context.plan, context.registry), context.store
        with claim(store, plan) as alone:
            if alone:
                store.forget_failures()
            _carry_out(asked, context, jobs)
            leaderboard = Leaderboard.of(plan, store)
            refresh_tables(leaderboard, store, context.registry, source, asked.benchmark)
    if failed := leaderboard.failed:
        warnings.warn(
            f"{len(failed)} of {len(leaderboard.cells)} cells failed: "
            f"{'; '.join(dict.fromkeys(failed.values()))}",
            FailedCellsWarning,
            stacklevel=2,
        )
    return leaderboard


def _carry_out(asked: Request, context: RunContext, jobs: int) -> None:
    """Trains and scores what is pending: on an executor, or by up to `jobs` processes."""
    from harness.training.mending import mend
    from harness.training.plan_executor import complete_metrics, execute, pending_stages
    from harness.training.remote_stages import RemoteStages

    planned, store = context.plan, context.store
    with blaming(context.registry):
        mend(planned, store)
        complete_metrics(planned, store, context.registry)
        pending = pending_stages(planned, store)
        with context.stop.listening():
            if context.elsewhere is not None:
                RemoteStages(context, context.elsewhere).train(pending)
                pending = []  # what is made of several stages is scored below, in this process
            with _helpers(asked, context, pending, jobs):
                execute(context)


def _helpers(
    asked: Request, context: RunContext, pending: Sequence[StageNode], jobs: int
) -> AbstractContextManager[None]:
    """Starts as many further processes as have a stage to train."""
    from harness.training.plan_executor import encode_first

    further = min(jobs, len(pending)) - 1
    if further > 0:
        encode_first(context.plan, pending)
    return workers(further, partial(_join, asked), context.stop, context.tell)


def _join(asked: Request, line: Line) -> None:
    """Joins, in a process of its own, a run that another one has begun."""
    from harness.training.plan_executor import execute

    with asked.begun(line.stop) as begun, blaming(begun.registry):
        execute(line.context(begun))
