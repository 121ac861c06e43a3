"""`harness compare`: two leaderboards, or two configurations, cell by cell and run by run."""

from __future__ import annotations

from json import loads
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import JsonOption, PluginOption, SubsetOption, values_of
from harness.cli.output import say
from harness.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.comparison import Comparison


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A benchmark.toml, its folder, or a name.", show_default=False
        ),
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Another, or the same.", show_default=False)
    ],
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="Metric to compare; A's first unless given.")
    ] = None,
    only_a: Annotated[
        list[str] | None,
        typer.Option(
            "--a",
            metavar="COLUMN=VALUE",
            help="Of A only cells with column=value, or of the model of this label; may be "
            "repeated.",
        ),
    ] = None,
    only_b: Annotated[
        list[str] | None,
        typer.Option(
            "--b",
            metavar="COLUMN=VALUE",
            help="Of B only cells with column=value, or of the model of this label; may be "
            "repeated.",
        ),
    ] = None,
    subset: SubsetOption = "all",
    digits: Annotated[int, typer.Option(min=0, max=9, help="After the decimal point.")] = 3,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the cells that two leaderboards have in common, paired by run.

    Per cell: the difference, its 95 % interval, p by the corrected resampled t-test, with and
    without Holm's correction, and the runs that disagree with the mean. With --a and --b two
    configurations are compared: columns named there are not matched.

    Examples:
        harness compare strict tuned
        harness compare strict strict --a transfer=scratch --b transfer=pretrained
    """
    from harness import api
    from harness.cli.output import print_json, print_table, records
    from harness.report.comparison import comparison_table

    found = api.compare(
        a,
        b,
        metric=metric,
        only_a=_one_each(only_a),
        only_b=_one_each(only_b),
        subset=subset,
        registry=api.registry_of(a, b, plugins=plugin or ()),
    )
    if json:
        cells = loads(found.cells.to_json(orient="records"))
        content = {
            "metric": found.metric,
            "family": found.family,
            "settings": found.settings,
            "cells": cells,
        }
        print_json({**content, "only_a": found.only_a, "only_b": found.only_b})
        return
    title = f"{found.metric}: a is {found.names[0]}, b is {found.names[1]}; positive: b is better"
    numeric = ["a", "b", "b better by", "95 % interval", "p", "p, Holm", "runs a : b"]
    print_table(title, records(comparison_table(found, digits)), numeric, ("against", "note"))
    for key, (ours, theirs) in found.settings.items():
        say(f"They differ in {key}: {ours} | {theirs}")
    say(_summary(found))


def _one_each(texts: Sequence[str] | None) -> dict[str, str]:
    """Reads conditions by column, or the label of a configuration."""
    labelled = [text if "=" in text else f"model={text}" for text in texts or ()]
    values = values_of(labelled)
    for column, several in values.items():
        if len(several) > 1:
            raise BenchmarkError(f"A side has one {column}, not {' and '.join(several)}.")
    return {column: value for column, (value,) in values.items()}


def _summary(found: Comparison) -> str:
    from harness.scoring.statistics import SIGNIFICANT

    stand = int((found.cells["p_holm"] < SIGNIFICANT).sum())
    tested = int(found.cells["p"].notna().sum())
    return (
        f"{len(found.cells)} cells in common, {tested} tested; {stand} differ at 5 % after Holm's "
        f"correction over {_tests(found)} ({found.family}). Only in a: {found.only_a}, only in b: "
        f"{found.only_b}."
    )


def _tests(found: Comparison) -> str:
    """How many tests the families have: one where a difference counts as one more of them."""
    counts = sorted({*found.cells["tests"][found.cells["p"].notna()]})
    return f"{' or '.join(map(str, counts)) or 'no'} tests"
