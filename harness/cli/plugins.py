"""`harness plugins`: what is installed and what it offers."""

from __future__ import annotations

import typer

from harness.cli.options import JsonOption, PluginOption

plugins = typer.Typer(help="List plugins and what they offer.", no_args_is_help=True)


@plugins.callback()
def _group() -> None:
    """Keeps `list` a sub-command while it is the only one."""


@plugins.command("list")
def list_plugins(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List everything that plugins offer, and plugins that failed to load."""
    from harness.cli.output import print_json, print_table
    from harness.registry import Registry

    registry = Registry(plugin or ())
    rows = [
        {
            "kind": catalogue.kind,
            "name": name,
            "what": getattr(spec, "summary", "") or getattr(spec, "title", ""),
            "plugin": catalogue.owner(name),
        }
        for catalogue in registry.catalogues()
        for name, spec in catalogue.items()
    ]
    if json:
        print_json({"offers": rows, "broken": [vars(broken) for broken in registry.broken]})
        return
    print_table("Plugins", rows)
    if registry.broken:
        rows = [vars(broken) for broken in registry.broken]
        print_table("Failed to load", rows, prose=("problem",))
