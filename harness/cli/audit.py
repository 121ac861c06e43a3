"""`harness audit`: what the data of a benchmark holds and shares, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    BenchmarkArgument,
    DataOption,
    JsonOption,
    PluginOption,
    SetOption,
    WeightsOption,
)
from harness.errors import HarnessError

if TYPE_CHECKING:
    import pandas as pd

    from harness.check.audit import Audit

CONFIGURATION = ["backbone", "head", "transfer", "protocol", "train_on"]


def audit(
    benchmark: BenchmarkArgument,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            metavar="FOLDER",
            help="Folder to write to; `audit` beside the results unless given.",
        ),
    ] = None,
    overrides: SetOption = None,
    row: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Of results: what the row of this id was used for."),
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a benchmark's data holds and shares, or what the rows of results were used for.

    Of a benchmark.toml, before anything is trained: sizes, polymorph twins, overlaps by id,
    formula, structure and near structure, what pretrained weights have seen, and the test rows left
    to each cell. Writes CSV files and a heat map. Of a folder with results: the role ledger, cell
    by cell.

    Examples:
        harness audit mine
        harness audit leaderboards/mine --row mp-149
    """
    from harness.results.store import PLAN_FILE

    if (Path(benchmark) / PLAN_FILE).is_file():
        _audit_results(Path(benchmark), row, json=json)
        return
    if row is not None:
        raise HarnessError(
            f"--row {row} asks what a row was used for, and {benchmark} holds no results "
            f"(no {PLAN_FILE}). Give the folder that `harness run` wrote its results to."
        )
    from harness import api
    from harness.check.audit import audit_benchmark

    planned = api.prepare(
        benchmark,
        overrides=overrides or (),
        data_dir=data_dir,
        weights_dir=weights_dir,
        registry=api.registry_of(benchmark, plugins=plugin or (), run=True),
    )
    findings = audit_benchmark(planned)
    folder = to or api.default_out(benchmark) / "audit"
    paths = findings.write(folder)
    print_audit(findings, json=json)
    if not json:
        print(f"Written to {folder}: {', '.join(path.name for path in paths)}")


def print_audit(findings: Audit, json: bool) -> None:
    """Prints every finding as tables, or as one JSON document."""
    from harness.check.audit import LEVELS
    from harness.check.structure_comparison import TOLERANCES
    from harness.cli.output import print_json, print_table, records

    if json:
        frames = ("datasets", "overlap", "weights", "cells")
        print_json({name: records(getattr(findings, name)) for name in frames})
        return
    _print_datasets(findings)
    for level in LEVELS:
        table = _overlap_table(findings, level)
        names = [str(name) for name in table.columns]
        print_table(f"Rows with a counterpart in …, by {level}", records(table), names[1:])
    print(
        "Of a dataset with itself: rows that another row is a counterpart of. Ids are compared as\n"
        "written, so datasets that name their rows by different schemes have none in common.\n"
        f"Structures, compared where formulas agree: {TOLERANCES}.\n"
        "Near structures, compared where at most one atom in eight is of another element: the\n"
        "same once elements are forgotten, as a supercell in which an atom was replaced.\n"
    )
    _print_weights(findings)
    table = _cells_table(findings.cells)
    tests = [str(name) for name in table.columns if name not in CONFIGURATION]
    title = "Test rows, mean over runs; → overlap-free, where some are lost"
    print_table(title, records(table), tests)


def _print_datasets(findings: Audit) -> None:
    from harness.cli.output import print_table, records

    found = records(findings.datasets)
    quantities = dict.fromkeys((row["symbol"], row["unit"]) for row in found)
    mixed = len(quantities) > 1
    title = f"{findings.title}: datasets"
    if not mixed:
        ((symbol, unit),) = quantities
        title += f", {symbol} in {unit}" if unit else f", {symbol}"
    rows = [_dataset_row(row, mixed) for row in found]
    numeric = [name for name in rows[0] if name not in ("dataset", "of", "unit")]
    print_table(title, rows, numeric=numeric)
    print("Twins: rows whose formula another row of the dataset has (polymorphs, mostly).\n")


def _dataset_row(row: Mapping[str, Any], mixed: bool) -> dict[str, Any]:
    """A dataset as it is printed: where several properties are, with symbol and unit of its own."""
    of, unit = ({"of": row["symbol"]}, {"unit": row["unit"]}) if mixed else ({}, {})
    symbol = "" if mixed else f"{row['symbol']} "
    return {
        "dataset": row["dataset"],
        **of,
        **{name: row[name] for name in ("rows", "formulas", "twins")},
        f"{symbol}min": f"{row['min']:.3g}",
        f"{symbol}median": f"{row['median']:.3g}",
        f"{symbol}max": f"{row['max']:.4g}",
        **unit,
        **{name: row[name] for name in ("elements", "unusable")},
    }


def _print_weights(findings: Audit) -> None:
    from harness.cli.output import print_table, records

    if findings.weights.empty:
        print("Pretrained weights: none are used.\n")
        return
    keys = ["backbone", "transfer", "weights", "seen"]
    grouped = findings.weights.groupby(keys, sort=False)["train_on"].agg(", ".join)
    table = grouped.reset_index()[["backbone", "transfer", "train_on", "weights", "seen"]]
    print_table("Pretrained weights and the data they have seen", records(table))


def _overlap_table(findings: Audit, level: str) -> pd.DataFrame:
    from harness.drawing.heat_map import format_share

    counts = findings.matrix(level).astype(str)
    table = counts + " (" + findings.matrix(level, "share").map(format_share) + ")"
    return table.rename_axis(columns=None).reset_index()


def _cells_table(cells: pd.DataFrame) -> pd.DataFrame:
    """One line per configuration; without backbone and head where the counts do not need them."""
    import pandas as pd

    free = cells["n_overlap_free"].map(" → {:.1f}".format)
    entries = cells["n_all"].map("{:.1f}".format) + free.where(cells["lost"] > 0, "")
    wide = cells.assign(entry=entries).pivot(index=CONFIGURATION, columns="test_on", values="entry")
    in_order = pd.MultiIndex.from_frame(cells[CONFIGURATION].drop_duplicates())
    wide = wide.reindex(in_order)[list(dict.fromkeys(cells["test_on"]))]
    wide = wide.rename_axis(columns=None).reset_index()
    short = wide.drop(columns=["backbone", "head"]).drop_duplicates()
    return wide if short.duplicated(CONFIGURATION[2:]).any() else short


def _audit_results(folder: Path, row: str | None, json: bool) -> None:
    from harness.cli.output import print_json, print_table, records
    from harness.results.role_report import role_counts, roles_of_row
    from harness.results.store import Store

    store = Store(folder)
    found = role_counts(store) if row is None else roles_of_row(store, row)
    if json:
        print_json(records(found))
    elif row is None:
        print_table(f"{folder}: rows per run by role", records(found.round(1)))
        double = int(found.filter(like="test and ").to_numpy().sum())
        print(f"{double} test rows, summed over cells and runs, have another role too.")
    else:
        print_table(f"{folder}: the row {row}", records(found))
