"""`harness list`: the leaderboards here, and what came out of each."""

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
    """List leaderboards: how far each is, and what came out by its first metric.

    What came out is the `finding` of the benchmark file, or is derived from the statistics.
    Leaderboards come by the `order` in their files, then by name. With `--json`, `leads` is the
    model with the best mean over all test sets.

    Examples:
        harness list
        harness list ../theirs --json
    """
    from harness.cli.output import print_json, print_table, say
    from harness.registry.registry import Registry
    from harness.report.overview import by_order

    registry = Registry()
    places = [place for place in sorted(folder.glob("*/")) if _is_leaderboard(place)]
    found = (_overview(place, registry) for place in places)
    rows = sorted(found, key=lambda row: by_order(row["order"], row["name"]))
    if json:
        print_json(rows)
        return
    if rows:
        shown, prose = [_shown(row) for row in rows], ("what came out",)
        print_table(f"Leaderboards in {folder}", shown, numeric=("cells",), prose=prose)
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
    from harness.report.findings import finding_lines
    from harness.report.overview import find_leader, tell_state
    from harness.results.store import PLAN_FILE

    nothing = {"leads": "", "finding": "", "order": None}
    row: dict[str, Any] = {"name": folder.name, "state": "not run", "cells": "", **nothing}
    if not (folder / PLAN_FILE).is_file():
        return row
    try:
        leaderboard = open_leaderboard(folder)
        metric = registry.metrics_of(leaderboard.property_name)[leaderboard.metrics[0]]
        leader = None if leaderboard.leaky else find_leader(leaderboard, metric)
        state, finding = tell_state(leaderboard), " ".join(finding_lines(leaderboard, metric))
    except HarnessError as problem:  # of one leaderboard; the others are shown
        return {**row, "state": "unreadable", "leads": str(problem), "finding": str(problem)}
    return {
        **row,
        "state": state,
        "cells": len(leaderboard.cells),
        "leads": leader.told(leaderboard) if leader else "",
        "finding": finding,
        "order": leaderboard.order,
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table: of what came out, the most that is known."""
    told = row["finding"] or row["leads"]
    return {**{name: row[name] for name in ("name", "state", "cells")}, "what came out": told}
