"""`harness predict`: κ of structures in files."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import BundleOption, DeviceOption, JsonOption, LevelOption, PluginOption

if TYPE_CHECKING:
    import pandas as pd

    from harness.apps.predict.bundle import BundleRecord

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
    bundle: BundleOption,
    output: Annotated[
        Path | None, typer.Option("--to", "-o", help="Write the table: .csv, .json or .parquet.")
    ] = None,
    level: LevelOption = None,
    device: DeviceOption = "cpu",
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Predict κ in W/(m·K) of the structures in files, with an interval and warnings."""
    from harness.apps.predict.bundle import read_record
    from harness.apps.predict.conformal import DEFAULT_LEVEL
    from harness.apps.predict.predicting import predict_files
    from harness.apps.predict.prediction_table import check_writable, write_frame
    from harness.cli.output import print_json

    if output is not None:
        check_writable(output)
    frame = predict_files(files, bundle, level=level, device=device, plugins=plugin or ())
    if output is not None:
        write_frame(frame, output)
    if json:
        print_json(loads(frame.to_json(orient="records", double_precision=15)))
        return
    print_predictions(frame, f"κ in W/(m·K), by {bundle}")
    print(coverage_line(read_record(bundle), DEFAULT_LEVEL if level is None else level))
    if output is not None:
        print(f"Written to {output}: {len(frame)} rows.")


def print_predictions(frame: pd.DataFrame, title: str) -> None:
    """Prints predictions, and how many of the rows are not to be trusted or failed."""
    from harness.cli.output import print_table

    rows = [prediction_row(row) for row in frame.head(SHOWN_ROWS).to_dict("records")]
    print_table(title, rows, numeric=("κ", "std", "interval", "distance"), prose=("remarks",))
    if len(frame) > SHOWN_ROWS:
        print(f"{len(frame) - SHOWN_ROWS} further rows are not shown: write them with -o.")
    failed, warned = int((frame["reason"] != "").sum()), int((frame["warnings"] != "").sum())
    if failed or warned:
        print(f"Rows: {len(frame)}; {warned} with a warning, {failed} could not be predicted.")


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
    return f"The interval is one of {level:.0%}; it has held {', '.join(measured)}."


def prediction_row(row: Any) -> dict[str, Any]:
    """One row as it is printed."""
    if row["reason"]:
        numbers = dict.fromkeys(("κ", "std", "interval", "distance"), "")
    else:
        numbers = {
            "κ": f"{row['kappa_mean']:.3g}",
            "std": f"{row['kappa_std']:.2g}",
            "interval": f"{row['low']:.3g} … {row['high']:.3g}",
            "distance": f"{row['distance']:.2f}",
        }
    trained = "a training row has this formula" if row["in_training"] is True else ""
    remarks = row["reason"] or "; ".join(filter(None, (row["warnings"], trained)))
    formula = row["formula"] if isinstance(row["formula"], str) else ""  # pandas has NaN for None
    return {"id": row["id"], "formula": formula, **numbers, "remarks": remarks}
