"""`harness site`: all leaderboards as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import JsonOption, PluginOption, cores

BYTES_PER_MB = 1e6


def site(
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BENCHMARK",
            help="Benchmarks that were run, or folders with results; all in leaderboards/ unless "
            "given.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path, typer.Option("--to", "-o", metavar="FOLDER", help="Folder to write to.")
    ] = Path("site"),
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write leaderboards as web pages into one folder, which needs no server and asks for nothing.

    A site that lies there already is replaced as a whole. Open index.html in a browser, or put the
    folder on any web server.

    Examples:
        harness site
        harness site strict mine -o pages
    """
    from harness.apps.site.build import write_site
    from harness.apps.site.html_tables import counted
    from harness.cli.output import print_json

    written = write_site(benchmarks or (), to, plugin or (), cores())
    if json:
        print_json({**vars(written), "folder": str(written.folder)})
        return
    print(f"{counted(len(written.leaderboards), 'leaderboard')}: {', '.join(written.leaderboards)}")
    print(
        f"{written.pages} pages, {written.size / BYTES_PER_MB:.1f} MB: "
        f"{written.folder / 'index.html'}"
    )
