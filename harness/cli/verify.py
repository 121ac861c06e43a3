"""`harness verify`: every number of a leaderboard again, from the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    BenchmarkArgument,
    DataOption,
    JsonOption,
    OutOption,
    PluginOption,
    WeightsOption,
)
from harness.cli.output import say
from harness.cli.plugin_guard import answer_stream

if TYPE_CHECKING:
    from harness.check.verification import Verification

DIFFERENCES_FOUND = 1

DeepOption = Annotated[
    bool,
    typer.Option("--deep", help="Also predict again from the weights that are kept, and compare."),
]
RetrainOption = Annotated[
    int,
    typer.Option(
        "--retrain", metavar="N", min=0, help="Also train N stages again, chosen at random."
    ),
]


def verify(
    leaderboard: BenchmarkArgument,
    out: OutOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    deep: DeepOption = False,
    retrain: RetrainOption = 0,
    json: JsonOption = False,
) -> None:
    """Recompute every number of a leaderboard from its rows; check digests and the ledger.

    Exits with status 1 and a list where anything differs. What needs data or weights that are not
    on this machine is named as unchecked. A results folder without a benchmark.toml will do.

    Scores prove no more than that they follow from the predictions. --deep asks whether these
    follow from the weights, --retrain whether the weights follow from the data.

    Examples:
        harness verify strict
        harness verify mine --deep --retrain 2
    """
    from harness import api

    found = api.verify(
        leaderboard,
        out=out,
        data_dir=data_dir,
        weights_dir=weights_dir,
        plugins=plugin or (),
        deep=deep,
        retrain=retrain,
    )
    report(found, json=json)


def report(found: Verification, json: bool) -> None:
    """Prints what a verification found; ends with status 1 where anything differs."""
    from harness.check.verification import as_json

    if json:
        print(as_json(found), file=answer_stream())
    else:
        print("checked: " + ", ".join(f"{n} {what}" for what, n in found.checked.items()))
        for line in (*found.unchecked, *found.not_kept):
            say(f"unchecked: {line}")
        for line in found.differences:
            say(f"DIFFERS: {line}")
        if found.level:
            say(f"made again: {found.level}")
        say(found.verdict)
    if found.differences:
        raise typer.Exit(DIFFERENCES_FOUND)
