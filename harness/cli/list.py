"""`harness list`: the leaderboards here, and what leads in each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import JsonOption
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.registry.registry import Registry


def list_leaderboards(
    folder: Annotated[
        Path, typer.Argument(help="Folder with leaderboards.", file_okay=False)
    ] = Path("leaderboards"),
    json: JsonOption = False,
) -> None:
    """List leaderboards: how far each is, and which model leads by its first metric.

    The one that leads has the best mean over all test sets; whether it is better than the next is
    for `harness table` to say.

    Examples:
        harness list
        harness list ../theirs --json
    """
    from harness.cli.output import print_json, print_table, say
    from harness.registry.registry import Registry

    registry = Registry()
    places = [place for place in sorted(folder.glob("*/")) if _is_leaderboard(place)]
    rows = [_overview(place, registry) for place in places]
    if json:
        print_json(rows)
        return
    if rows:
        print_table(f"Leaderboards in {folder}", rows, numeric=("cells",), prose=("leads",))
    else:
        say(
            f"No leaderboards in {folder}. `harness init NAME --dataset DATASET` begins one; "
            "`harness run quickstart` shows how it goes, in half a minute."
        )


def _is_leaderboard(folder: Path) -> bool:
    from harness.planning.benchmark import BENCHMARK_FILE
    from harness.results.store import PLAN_FILE

    return any((folder / name).is_file() for name in (BENCHMARK_FILE, PLAN_FILE))


def _overview(folder: Path, registry: Registry) -> dict[str, Any]:
    from harness.api import open_leaderboard
    from harness.report.overview import find_leader, tell_state
    from harness.results.store import PLAN_FILE

    row: dict[str, Any] = {"name": folder.name, "state": "not run", "cells": "", "leads": ""}
    if not (folder / PLAN_FILE).is_file():
        return row
    try:
        leaderboard = open_leaderboard(folder)
        metrics = registry.metrics_of(leaderboard.property_name)
        leader = find_leader(leaderboard, metrics[leaderboard.metrics[0]])
        state = tell_state(leaderboard)
    except HarnessError as problem:  # of one leaderboard; the others are shown
        return {**row, "state": "unreadable", "leads": str(problem)}
    told = leader.told(leaderboard) if leader else ""
    return {**row, "state": state, "cells": len(leaderboard.cells), "leads": told}
