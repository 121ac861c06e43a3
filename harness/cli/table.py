"""`harness table`: show the results of a benchmark."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import BenchmarkArgument, JsonOption, OutOption, PluginOption
from harness.errors import BenchmarkError

if TYPE_CHECKING:
    from harness.leaderboard import Leaderboard


def table(
    benchmark: BenchmarkArgument,
    out: OutOption = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric to show; the benchmark's first unless given.")
    ] = None,
    published: Annotated[
        bool, typer.Option(help="Put published cells beside ours, where there are any.")
    ] = True,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Show gains over this baseline, as transfer=baseline; may be repeated."),
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show the table of a benchmark that was run, and write table.md and table.csv again."""
    from harness.api import default_out, published_cells, write_tables
    from harness.cli.output import print_table, records
    from harness.markdown import gain_table
    from harness.published import side_by_side
    from harness.registry import Registry
    from harness.store import Store

    known = published_cells(benchmark)
    registry = Registry(plugin or ())
    board = write_tables(Store(out or default_out(benchmark)), registry, known)
    shown = board.check_metric(metric or board.metrics[0])
    print_board(board, shown, json=json)
    if against and not json:
        gained = board.gains(registry.metrics[shown], _named_baseline(against))
        title = f"{shown}: gain over {', '.join(against)}; positive is better, paired by run"
        print_table(title, records(gain_table(gained, worse="worse")))
    if published and not json and known is not None and (known["metric"] == shown).any():
        beside = side_by_side(board, known, shown)
        print_table(f"{shown}: published | ours", records(beside))


def _named_baseline(against: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in against]
    for column, equals, value in pairs:
        if not equals or not value:
            raise BenchmarkError(
                f"--against {column!r}: expected column=value, as transfer=scratch or "
                "head=nearest together with backbone=composition and transfer=baseline."
            )
    return {column.strip(): value.strip() for column, _, value in pairs}


def print_board(board: Leaderboard, metric: str, json: bool) -> None:
    """Prints the train-on × test-on matrix of a metric, or every number as JSON."""
    from harness.cli.output import print_json, print_table, records

    if json:
        summary = board.summary()
        cells = loads(summary.to_json(orient="records"))
        print_json({"benchmark": board.name, "cells": cells})
        return
    matrix = board.matrix(metric)
    tests = [str(name) for name in matrix if name in set(board.settings["test_on"])]
    title = f"{board.title or board.name}: {metric}, mean (std) over {board.settings['runs']} runs"
    print_table(title, records(matrix), numeric=tests)
