"""`harness tune`: search for the settings of a benchmark's configurations."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    INTERRUPTED,
    BenchmarkArgument,
    DataOption,
    ExecutorFileOption,
    ExecutorOption,
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

if TYPE_CHECKING:
    from harness.planning.benchmark import Benchmark


def tune(
    benchmark: BenchmarkArgument,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trials per configuration and run, in place of the file's."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which no trial is begun.")
    ] = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Help with a search that another process has begun."),
    ] = False,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    out: OutOption = None,
    overrides: SetOption = None,
    limit: LimitOption = None,
    strict_data: StrictDataOption = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that search; one per CPU core.")
    ] = None,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    executor_file: ExecutorFileOption = None,
    plugin: PluginOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    json: JsonOption = False,
) -> None:
    """Search for better settings, as the table `[tuning]` of a benchmark says.

    Leaves best.toml and trials.csv. Trials that are done are not done again: after a stop, the same
    command goes on. Train and score what was chosen with `harness run`.

    Examples:
        harness tune mine
        harness tune mine --trials 40 --timeout 28800
    """
    from harness import api
    from harness.cli.progress import observer, tell_of_stop
    from harness.training.stop_signal import StopSignal

    options: dict[str, Any] = {
        "out": out,
        "overrides": overrides or (),
        "data_dir": data_dir,
        "weights_dir": weights_dir,
        "limit": limit,
        "strict_data": strict_data,
        "plugins": plugin or (),
        "jobs": jobs or cores(),
        "trials": trials,
        "timeout": timeout,
        "join": join,
        "executor": executor_request(executor, scheduler, workers, executor_file),
    }
    try:
        with observer(quiet or json) as progress:
            stop = StopSignal(notice=tell_of_stop)
            chosen = api.tune(benchmark, observers=progress, stop=stop, **options)
    except KeyboardInterrupt:
        print("\nStopped. Trials that are done are kept: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if chosen is None:
        if not quiet:
            print("Helped. What was chosen is written by the process that began the search.")
    elif not quiet:
        _print_chosen(chosen, json)


def _print_chosen(benchmark: Benchmark, json: bool) -> None:
    from harness.cli.output import print_json, print_table

    best = [chosen for chosen in benchmark.chosen if chosen.rank == 1]
    if json:
        print_json([chosen.model_dump(mode="json") for chosen in best])
        return
    parts = ("backbone", "head", "transfer", "protocol")
    several = [part for part in parts if len({getattr(own, part).label for own in best}) > 1]
    rows = [
        {
            **{part: getattr(chosen, part).label for part in several},
            "train_on": chosen.train_on,
            "run": str(chosen.run),
            "trials": chosen.trials,
            "validation": f"{chosen.score:.3f}",
            "chosen": ", ".join(
                f"{name} {_short(value)}"
                for part in ("backbone", "head", "transfer", "training")
                for name, value in getattr(chosen.setting, part).items()
            ),
        }
        for chosen in best
    ]
    numeric = ("run", "trials", "validation")
    print_table("Best setting of every run", rows, numeric=numeric, prose=("chosen",))
    print("Written to best.toml; `harness run` trains and scores it.")


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
