"""The command `harness`: parses, calls, prints. Heavy imports happen inside the commands."""

from __future__ import annotations

import io
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated

import typer

import harness
from harness.cli.audit import audit
from harness.cli.bundle import bundle, export
from harness.cli.compare import compare
from harness.cli.cost import cost
from harness.cli.datasets import datasets
from harness.cli.docs import docs
from harness.cli.doctor import doctor
from harness.cli.freeze import freeze
from harness.cli.help import DATA, PLUGINS, PREDICT, RESULTS, RUN, SHARE, Commands
from harness.cli.init import init
from harness.cli.list import list_leaderboards
from harness.cli.output import say
from harness.cli.plot import plot
from harness.cli.plugin_guard import hard_exits_refused
from harness.cli.plugins import plugins
from harness.cli.predict import predict
from harness.cli.run import run
from harness.cli.scan import scan
from harness.cli.site import site
from harness.cli.submission import submission
from harness.cli.table import table
from harness.cli.tune import tune
from harness.cli.verify import verify
from harness.errors import HarnessError, PluginError
from harness.files import lacks_room, place_of, unwritable
from harness.redaction import redacted

app = Commands(
    name="harness",
    help="Benchmarks for transfer learning of crystal properties, made for lattice thermal "
    "conductivity: from one TOML file to a train-on × test-on table with mean (std).",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"paraisite-harness {harness.__version__}")
        raise typer.Exit


@dataclass
class _Wishes:
    """What the options before the command ask for."""

    traceback: bool = False


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an error comes from.")
    ] = False,
) -> None:
    """Holds the options of the command as a whole."""
    context.ensure_object(_Wishes).traceback = show_traceback


app.command(rich_help_panel=RUN)(init)
app.command(rich_help_panel=RUN)(run)
app.command(rich_help_panel=RUN)(tune)
app.command(rich_help_panel=RUN)(audit)
app.command("list", rich_help_panel=RESULTS)(list_leaderboards)
app.command(rich_help_panel=RESULTS)(table)
app.command(rich_help_panel=RESULTS)(compare)
app.command(rich_help_panel=RESULTS)(cost)
app.command(rich_help_panel=RESULTS)(plot)
app.command(rich_help_panel=RESULTS)(verify)
app.command(rich_help_panel=PREDICT)(predict)
app.command(rich_help_panel=PREDICT)(scan)
app.command(rich_help_panel=PREDICT)(export)
app.add_typer(bundle, name="bundle", rich_help_panel=PREDICT)
app.add_typer(datasets, name="datasets", rich_help_panel=DATA)
app.command(rich_help_panel=SHARE)(site)
app.command(rich_help_panel=SHARE)(freeze)
app.add_typer(submission, name="submission", rich_help_panel=SHARE)
app.add_typer(plugins, name="plugins", rich_help_panel=PLUGINS)
app.command(rich_help_panel=PLUGINS)(docs)
app.command(rich_help_panel=PLUGINS)(doctor)

USER_ERROR = 2
OUR_ERROR = 1


def _let_printing_never_fail() -> None:
    """A letter that the terminal's encoding does not have is printed as `?`, whoever prints it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _run_and_flush(wishes: _Wishes) -> None:
    try:
        app(obj=wishes)
    finally:
        sys.stdout.flush()  # here, where it can be told that nobody reads it any more


def _print_traceback(problem: BaseException) -> None:
    """Prints a traceback without secrets; one that chains errors of a library may name some."""
    print(redacted("".join(traceback.format_exception(problem))), file=sys.stderr, end="")


def main() -> None:
    """Runs the command line.

    Errors of users and of plugins print without a traceback, unless it is asked for, and exit with
    status 2. What is left is a bug of ours: it prints one, and exits with status 1.
    """
    # Idle threads of torch spin by default: beside one other busy process that costs a factor of
    # ten. Must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    wishes = _Wishes()
    _let_printing_never_fail()
    try:
        with hard_exits_refused():
            _run_and_flush(wishes)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except HarnessError as problem:
        if wishes.traceback:
            _print_traceback(problem)
        say(f"error: {problem}", to_errors=True)
        if isinstance(problem, PluginError) and problem.__cause__ and not wishes.traceback:
            print("`harness --traceback …` shows where.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except Exception as problem:
        if isinstance(problem, OSError) and lacks_room(problem):
            print(f"error: {unwritable(place_of(problem), problem)}", file=sys.stderr)
            sys.exit(USER_ERROR)
        _print_traceback(problem)
        print(
            f"This is a bug in the harness (paraisite-harness {harness.__version__}): "
            "please report it, with the lines above.",
            file=sys.stderr,
        )
        sys.exit(OUR_ERROR)
