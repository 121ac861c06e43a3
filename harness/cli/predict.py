"""`harness predict`: properties of structures in files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.default_bundle import bundles_or_default, tell_default
from harness.cli.options import (
    BundlesOption,
    DeviceOption,
    ExecutorFileOption,
    ExecutorOption,
    JsonOption,
    LevelOption,
    PluginOption,
    PropertyOption,
    SchedulerOption,
    WeightsOption,
    WorkersOption,
    executor_request,
)
from harness.cli.output import say

if TYPE_CHECKING:
    import pandas as pd

    from harness.apps.predict.bundle import BundleRecord
    from harness.apps.predict.prediction_table import BundleColumns

CENTRE = "centre"
CENTRE_TOLD = (
    "On a logarithmic scale an interval is put around the geometric mean of the runs, the centre; "
    "the value beside it is their mean."
)

SHOWN_ROWS = 100
"""Rows that are printed; a file has them all."""


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES…",
            help="CIF, POSCAR, JSON lines, extended XYZ, ASE databases, or folders of them.",
            show_default=False,
        ),
    ],
    bundle: BundlesOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--to", "-o", metavar="FILE", help="Write the table: .csv, .json or .parquet."
        ),
    ] = None,
    property_name: PropertyOption = None,
    level: LevelOption = None,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    executor_file: ExecutorFileOption = None,
    device: DeviceOption = "cpu",
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Predict properties of the structures in files, with intervals and warnings.

    Without --bundle the default one answers: that which comes with the harness, until you make or
    choose another, see `harness bundle`.

    Each bundle predicts the property it was trained on, as κ in W/(m·K). Several bundles make one
    table: the columns of one begin with what its property is called, as kappa_mean and kappa_low;
    where two predict one property, with NAME (that of the folder unless given) before that.

    Examples:
        harness predict my.cif
        harness predict crystals/ -b kappa -b gap=band-gaps -o table.csv
    """
    from harness.apps.predict import predicting
    from harness.apps.predict.bundle import read_record
    from harness.apps.predict.bundle_set import name_folders
    from harness.apps.predict.conformal import DEFAULT_LEVEL
    from harness.apps.predict.prediction_table import check_writable, write_frame
    from harness.cli.output import print_json
    from harness.cli.progress import ExecutorTitle

    if output is not None:
        check_writable(output)
    level = DEFAULT_LEVEL if level is None else level
    with bundles_or_default(bundle) as named:
        frame = predicting.predict_files(
            files,
            named,
            properties=property_name or (),
            level=level,
            device=device,
            weights_dir=weights_dir,
            plugins=plugin or (),
            executor=executor_request(executor, scheduler, workers, executor_file),
            observers=(ExecutorTitle(),),
        )
        layout = predicting.layout_of(named, plugin or ())
        records = [read_record(folder) for _, folder in name_folders(named)]
    if output is not None:
        write_frame(frame, output)
    if not bundle:
        tell_default(records[0], to_errors=json)
    if json:
        print_json(loads(frame.to_json(orient="records", double_precision=15)))
        return
    predicted = ", ".join(one.label_and_unit for one in layout)
    title = f"{predicted}, by {', '.join(bundle)}" if bundle else predicted
    print_predictions(frame, title, layout)
    for one, record in zip(layout, records, strict=True):
        label = "" if one.alone else f"{one.label}: "
        say(label + coverage_line(record, level))
    if any(one.spec.is_log for one in layout):
        say(CENTRE_TOLD)
    if output is not None:
        say(f"Written to {output}: {len(frame)} rows.")


def print_predictions(frame: pd.DataFrame, title: str, layout: Sequence[BundleColumns]) -> None:
    """Prints predictions, and how many of the rows are not to be trusted or failed."""
    from harness.cli.output import print_table, records

    rows = [prediction_row(row, layout) for row in records(frame.head(SHOWN_ROWS))]
    numeric = [name for name in (rows[0] if rows else ()) if name not in TEXTS]
    print_table(title, rows, numeric=numeric, prose=("remarks",))
    if len(frame) > SHOWN_ROWS:
        say(f"{len(frame) - SHOWN_ROWS} further rows are not shown: write them with -o.")
    for one in layout:
        failed = int((frame[one.column("reason")] != "").sum())
        warned = int((frame[one.column("warnings")] != "").sum())
        if failed or warned:
            label = "" if one.alone else f"{one.label}: "
            say(
                f"{label}Rows: {len(frame)}; {warned} with a warning, "
                f"{failed} could not be predicted."
            )


def coverage_line(record: BundleRecord, level: float) -> str:
    """Says what the interval has held on test rows, where that was measured."""
    measured = [
        f"{share:.0%} of the test rows of {one.cell['test_on']}"
        for one in record.cells
        if (share := one.coverage.get(f"{level:g}")) is not None
    ]
    if not measured:
        return (
            f"The interval is one of {level:.0%}; `harness bundle show` says what others covered."
        )
    return (
        f"The interval is one of {level:.0%}; it has held {', '.join(measured)}. "
        "Of other kinds of crystals it may hold far fewer."
    )


TEXTS = ("id", "formula", "remarks")
"""Columns of `prediction_row` that are no numbers."""


def prediction_row(row: Mapping[str, Any], layout: Sequence[BundleColumns]) -> dict[str, Any]:
    """One row as it is printed: of one bundle in full, of several values and intervals."""
    numbers: dict[str, str] = {}
    for one in layout:
        interval = f"{_digits(row, one, 'low')} … {_digits(row, one, 'high')}".strip(" …")
        numbers[one.label] = _digits(row, one, f"{one.spec.column}_mean")
        if one.alone:
            numbers["std"] = _digits(row, one, f"{one.spec.column}_std", ".2g")
        numbers["interval" if one.alone else f"{one.label} interval"] = interval
        if one.alone and f"{one.spec.column}_geometric" in row:  # candidates of a scan have it not
            numbers[CENTRE] = _digits(row, one, f"{one.spec.column}_geometric")
        if one.alone and "distance" in row:
            numbers["distance"] = _digits(row, one, "distance", ".2f")
    formula = row["formula"] if isinstance(row["formula"], str) else ""  # pandas has NaN for None
    shown = _conventional(formula)
    return {"id": row["id"], "formula": shown, **numbers, "remarks": _remarks(row, layout)}


def _conventional(formula: str) -> str:
    """A reduced formula as chemists write it, as K2PdBr4; elements of tables are sorted by name."""
    from pymatgen.core import Composition

    try:
        return str(Composition(formula).reduced_formula) if formula else ""
    except ValueError:  # a symbol that pymatgen does not know
        return formula


def _digits(row: Mapping[str, Any], one: BundleColumns, name: str, form: str = ".3g") -> str:
    """A number of a bundle; nothing where there is none."""
    value = row[one.column(name)]
    return "" if value is None or math.isnan(value) else format(value, form)


def _remarks(row: Mapping[str, Any], layout: Sequence[BundleColumns]) -> str:
    """Why predictions are missing or not to be trusted; once where all bundles say the same."""
    found: dict[str, list[str]] = {}
    for one in layout:
        texts = [row.get(one.column("reason")) or ""]
        if not texts[0]:
            trained = "a training row has this formula"
            texts = str(row[one.column("warnings")]).split("; ")
            texts += [trained] if row[one.column("in_training")] is True else []
        for text in filter(None, texts):
            found.setdefault(text, []).append(one.label)
    return "; ".join(
        text if len(labels) == len(layout) else f"{', '.join(labels)}: {text}"
        for text, labels in found.items()
    )
