"""`harness export` and `harness bundle`: trained ensembles on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.default_bundle import bundles_or_default, tell_default
from harness.cli.help import Commands
from harness.cli.options import (
    INTERRUPTED,
    DataOption,
    JobsOption,
    JsonOption,
    OutOption,
    PluginOption,
    WeightsOption,
    cores,
)

if TYPE_CHECKING:
    from harness.apps.predict.bundle import BundleRecord

bundle = Commands(help="Make and show trained ensembles on disk, and choose the default one.")


def export(
    leaderboard: Annotated[
        str,
        typer.Argument(
            metavar="LEADERBOARD",
            help="A benchmark that was run: its name, file or folder.",
            show_default=False,
        ),
    ],
    folder: Annotated[Path, typer.Option("--to", "-o", metavar="FOLDER", help="Folder to write.")],
    cell: Annotated[
        str,
        typer.Argument(
            metavar="CELL",
            help="Which ensemble, as transfer=pretrained,train_on=Dataset1; needed where there are "
            "several.",
            show_default=False,
        ),
    ] = "",
    best: Annotated[
        bool,
        typer.Option(
            "--best",
            help="Of the ensembles that CELL leaves, the one that is nearest to its validation "
            "rows, which must be the same for all; test rows have no say.",
        ),
    ] = False,
    out: OutOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write the trained ensemble behind a cell as a bundle, ready to predict.

    Examples:
        harness export mine transfer=pretrained,train_on=MIX -o kappa
        harness export mine train_on=MIX --best -o kappa --data-dir data
    """
    from harness.apps.predict import predicting

    record = predicting.export(
        leaderboard,
        cell,
        folder,
        best=best,
        out=out,
        data_dir=data_dir,
        weights_dir=weights_dir,
        plugins=plugin or (),
    )
    print_record(record, str(folder), json=json)


@bundle.command()
def make(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="paraisite: from the published Dataset1 and Dataset2; simple-crystals: that which "
            "comes with the harness.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            metavar="FOLDER",
            help="Folder to write; unless given, the bundle becomes the default one.",
        ),
    ] = None,
    data_dir: DataOption = None,
    jobs: JobsOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a bundle by a recipe: fetch the data, train, export; it becomes the default one.

    Examples:
        harness bundle make paraisite
        harness bundle make paraisite --data-dir data -o mine
    """
    from harness.apps.predict.recipes import make_bundle
    from harness.cli.progress import observer, tell_of_stop
    from harness.training.stop_signal import StopSignal

    try:
        with observer(quiet or json) as progress:
            place, record = make_bundle(
                recipe,
                folder,
                data_dir=data_dir,
                observers=progress,
                jobs=jobs or cores(),
                stop=StopSignal(notice=tell_of_stop),
            )
    except KeyboardInterrupt:
        print("\nStopped. What is complete is on disk: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print_record(record, str(place), json=json)
    if folder is None and not json:
        print()
        tell_default(record)


@bundle.command()
def use(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE",
            help="A bundle, which is copied; or `shipped`, for that which comes with the harness.",
            show_default=False,
        ),
    ],
    plugin: PluginOption = None,
) -> None:
    """Choose the bundle that predicts where none is named.

    Examples:
        harness bundle use kappa
        harness bundle use shipped
    """
    from harness.apps.predict.default_bundle import SHIPPED_NAME, use_bundle, use_shipped

    back = str(folder) == SHIPPED_NAME and not folder.exists()
    tell_default(use_shipped() if back else use_bundle(folder, plugin or ()))


@bundle.command()
def show(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="BUNDLE", help="A bundle; the default one unless given.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what a bundle was trained on, how it scored, and what its interval covers.

    Examples:
        harness bundle show
        harness bundle show kappa --json
    """
    from harness.apps.predict.bundle import read_record

    with bundles_or_default(None if folder is None else [str(folder)]) as (named,):
        record = read_record(Path(named))
    if folder is None:
        tell_default(record, to_errors=json)
    print_record(record, named, json=json)


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
    by_gradient = any(one is not None for stack in record.stacks for one in stack.training)
    chose = " and ".join(["epoch"] * by_gradient + ["settings"] * searched)
    which = f"the run whose {chose} it chose" if chose else "the run that left it out"
    print(
        f"Calibrated on {record.calibration_rows} validation rows, each by {which};\n"
        "measured on each run's own test rows."
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
