"""The harness in a notebook: the same things that the command line does, as functions."""

from harness.api.freezing import FreezeReport, freezable, freeze
from harness.api.leaderboards import (
    FIGURES,
    compare,
    draw,
    open_leaderboard,
    published_cells,
    read_leaderboard,
    render_csv,
    render_tables,
    table,
    write_tables,
)
from harness.api.lookup import Source, default_out, load_dataset, registry_of, results_folder
from harness.api.plans import describe, parameter_counts, prepare
from harness.api.running import run
from harness.api.searching import tune, write_choices
from harness.api.verifying import verify

__all__ = [
    "FIGURES",
    "FreezeReport",
    "Source",
    "compare",
    "default_out",
    "describe",
    "draw",
    "freezable",
    "freeze",
    "load_dataset",
    "open_leaderboard",
    "parameter_counts",
    "prepare",
    "published_cells",
    "read_leaderboard",
    "registry_of",
    "render_csv",
    "render_tables",
    "results_folder",
    "run",
    "table",
    "tune",
    "verify",
    "write_choices",
    "write_tables",
]
