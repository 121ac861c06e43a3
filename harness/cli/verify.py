"""`harness verify`: every number of a leaderboard again, from the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from harness.check.verification import Verification

DIFFERENCES_FOUND = 1


def verify(
    leaderboard: BenchmarkArgument,
    out: OutOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Recompute every number of a leaderboard from its rows; check digests and the ledger.

    Exits with status 1 and a list where anything differs. What needs data or weights that are not
    on this machine is named as unchecked. A results folder without a benchmark.toml will do.
    """
    from harness import api

    found = api.verify(
        leaderboard, out=out, data_dir=data_dir, weights_dir=weights_dir, plugins=plugin or ()
    )
    report(found, json=json)


def report(found: Verification, json: bool) -> None:
    """Prints what a verification found; ends with status 1 where anything differs."""
    from harness.check.verification import as_json

    if json:
        print(as_json(found))
    else:
        print("checked: " + ", ".join(f"{n} {what}" for what, n in found.checked.items()))
        for line in (*found.unchecked, *found.not_kept):
            say(f"unchecked: {line}")
        for line in found.differences:
            say(f"DIFFERS: {line}")
        say(found.verdict)
    if found.differences:
        raise typer.Exit(DIFFERENCES_FOUND)
