"""`harness submission`: results to pass on, checked and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.help import Commands
from harness.cli.options import (
    BenchmarkArgument,
    DataOption,
    JsonOption,
    OutOption,
    PluginOption,
    WeightsOption,
)
from harness.cli.output import say
from harness.cli.verify import report

submission = Commands(
    help="Pack results to pass on, check those of others, merge many into one leaderboard."
)

FolderArgument = Annotated[
    Path,
    typer.Argument(
        exists=True, file_okay=False, metavar="FOLDER", help="A submission.", show_default=False
    ),
]


@submission.command()
def pack(
    benchmark: BenchmarkArgument,
    card: Annotated[Path, typer.Option(metavar="FILE", help="The method's card, a TOML file.")],
    to: Annotated[Path, typer.Option("--to", "-o", metavar="FOLDER", help="Folder to make.")],
    out: OutOption = None,
) -> None:
    """Pack finished results into one folder: results, per-row predictions, manifest, card.

    Weights stay here. Every file is listed with its sha256.

    Examples:
        harness submission pack mine --card card.toml -o my-method
        harness submission pack strict --card card.toml -o again
    """
    from harness.apps.submissions import exchange

    made = exchange.pack_submission(benchmark, card, to, out)
    size = sum(facts.bytes for facts in made.manifest.files.values())
    print(f"Written: {to}, {len(made.manifest.files)} files, {size / 1e6:.1f} MB.")
    print(f"Try it: harness submission check {to}")


@submission.command()
def check(
    folder: FolderArgument,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Check a submission: files, schema, then every number again from its rows.

    Baselines in closed form are fitted again, too. Nothing in it is executed. Exits with status 1
    and a list where anything differs. What needs data that are not on this machine is named as
    unchecked.

    Examples:
        harness submission check my-method
        harness submission check my-method --data-dir data --json
    """
    from harness.apps.submissions import exchange

    found = exchange.check_submission(
        folder, data_dir=data_dir, weights_dir=weights_dir, plugins=plugin or ()
    )
    report(found, json=json)


@submission.command()
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            file_okay=False,
            metavar="FOLDER...",
            help="Submissions to add.",
            show_default=False,
        ),
    ],
    into: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Folder of the leaderboard; made where there is none."),
    ],
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
) -> None:
    """Check submissions, add them to a leaderboard of many, and show its table.

    Equal configurations of several people are shown as such. Numbers bear a word where they were
    reproduced here, or could not be checked; the latter are never the best.

    Examples:
        harness submission merge my-method --into leaderboards/everybody
        harness submission merge theirs/* --into leaderboards/everybody
    """
    from harness.apps.submissions import exchange
    from harness.cli.table import print_leaderboard
    from harness.registry.registry import Registry

    checks = {}
    for folder in folders:
        found = exchange.check_submission(
            folder, data_dir=data_dir, weights_dir=weights_dir, plugins=plugin or ()
        )
        checks[folder] = found
        say(f"{folder}: {found.verdict}")
        if found.differences:
            report(found, json=False)
    registry = Registry(plugin or ())
    merged = exchange.merge_submissions(folders, into, registry, checks)
    print_leaderboard(merged, registry)
