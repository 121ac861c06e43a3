"""`harness table`: show the results of a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    BenchmarkArgument,
    ColumnsOption,
    JsonOption,
    OnlyOption,
    OutOption,
    PluginOption,
    RowsOption,
    SubsetOption,
    columns_of,
    values_of,
)
from harness.errors import BenchmarkError

if TYPE_CHECKING:
    from harness.registry.registry import Registry
    from harness.report.leaderboard import Leaderboard
    from harness.report.pivot import Layout, Pivot
    from harness.report.tables import Wording

GAIN_NUMBERS = ("gain", "95 % interval", "p", "p, Holm")
"""Columns of `gain_table` that are numbers."""


def table(
    benchmark: BenchmarkArgument,
    out: OutOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Metric to show, the benchmark's first unless given; may be repeated.",
        ),
    ] = None,
    rows: RowsOption = "",
    columns: ColumnsOption = "test-on",
    only: OnlyOption = None,
    subset: SubsetOption = "all",
    digits: Annotated[int, typer.Option(min=0, max=9, help="After the decimal point.")] = 2,
    with_n: Annotated[bool, typer.Option("--n", help="Show test rows per run.")] = False,
    interval: Annotated[
        bool, typer.Option("--interval", help="Show the 95 % interval of the mean over runs.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORM",
            help="markdown, csv, csv-long, latex or html, in place of text.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            metavar="FILE",
            help="File to write instead; its suffix (.md .csv .tex .html) names a form.",
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option(help="Put published cells beside ours, where there are any.")
    ] = True,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Show gains over this baseline, as transfer=baseline; may be repeated.",
        ),
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show the table of a benchmark that was run; table.md and table.csv are kept up to date.

    Any column of the cells can stand in rows or columns: backbone, head, transfer, protocol,
    train-on, test-on, and metric. One that varies and is not named is added to the rows. In text,
    `*` is the best mean of its train-on → test-on, and `?` what the paired test does not tell from
    it: undecided, which is not as good.

    Examples:
        harness table strict
        harness table strict --only transfer=two-stage --against transfer=scratch
    """
    from harness.api import read_leaderboard, registry_of
    from harness.report.pivot import Layout, pivot
    from harness.report.tables import Wording

    registry = registry_of(benchmark, plugins=plugin or ())
    leaderboard = read_leaderboard(benchmark, registry, out)
    layout = Layout(
        columns_of(rows), columns_of(columns), tuple(metric or ()), values_of(only), subset
    )
    made = pivot(leaderboard, registry.metrics_of(leaderboard.property_name), layout)
    wording = Wording(digits, with_n, interval)
    if form or to:
        return _write(made, wording, form, to)
    print_leaderboard(leaderboard, registry, layout, wording, json=json)
    for shown in () if json else made.layout.metrics:
        if against:
            _print_gains(leaderboard, registry, layout, shown, against)
        if published:
            _print_published(benchmark, leaderboard, shown)


def _write(made: Pivot, wording: Wording, form: str | None, to: Path | None) -> None:
    from harness.files import replacing
    from harness.report.tables import SUFFIXES, render

    if form is None and to is not None and to.suffix not in SUFFIXES:
        raise BenchmarkError(
            f"--to {to}: no form of table has the suffix {to.suffix!r}. "
            f"Known: {', '.join(SUFFIXES)}; or name a form with --format."
        )
    text = render(made, form or SUFFIXES[to.suffix if to else ".md"], wording)
    if to is None:
        print(text, end="")
        return
    with replacing(to) as staging:
        staging.write_text(text, encoding="utf-8")
    print(f"Written: {to}")


def _print_gains(
    leaderboard: Leaderboard,
    registry: Registry,
    layout: Layout,
    metric: str,
    against: Sequence[str],
) -> None:
    from harness.cli.output import print_table, records, say
    from harness.planning.selectors import expand_only
    from harness.report.differences import Differences
    from harness.report.markdown import gain_table

    baseline = leaderboard.find_baseline(_named_baseline(against))
    spec = registry.metrics_of(leaderboard.property_name)[metric]
    differences = Differences(leaderboard, spec, layout.subset)
    only = expand_only(layout.only, leaderboard.cells)
    gained = differences.gains(baseline, only=only)
    title = f"{metric}: gain over {', '.join(against)}; positive is better, paired by run"
    print_table(title, records(gain_table(gained, worse="worse")), GAIN_NUMBERS, ("verdict",))
    say(
        f"Holm's correction is over the {differences.family} of the leaderboard by {metric}, and "
        "any other difference as one more."
    )


def _print_published(benchmark: str, leaderboard: Leaderboard, metric: str) -> None:
    from harness.api import published_cells
    from harness.cli.output import print_table, records, say
    from harness.report.published import agreement_text, beside_published, side_by_side

    known = published_cells(benchmark)
    if known is not None and (known["metric"] == metric).any():
        print_table(
            f"{metric}: published | ours", records(side_by_side(leaderboard, known, metric))
        )
        cells = beside_published(leaderboard, known, metric)
        for protocol in cells[0].ours if cells else ():
            say(agreement_text(cells, protocol))


def _named_baseline(against: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in against]
    for column, equals, value in pairs:
        if not equals or not value:
            raise BenchmarkError(
                f"--against {column!r}: expected column=value, as transfer=scratch or "
                "head=nearest together with backbone=composition and transfer=baseline."
            )
    return {column.strip().replace("-", "_"): value.strip() for column, _, value in pairs}


def print_leaderboard(
    leaderboard: Leaderboard,
    registry: Registry,
    layout: Layout | None = None,
    wording: Wording | None = None,
    *,
    json: bool = False,
) -> None:
    """Prints a table of a leaderboard, or every number as JSON."""
    from harness.cli.output import print_json, print_pivot, say
    from harness.report.findings import finding_lines
    from harness.report.markdown import unusable_line
    from harness.report.pivot import pivot
    from harness.report.tables import Wording

    metrics = registry.metrics_of(leaderboard.property_name)
    if json:
        summary = leaderboard.summary()
        cells = loads(summary.to_json(orient="records"))
        failed = [
            {**dict(zip(leaderboard.identity, name, strict=True)), "reason": reason}
            for name, reason in leaderboard.failed.items()
        ]
        found = {"benchmark": leaderboard.name, "cells": cells}
        print_json({**found, "failed": failed} if failed else found)
        return
    for line in finding_lines(leaderboard, metrics[leaderboard.metrics[0]]):
        say(line)
    print_pivot(pivot(leaderboard, metrics, layout), wording or Wording())
    if line := unusable_line(leaderboard):
        say(line)
