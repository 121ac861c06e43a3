"""`harness plugins`: what is installed and what it offers."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.apps.scaffold import Kind
from harness.cli.help import Commands
from harness.cli.options import DataOption, JsonOption, PluginOption, WeightsOption

if TYPE_CHECKING:
    from harness.apps.testing.runner import CaseResult

plugins = Commands(help="List plugins and what they offer.")


@plugins.callback()
def _group() -> None:
    """Keeps `list` a sub-command while it is the only one."""


@plugins.command("list")
def list_plugins(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List everything that plugins offer, and what of it cannot be used.

    Examples:
        harness plugins list
        harness plugins list --plugin my_head.py
    """
    from harness.cli.output import print_json, print_table
    from harness.registry.registry import Registry

    registry = Registry(plugin or ())
    rows = [
        {
            "kind": catalog.kind,
            "name": name,
            "what": getattr(spec, "summary", "") or getattr(spec, "title", ""),
            "plugin": catalog.owner(name),
        }
        for catalog in registry.catalogs()
        for name, spec in catalog.items()
    ]
    broken = [vars(plugin) for plugin in registry.broken]
    contested = [
        {"kind": catalog.kind, "name": name, "problem": problem}
        for catalog in registry.catalogs()
        for name, problem in catalog.contested.items()
    ]
    if json:
        print_json({"offers": rows, "broken": broken, "contested": contested})
        return
    print_table("Plugins", rows, prose=("what",))
    if broken:
        print_table("Failed to load", broken, prose=("problem",))
    if contested:
        print_table("Offered by several plugins", contested, prose=("problem",))


@plugins.command("new")
def write_new_plugin(
    kind: Annotated[Kind, typer.Argument(help="What the plugin offers.", show_default=False)],
    name: Annotated[
        str, typer.Argument(help="Its name in benchmark files, as my-model.", show_default=False)
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Where to make the folder NAME.",
        ),
    ] = Path(),
) -> None:
    """Write a small package that works as it is: a plugin, its tests, a README, an example.

    Examples:
        harness plugins new head my-head
        harness plugins new dataset my-data --dir plugins
    """
    from harness.apps.scaffold.package import write_plugin

    written = write_plugin(kind, name, folder)
    print(f"Wrote a {kind}, in {written.folder}:")
    print(*(f"  {path}" for path in written.files), sep="\n")
    print("\nTry it:")
    print(f"  cd {shlex.quote(str(written.folder))}")
    print("  pip install -e '.[test]'", "  pytest", sep="\n")
    print(f"  harness plugins check {name}", "  harness run example", sep="\n")
    print("\nIn a benchmark file:")
    print(*(f"  {line}" for line in written.uses), sep="\n")


@plugins.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A plugin, its file, or a dataset, backbone, head, … by name.", show_default=False
        ),
    ],
    plugin: PluginOption = None,
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting to check with, as width=8; may be repeated.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check that plugins keep what they promise: run the conformance cases of their kinds.

    Examples:
        harness plugins check mlp --set hidden=[16]
        harness plugins check my-head --plugin my_head.py
    """
    from rich.console import Console

    from harness.apps.testing.runner import run_cases
    from harness.apps.testing.selection import select_cases
    from harness.plugin.locations import Locations

    locations = Locations.of(data_dir, weights_dir)
    selected = select_cases(name, plugin or (), settings or (), locations)
    reports = []
    with Console(stderr=True).status("") as status:
        for kind, spec, cases in selected:
            status.update(f"checking the {kind} {spec.name}")
            reports.append((kind, spec.name, list(run_cases(cases, spec))))
    if _print_reports(reports, json):
        raise typer.Exit(1)


def _print_reports(reports: Sequence[tuple[str, str, list[CaseResult]]], json: bool) -> bool:
    """Prints what came out; returns whether anything failed."""
    from harness.cli.output import print_json, print_table

    results = [result for _, _, own in reports for result in own]
    counts = Counter(result.outcome for result in results)
    if json:
        checked = [
            {"kind": kind, "name": name, "cases": [vars(result) for result in own]}
            for kind, name, own in reports
        ]
        print_json({"checked": checked, "outcomes": counts})
    else:
        for kind, name, own in reports:
            rows = [
                {
                    "outcome": result.outcome,
                    "case": result.case,
                    "seconds": f"{result.seconds:.2f}",
                    "why": "\n".join(filter(None, (result.message, result.place))),
                }
                for result in own
            ]
            print_table(f"{kind} {name!r}", rows, numeric=("seconds",), prose=("why",))
        told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        print(f"{told}, in {sum(result.seconds for result in results):.1f} s.")
    return counts["failed"] + counts["error"] > 0
