"""The command `harness`: parses, calls, prints. Heavy imports happen inside the commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from harness import __version__
from harness.cli.audit import audit
from harness.cli.datasets import datasets
from harness.cli.doctor import doctor
from harness.cli.plugins import plugins
from harness.cli.run import run
from harness.cli.table import table
from harness.cli.verify import verify
from harness.errors import HarnessError

app = typer.Typer(
    name="harness",
    help="Benchmarks for transfer learning of crystal properties, made for lattice thermal "
    "conductivity: from one TOML file to a train-on × test-on table with mean (std).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"paraisite-harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Holds the options of the command as a whole."""


app.command()(run)
app.command()(table)
app.command()(verify)
app.command()(audit)
app.add_typer(datasets, name="datasets")
app.add_typer(plugins, name="plugins")
app.command()(doctor)

USER_ERROR = 2


def main() -> None:
    """Runs the command line; user errors print without a traceback and exit with status 2."""
    # Idle threads of torch spin by default: beside one other busy process that costs a factor of
    # ten. Must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except HarnessError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(USER_ERROR)
