"""`harness run`: train and score what a benchmark file asks for."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    FAILED,
    INTERRUPTED,
    BenchmarkArgument,
    DataOption,
    ExecutorFileOption,
    ExecutorOption,
    JobsOption,
    JsonOption,
    LimitOption,
    OutOption,
    PluginOption,
    SchedulerOption,
    SetOption,
    StrictDataOption,
    WeightsOption,
    WorkersOption,
    cores,
    executor_request,
)
from harness.cli.output import print_next, say
from harness.errors import FailedCellsWarning
from harness.plugin.cell import BASELINE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.planning.parameter_counts import ParameterCount
    from harness.planning.plan import Plan, StageNode
    from harness.registry.registry import Registry
    from harness.report.leaderboard import Leaderboard

START_SECONDS, CELL_SECONDS = 5.0, 0.1
"""What a run takes besides training: to load libraries, and to score a cell; rough, as the rest."""

TRAINED = "trained parameters"
"""Of one member: what stages are told apart by that train a few."""

LONG = 100
"""Seconds or minutes from which the next unit is easier to read."""


def run(
    benchmark: BenchmarkArgument,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    out: OutOption = None,
    overrides: SetOption = None,
    limit: LimitOption = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print stages and scorings; train nothing.")
    ] = False,
    strict_data: StrictDataOption = False,
    jobs: JobsOption = None,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    executor_file: ExecutorFileOption = None,
    plugin: PluginOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOption = False,
) -> None:
    """Train and score what a benchmark asks for, and write its tables.

    What is on disk already is not done again: after a stop, the same command goes on. Where a
    part fails, the others go on; the exit status then is 3.

    Examples:
        harness run quickstart
        harness run mine --set training.epochs=50 --jobs 4
    """
    from harness import api
    from harness.cli.progress import observer, tell_of_stop
    from harness.cli.table import print_leaderboard
    from harness.training.stop_signal import StopSignal

    options: dict[str, Any] = {
        "overrides": overrides or (),
        "data_dir": data_dir,
        "weights_dir": weights_dir,
        "limit": limit,
        "strict_data": strict_data,
    }
    plugins = plugin or ()
    if plan:
        registry = api.registry_of(benchmark, plugins=plugins, run=True)
        planned = api.prepare(benchmark, registry=registry, **options)
        print_plan(planned, api.parameter_counts(planned, registry), json=json)
        return
    try:
        with observer(quiet or json) as progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", FailedCellsWarning)  # told below, and better
            leaderboard = api.run(
                benchmark,
                out=out,
                plugins=plugins,
                observers=progress,
                jobs=jobs or cores(),
                executor=executor_request(executor, scheduler, workers, executor_file),
                stop=StopSignal(notice=tell_of_stop),
                **options,
            )
    except KeyboardInterrupt:
        print("\nStopped. What is complete is on disk: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        registry = api.registry_of(benchmark, plugins=plugins)
        print_leaderboard(leaderboard, registry, json=json)
        if not (json or limit or leaderboard.failed):
            files = api.freezable(benchmark, out)
            places = {"--data-dir": data_dir, "--weights-dir": weights_dir}
            named = _written(benchmark, {"--results": out}, plugins)
            trained = _written(benchmark, {"--results": out, **places}, plugins)
            steps = _next_steps(leaderboard, registry, named, trained)
            pages = (f"harness site {shlex.quote(str(out or benchmark))}", "pages to pass on")
            pack = (f"harness freeze {named}", f"packs {files} files of results into few")
            print_next([*steps, pages, *([pack] if files else ())])
    if leaderboard.failed:
        _tell_failures(leaderboard)
        raise typer.Exit(FAILED)


def _written(benchmark: str, options: Mapping[str, Path | None], plugins: Sequence[Path]) -> str:
    """How a benchmark is named to a further command, with the options it was run with."""
    given = [(option, str(path)) for option, path in options.items() if path is not None]
    given += [("--plugin", str(path)) for path in plugins]
    return shlex.join([benchmark, *(word for pair in given for word in pair)])


def _next_steps(
    leaderboard: Leaderboard, registry: Registry, named: str, trained: str
) -> Iterator[tuple[str, str]]:
    """Commands that go on from a finished run, with what they give.

    Args:
        leaderboard: what the run has given.
        registry: where metrics come from.
        named: how it is named where results are read.
        trained: how it is named where models are read, too.
    """
    from harness.report.overview import distinguishing, find_leader

    if {cell["transfer"] for cell in leaderboard.cells} > {"scratch", BASELINE}:
        yield f"harness table {named} --against transfer=scratch", "what transfer gains"
    metric = registry.metrics_of(leaderboard.property_name)[leaderboard.metrics[0]]
    if leader := find_leader(leaderboard, metric, trained=True):
        known = distinguishing(leader.cell, leaderboard)
        cell = shlex.quote(",".join(f"{column}={value}" for column, value in known.items()))
        folder = f"{leaderboard.name}-bundle"
        yield f"harness export {trained} {cell} -o {folder}", "the trained model that leads"
        yield f"harness predict my.cif -b {folder}", "its prediction, with an interval"


def _tell_failures(leaderboard: Leaderboard) -> None:
    """Says on standard error what has failed, each reason once."""
    from harness.cli.output import say

    failed = leaderboard.failed
    print(f"error: {len(failed)} of {len(leaderboard.cells)} cells failed:", file=sys.stderr)
    for reason in dict.fromkeys(failed.values()):
        say(f"- {reason}", to_errors=True)
    if leaderboard.failures:
        print(
            "`failures.jsonl` in the results folder holds where in the code that came from; the "
            "same command tries it again.",
            file=sys.stderr,
        )


def print_plan(planned: Plan, counts: Mapping[str, ParameterCount], json: bool) -> None:
    """Prints the graph of stages with sizes and a rough estimate of the time.

    Args:
        planned: the graph.
        counts: parameters of the stages that train by gradient, by key.
        json: print it for scripts.
    """
    from harness.cli.output import print_json, print_table
    from harness.planning.plan import one_or_all
    from harness.planning.stacks import stacks_of

    stacks = stacks_of(planned, planned.stages)
    place_of = {stage.key: place for place, own in enumerate(stacks, start=1) for stage in own}
    shared = len(stacks) < len(planned.stages)
    in_stacks = f" in {len(stacks)} stack{'s' if len(stacks) > 1 else ''}" if shared else ""
    cells_of = Counter(stage.key for scoring in planned.scorings for stage in scoring.stages)
    stages = [
        {
            **_stage_facts(stage, cells_of[stage.key], counts.get(stage.key)),
            "stack": place_of[stage.key],
        }
        for stage in planned.stages
    ]
    seconds = START_SECONDS + CELL_SECONDS * len(planned.scorings)
    seconds += sum(stage.seconds for stage in planned.stages)
    if json:
        cells = [
            {
                "key": scoring.key,
                "stage": one_or_all([stage.key for stage in scoring.stages]),
                **vars(scoring.cell),
            }
            for scoring in planned.scorings
        ]
        named = {"runs": dict(planned.run_names)} if planned.run_names else {}
        print_json({"stages": stages, "cells": cells, "seconds": seconds, **named})
        return
    same = {
        part
        for part in ("backbone", "head", "protocol", "after")
        if len({stage[part] for stage in stages}) == 1
    }
    left_out = {*same, "parameters", *(() if counts else (TRAINED,))}
    left_out |= set() if shared else {"stack"}
    rows = [
        {
            key: "closed form" if value is None else value
            for key, value in {**stage, TRAINED: _share_in_words(stage)}.items()
            if key not in left_out
        }
        for stage in stages
    ]
    numbers = ("members", "train rows", "epochs", "about", "cells", TRAINED, "stack")
    print_table(planned.benchmark.title or planned.benchmark.name, rows, numbers)
    say(
        f"{len(planned.stages)} stages{in_stacks}, {len(planned.scorings)} cells, "
        f"about {_in_words(seconds)} "
        "on one CPU core, if nothing is on disk yet"
    )
    for protocol, names in planned.run_names.items():
        runs = ", ".join(f"{run} {name}" for run, name in enumerate(names, start=1))
        say(f"{protocol}, what each run tests: {runs}")
    for line in _runs_without_rows(planned):
        say(line)
    for transfer, target in planned.not_applicable:
        say(f"not applicable: {transfer} on {target}")
    tuning = planned.benchmark.tuning
    if tuning is not None and not planned.benchmark.chosen:
        each = ", in every run" if tuning.selection == "per-run" else ""
        say(
            f"Not counted: a search before that, of {tuning.trials} trials for every configuration "
            f"with anything to search for{each}, and the cells of what it chooses."
        )


def _share_in_words(stage: Mapping[str, Any]) -> str:
    """How many of its parameters a stage trains; nothing where its head is in closed form."""
    trained, whole = stage[TRAINED], stage["parameters"]
    if trained is None or trained == whole:
        return "" if trained is None else f"{trained:,}"
    return f"{trained:,} of {whole:,}"


def _in_words(seconds: float) -> str:
    """A time that is known roughly, in a unit that leaves two or three digits."""
    if seconds < LONG:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 60 * LONG else f"{seconds / 3600:.1f} h"


def _runs_without_rows(planned: Plan) -> Iterator[str]:
    """Says which runs have no test rows in which dataset, once per protocol and dataset."""
    absent: dict[str, None] = {}
    for scoring in planned.scorings:
        runs = [run for run in range(1, planned.benchmark.runs + 1) if run not in scoring.runs]
        if runs:
            named = ", ".join(map(str, runs))
            line = f"n/a: {scoring.protocol.label} has no test rows in {scoring.cell.test_on} in "
            absent[f"{line}run{'s' if len(runs) > 1 else ''} {named}"] = None
    return iter(absent)


def _stage_facts(stage: StageNode, cells: int, count: ParameterCount | None) -> dict[str, Any]:
    return {
        "stage": stage.key,
        "title": stage.title,
        "backbone": stage.model.backbone_ref.label,
        "head": stage.model.head_ref.label,
        "protocol": stage.protocol.label,
        "after": stage.parent.key if stage.parent else "",
        "members": len(stage.members),
        "train rows": f"{stage.rows / len(stage.members):.0f}",
        "epochs": stage.epochs or None,
        "about": _in_words(stage.seconds),
        "cells": cells,
        TRAINED: count.trained if count else None,
        "parameters": count.whole if count else None,
    }
