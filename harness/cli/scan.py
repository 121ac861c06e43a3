"""`harness scan`: a whole source of structures through one bundle or several."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.default_bundle import bundles_or_default, tell_default
from harness.cli.options import (
    INTERRUPTED,
    BundlesOption,
    DataOption,
    DeviceOption,
    ExecutorFileOption,
    ExecutorOption,
    JobsOption,
    JsonOption,
    LevelOption,
    PluginOption,
    PropertyOption,
    SchedulerOption,
    WeightsOption,
    WorkersOption,
    cores,
    executor_request,
)
from harness.cli.output import say
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.apps.predict.prediction_table import BundleColumns
    from harness.apps.predict.scanner import ScanReport

SHOWN_REASONS = 5


def scan(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A dataset; a file or folder with structures; or mp:stable, mp:key=value,….",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--to", "-o", metavar="FILE", help="Parquet file to write; a plot goes beside it."
        ),
    ],
    bundle: BundlesOption = None,
    most: Annotated[
        list[str] | None,
        typer.Option(
            "--max",
            metavar="[COLUMN=]VALUE",
            help="Print the structures with a mean up to this, in the property's unit: 1.0 is of "
            "the first bundle, band_gap=0.5 of the one whose columns begin so; may be repeated.",
        ),
    ] = None,
    sort: Annotated[
        bool,
        typer.Option("--sort", help="Print the lowest first, of the first --max or bundle."),
    ] = False,
    sort_by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Print the lowest of this first, as band_gap."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Print at most so many.")] = 20,
    property_name: PropertyOption = None,
    level: LevelOption = None,
    jobs: JobsOption = None,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    executor_file: ExecutorFileOption = None,
    device: DeviceOption = "cpu",
    weights_dir: WeightsOption = None,
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
    json: JsonOption = False,
) -> None:
    """Predict properties of every structure of a source, of any size; print the candidates.

    Several bundles make one table, in one pass, and without --bundle the default one is asked; see
    `harness predict`. What is on disk already is
    not done again: after a stop, the same command goes on.

    Examples:
        harness scan mp:stable -b kappa -o stable.parquet --max 1
        harness scan crystals/ -b kappa -o all.parquet --sort --top 50
    """
    from harness.apps.predict import predicting
    from harness.apps.predict.bundle import read_record
    from harness.apps.predict.default_bundle import default_bundle
    from harness.cli.progress import ExecutorTitle

    try:
        with bundles_or_default(bundle) as named, _progress(quiet or json) as progress:
            layout = predicting.layout_of(named, plugin or ())
            wanted = _Wanted.read(layout, most or (), sort, sort_by, top)
            report = predicting.scan(
                source,
                named,
                output,
                properties=property_name or (),
                level=level,
                jobs=jobs or cores(),
                device=device,
                weights_dir=weights_dir,
                data_dir=data_dir,
                plugins=plugin or (),
                executor=executor_request(executor, scheduler, workers, executor_file),
                observers=() if quiet or json else (ExecutorTitle(),),
                progress=progress,
            )
    except KeyboardInterrupt:
        print("\nStopped. What is complete is on disk: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if not bundle:
        tell_default(read_record(default_bundle()), to_errors=json)
    _show(report, output, Path(source).name, layout, wanted, json=json)


@dataclass(frozen=True)
class _Wanted:
    """Which candidates are to be printed.

    Attributes:
        most: by the key of a bundle, the highest mean.
        sort_by: the bundle whose lowest means come first; none for the order of the source.
        top: at most so many.
    """

    most: Mapping[str, float]
    sort_by: BundleColumns | None
    top: int

    @classmethod
    def read(
        cls,
        layout: Sequence[BundleColumns],
        most: Sequence[str],
        sort: bool,
        sort_by: str | None,
        top: int,
    ) -> _Wanted:
        """Reads `--max`, `--sort` and `--sort-by`.

        Raises:
            HarnessError: one names no bundle, or no number.
        """
        from harness.apps.predict.prediction_table import find_columns

        bounds: dict[str, float] = {}
        first = layout[0]
        for text in most:
            name, equals, value = text.rpartition("=")
            one = find_columns(layout, name.strip()) if equals else layout[0]
            first = first if bounds else one
            bounds[one.key] = _number(text, value)
        if sort_by is not None:
            return cls(bounds, find_columns(layout, sort_by), top)
        return cls(bounds, first if sort else None, top)


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise HarnessError(
            f"--max {text!r}: expected a number, as 1.0, or one of a bundle, as kappa=1.0."
        ) from None


def _show(
    report: ScanReport,
    output: Path,
    name: str,
    layout: Sequence[BundleColumns],
    wanted: _Wanted,
    json: bool,
) -> None:
    """Draws a scan, and prints what was asked for."""
    from harness.apps.predict.scan_ranking import draw_scan, find_candidates
    from harness.cli.output import print_json
    from harness.drawing.style import show_as_written

    plot, most = output.with_suffix(".png"), wanted.most
    figure = draw_scan(output, f"{name}: {report.rows} structures", layout, most)
    show_as_written(figure).savefig(plot, dpi=160)
    asked = bool(most) or wanted.sort_by is not None
    rows, total = (
        find_candidates(output, layout, most, wanted.top, wanted.sort_by) if asked else ([], 0)
    )
    if json:
        counts = {key: vars(one) for key, one in report.bundles.items()}
        told = {"bundles": counts} if len(layout) > 1 else counts[layout[0].key]
        known = {"rows": report.rows, "kept": report.kept, "seconds": report.seconds}
        print_json({**known, **told, "candidates": rows, "candidates_in_all": total})
        return
    print_report(report, layout, output, plot)
    if asked:
        _print_candidates(rows, total, layout, wanted)


def print_report(
    report: ScanReport, layout: Sequence[BundleColumns], output: Path, plot: Path
) -> None:
    """Prints what a scan has done."""
    kept = f", {report.kept} of them by an earlier call" if report.kept else ""
    print(f"{output}: {report.rows} structures{kept}; {plot.name} beside it.")
    fresh = report.rows - report.kept
    if fresh and report.seconds:
        print(f"{report.seconds:.1f} s, {fresh / report.seconds:.0f} structures per second.")
    for one in layout:
        counts = report.bundles[one.key]
        warned = report.rows - counts.applicable - counts.failed
        print(
            f"{'' if one.alone else f'{one.label}: '}{counts.applicable} predictions without a "
            f"warning, {warned} with one, {counts.failed} failed."
        )
        by_number = sorted(counts.reasons.items(), key=lambda pair: -pair[1])
        for reason, number in by_number[:SHOWN_REASONS]:
            say(f"    {number} × {reason}")
        if len(by_number) > SHOWN_REASONS:
            others, column = len(by_number) - SHOWN_REASONS, one.column("reason")
            print(f"    … and {others} other reasons, in the column `{column}`.")


def _print_candidates(
    rows: Sequence[Mapping[str, Any]], total: int, layout: Sequence[BundleColumns], wanted: _Wanted
) -> None:
    from harness.cli.output import print_table
    from harness.cli.predict import TEXTS, prediction_row

    asked = _describe(layout, wanted)
    if not rows:
        print(f"No structure with {asked}.")
        return
    shown = []
    for row in rows:
        printed = prediction_row(row, layout)
        remarks = printed.pop("remarks")
        if "max_std_over_mean" in row:
            score = row["max_std_over_mean"]
            printed["max·std/mean"] = "" if score is None else f"{score:.2g}"
        shown.append({**printed, "remarks": remarks})
    by = "" if wanted.sort_by is None or len(layout) == 1 else f"{wanted.sort_by.label} "
    order = "in the order of the source" if wanted.sort_by is None else f"the lowest {by}first"
    numeric = [name for name in shown[0] if name not in TEXTS]
    print_table(
        f"{total} structures with {asked}, {order}", shown, numeric=numeric, prose=("remarks",)
    )
    if total > len(rows):
        print(f"{total - len(rows)} further ones are not shown: see --top, or the table.")


def _describe(layout: Sequence[BundleColumns], wanted: _Wanted) -> str:
    """What candidates are, as "κ up to 1 W/(m·K)"."""
    bounds = [
        f"{one.label} up to {wanted.most[one.key]:g} {one.spec.unit}".rstrip()
        for one in layout
        if one.key in wanted.most
    ]
    whole = [one.label_and_unit for one in layout if one == wanted.sort_by]
    return " and ".join(bounds or whole)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[ScanReport], None]]:
    """Yields what tells how far a scan is: a live line, lines now and then, or nothing."""
    from rich.console import Console

    from harness.cli.progress import PLAIN_INTERVAL_SECONDS

    console = Console(stderr=True)
    last = 0.0

    def text(report: ScanReport) -> str:
        rate = (report.rows - report.kept) / max(report.seconds, 1e-9)
        return f"{report.rows} structures, {rate:.0f} per second"

    def tell(report: ScanReport) -> None:
        nonlocal last
        if report.seconds - last >= PLAIN_INTERVAL_SECONDS:
            last = report.seconds
            print(f"    {text(report)}", file=sys.stderr, flush=True)

    if quiet:
        yield lambda report: None
    elif console.is_terminal:
        with console.status("starting") as status:
            yield lambda report: status.update(text(report))
    else:
        yield tell
