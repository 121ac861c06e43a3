"""`harness table`: show the results of a benchmark."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import BenchmarkArgument, JsonOption, OutOption

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
    json: JsonOption = False,
) -> None:
    """Show the table of a benchmark that was run, and write table.md and table.csv again."""
    from harness.api import default_out, published_cells, write_tables
    from harness.cli.output import print_table, records
    from harness.published import side_by_side
    from harness.registry import Registry
    from harness.store import Store

    known = published_cells(benchmark)
    board = write_tables(Store(out or default_out(benchmark)), Registry(), known)
    shown = board.check_metric(metric or board.metrics[0])
    print_board(board, shown, json=json)
    if published and not json and known is not None and (known["metric"] == shown).any():
        beside = side_by_side(board, known, shown)
        print_table(f"{shown}: published | ours", records(beside))


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
