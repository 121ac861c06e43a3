"""`harness export` and `harness bundle`: trained ensembles on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.help import Commands
from harness.cli.options import (
    DataOption,
    JsonOption,
    OutOption,
    PluginOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from harness.apps.predict.bundle import BundleRecord

bundle = Commands(help="Show trained ensembles on disk.")


def export(
    leaderboard: Annotated[
        str,
        typer.Argument(
            metavar="LEADERBOARD",
            help="A benchmark that was run: its name, file or folder.",
            show_default=False,
        ),
    ],
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL",
            help="Which ensemble, as transfer=pretrained,train_on=Dataset1.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Option("--to", "-o", metavar="FOLDER", help="Folder to write.")],
    out: OutOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write the trained ensemble behind a cell as a bundle, ready to predict.

    Examples:
        harness export mine transfer=pretrained,train_on=MIX -o kappa
        harness export mine head=gp -o kappa-gp --data-dir data
    """
    from harness.apps.predict import predicting

    record = predicting.export(
        leaderboard,
        cell,
        folder,
        out=out,
        data_dir=data_dir,
        weights_dir=weights_dir,
        plugins=plugin or (),
    )
    print_record(record, str(folder), json=json)


@bundle.command()
def show(
    folder: Annotated[Path, typer.Argument(help="A bundle.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Show what a bundle was trained on, how it scored, and what its interval covers.

    Examples:
        harness bundle show kappa
        harness bundle show kappa --json
    """
    from harness.apps.predict.bundle import read_record

    print_record(read_record(folder), str(folder), json=json)


def print_record(record: BundleRecord, folder: str, json: bool) -> None:
    """Prints what is known about a bundle."""
    from harness.cli.output import print_json, print_table
    from harness.plugin.cell import DEFAULT

    if json:
        told = {"property_name": record.property_name, "digest": record.digest}
        print_json({**record.model_dump(mode="json"), **told})
        return
    facts = [{"": name, " ": value} for name, value in _facts(record).items()]
    print_table(f"Bundle {folder}", facts, prose=(" ",))
    models = _models(record)
    if len(models[0]) > 1:  # not the run alone
        print_table("Models, and the settings in which they differ", models, list(models[0]))
    scores = [_scores(one) for one in record.cells]
    print_table("Scores, mean (std) over runs", scores, numeric=list(scores[0])[1:])
    searched = record.cells[0].cell["tuning"] != DEFAULT
    covered = [_coverage(one) for one in record.cells]
    print_table("Share of test rows in the interval, by level", covered, list(covered[0])[1:])
    print(
        f"Calibrated on {record.calibration_rows} validation rows, each by the run whose epoch "
        f"{'and settings ' if searched else ''}it chose;\nmeasured on each run's own test rows."
    )
    for one in record.cells:
        if not one.independent:
            print(f"{one.cell['test_on']}: test rows are among those that chose.")


def _facts(record: BundleRecord) -> dict[str, Any]:
    one = record.cells[0].cell
    data = (f"{name} ({rows} rows)" for name, (_, rows) in record.datasets.items())
    parts = [part for stack in record.stacks for part in (stack.backbone, stack.head)]
    cutoffs = [stack.cutoff_angstrom for stack in record.stacks]
    return {
        "leaderboard": record.leaderboard,
        **{column: value for column, value in one.items() if column != "test_on" and value},
        "stages": _each(" → ".join(stack.chain) for stack in record.stacks),
        "datasets": ", ".join(data),
        "runs": len(record.runs),
        "models": sum(len(stack.runs) for stack in record.stacks),
        "property": record.property_name,
        "unit": record.unit,
        "elements": f"{len(record.elements)}: {' '.join(record.elements)}",
        "formulas": f"{len(record.formulas)}, sha256 {record.formulas_sha256[:16]}",
        "cutoff": _each(f"{cutoff:g} Å" if cutoff else "sees no bonds" for cutoff in cutoffs),
        "plugins": _each(f"{part.plugin} ({part.version})" for part in parts),
        "harness": record.harness,
        "digest": record.digest,
    }


def _each(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _models(record: BundleRecord) -> list[dict[str, str]]:
    """One line per model: the run it is for, and the settings in which models differ."""
    lines = []
    for stack in record.stacks:
        parts = (stack.backbone, stack.head)
        shape = {f"{p.name} {key}": value for p in parts for key, value in p.settings.items()}
        for run, training in zip(stack.runs, stack.training, strict=True):
            lines.append({"run": run, **shape, **(training or {})})
    columns = dict.fromkeys(column for line in lines for column in line)
    varying = [name for name in columns if len({str(line.get(name)) for line in lines}) > 1]
    ordered = sorted(lines, key=lambda line: line["run"])
    return [{column: _setting(line.get(column)) for column in varying} for line in ordered]


def _setting(value: Any) -> str:
    if value is None:  # a setting that is not mentioned where it is off
        return "—"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _scores(one: Any) -> dict[str, Any]:
    def text(mean: float | None, std: float | None) -> str:
        spread = "" if std is None else f" ({std:.2f})"
        return "failed" if mean is None else f"{mean:.2f}{spread}"

    metrics = {name: text(*numbers) for name, numbers in one.metrics.items()}
    return {"tested on": one.cell["test_on"], "rows": one.rows, **metrics}


def _coverage(one: Any) -> dict[str, Any]:
    shares = {
        f"{float(level):.0%}": "—" if share is None else f"{share:.0%}"
        for level, share in one.coverage.items()
    }
    return {"tested on": one.cell["test_on"], **shares}
