"""The harness in a notebook: the same things that the command line does, as functions."""

from harness.api.boards import (
    FIGURES,
    compare,
    draw,
    open_board,
    published_cells,
    read_board,
    render_csv,
    render_tables,
    table,
    write_tables,
)
from harness.api.plans import describe, prepare
from harness.api.predicting import export, predict_files, scan
from harness.api.running import run
from harness.api.searching import tune, write_choices
from harness.api.sources import Source, default_out, load_dataset, results_folder
from harness.api.submissions import check_submission, merge_submissions, pack_submission
from harness.api.verifying import verify

__all__ = [
    "FIGURES",
    "Source",
    "check_submission",
    "compare",
    "default_out",
    "describe",
    "draw",
    "export",
    "load_dataset",
    "merge_submissions",
    "open_board",
    "pack_submission",
    "predict_files",
    "prepare",
    "published_cells",
    "read_board",
    "render_csv",
    "render_tables",
    "results_folder",
    "run",
    "scan",
    "table",
    "tune",
    "verify",
    "write_choices",
    "write_tables",
]
