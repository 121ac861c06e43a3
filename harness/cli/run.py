"""`harness run`: train and score what a benchmark file asks for."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    FAILED,
    INTERRUPTED,
    BenchmarkArgument,
    DataOption,
    JobsOption,
    JsonOption,
    LimitOption,
    OutOption,
    PluginOption,
    SetOption,
    StrictDataOption,
    WeightsOption,
    cores,
)
from harness.cli.output import say
from harness.errors import FailedCellsWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.planning.plan import Plan, StageNode
    from harness.report.leaderboard import Leaderboard


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
    plugin: PluginOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOption = False,
) -> None:
    """Train and score what a benchmark asks for, and write its tables.

    What is on disk already is not done again: after a stop, the same command goes on. Where a
    part fails, the others go on; the exit status then is 3.
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
        print_plan(api.prepare(benchmark, registry=registry, **options), json=json)
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
                stop=StopSignal(notice=tell_of_stop),
                **options,
            )
    except KeyboardInterrupt:
        print("\nStopped. What is complete is on disk: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if not quiet:
        registry = api.registry_of(benchmark, plugins=plugins)
        print_leaderboard(leaderboard, registry, json=json)
    if not (quiet or json or limit) and (files := api.freezable(benchmark, out)):
        named = f"{benchmark} --out {out}" if out else benchmark
        print(f"Complete: `harness freeze {named}` packs {files} files into few.")
    if leaderboard.failed:
        _tell_failures(leaderboard)
        raise typer.Exit(FAILED)


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


def print_plan(planned: Plan, json: bool) -> None:
    """Prints the graph of stages with sizes and a rough estimate of the time."""
    from harness.cli.output import print_json, print_table
    from harness.planning.plan import one_or_all

    cells_of = Counter(stage.key for scoring in planned.scorings for stage in scoring.stages)
    stages = [_stage_facts(stage, cells_of[stage.key]) for stage in planned.stages]
    seconds = sum(stage.seconds for stage in planned.stages)
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
    same = {part for part in ("backbone", "head") if len({stage[part] for stage in stages}) == 1}
    rows = [
        {
            key: "closed form" if value is None else value
            for key, value in stage.items()
            if key not in same
        }
        for stage in stages
    ]
    print_table(planned.benchmark.title or planned.benchmark.name, rows)
    print(
        f"{len(planned.stages)} stages, {len(planned.scorings)} cells, "
        f"about {seconds / 60:.0f} min on one CPU core"
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
        print(
            f"Not counted: a search before that, of {tuning.trials} trials for every configuration "
            f"with anything to search for{each}, and the cells of what it chooses."
        )


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


def _stage_facts(stage: StageNode, cells: int) -> dict[str, Any]:
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
        "about": f"{stage.seconds / 60:.1f} min",
        "cells": cells,
    }
