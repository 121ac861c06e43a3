"""`harness scan`: a whole source of structures through a bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.options import (
    INTERRUPTED,
    BundleOption,
    DataOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    LevelOption,
    PluginOption,
    cores,
)
from harness.cli.output import say

if TYPE_CHECKING:
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
    bundle: BundleOption,
    output: Annotated[
        Path, typer.Option("--to", "-o", help="Parquet file to write; a plot goes beside it.")
    ],
    max_kappa: Annotated[
        float | None, typer.Option("--max", help="Print the structures with κ up to this, W/(m·K).")
    ] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Print the lowest κ first.")] = False,
    top: Annotated[int, typer.Option(min=1, help="Print at most so many.")] = 20,
    level: LevelOption = None,
    jobs: JobsOption = None,
    device: DeviceOption = "cpu",
    data_dir: DataOption = None,
    plugin: PluginOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")] = False,
    json: JsonOption = False,
) -> None:
    """Predict κ of every structure of a source, of any size; print the candidates.

    What is on disk already is not done again: after a stop, the same command goes on.
    """
    from harness.apps.predict import predicting

    try:
        with _progress(quiet or json) as progress:
            report = predicting.scan(
                source,
                bundle,
                output,
                level=level,
                jobs=jobs or cores(),
                device=device,
                data_dir=data_dir,
                plugins=plugin or (),
                progress=progress,
            )
    except KeyboardInterrupt:
        print("\nStopped. What is complete is on disk: run the same again.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    _show(report, output, Path(source).name, (max_kappa, sort, top), json=json)


def _show(
    report: ScanReport,
    output: Path,
    name: str,
    wanted: tuple[float | None, bool, int],
    json: bool,
) -> None:
    """Draws a scan, and prints what was asked for: bound of κ, order, and how many."""
    from harness.apps.predict.scan_ranking import draw_scan, find_candidates
    from harness.cli.output import print_json
    from harness.drawing.style import show_as_written

    max_kappa, sort, top = wanted
    plot = output.with_suffix(".png")
    figure = draw_scan(output, f"{name}: {report.rows} structures", max_kappa)
    show_as_written(figure).savefig(plot, dpi=160)
    asked = sort or max_kappa is not None
    rows, total = find_candidates(output, max_kappa, top, sort) if asked else ([], 0)
    if json:
        print_json({**vars(report), "candidates": rows, "candidates_in_all": total})
        return
    print_report(report, output, plot)
    if asked:
        _print_candidates(rows, total, max_kappa, sort)


def print_report(report: ScanReport, output: Path, plot: Path) -> None:
    """Prints what a scan has done."""
    kept = f", {report.kept} of them by an earlier call" if report.kept else ""
    print(f"{output}: {report.rows} structures{kept}; {plot.name} beside it.")
    fresh = report.rows - report.kept
    if fresh and report.seconds:
        print(f"{report.seconds:.1f} s, {fresh / report.seconds:.0f} structures per second.")
    print(
        f"{report.applicable} predictions without a warning, "
        f"{report.rows - report.applicable - report.failed} with one, {report.failed} failed."
    )
    by_number = sorted(report.reasons.items(), key=lambda pair: -pair[1])
    for reason, number in by_number[:SHOWN_REASONS]:
        say(f"    {number} × {reason}")
    if len(by_number) > SHOWN_REASONS:
        print(f"    … and {len(by_number) - SHOWN_REASONS} other reasons, in the column `reason`.")


def _print_candidates(
    rows: list[dict[str, Any]], total: int, max_kappa: float | None, sort: bool
) -> None:
    from harness.cli.output import print_table
    from harness.cli.predict import prediction_row

    shown = []
    for row in rows:
        printed = prediction_row({**row, "reason": "", "distance": float("nan")})
        del printed["distance"]
        remarks = printed.pop("remarks")
        score = f"{row['max_std_over_mean']:.2g}" if row["max_std_over_mean"] is not None else ""
        shown.append({**printed, "max·std/mean": score, "remarks": remarks})
    bound = f"κ up to {max_kappa:g} W/(m·K)" if max_kappa is not None else "κ in W/(m·K)"
    if not rows:
        print(f"No structure with {bound}.")
        return
    order = "the lowest first" if sort else "in the order of the source"
    title = f"{total} structures with {bound}, {order}"
    numeric = ("κ", "std", "interval", "max·std/mean")
    print_table(title, shown, numeric=numeric, prose=("remarks",))
    if total > len(rows):
        print(f"{total - len(rows)} further ones are not shown: see --top, or the table.")


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
