"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BenchmarkArgument = Annotated[
    str,
    typer.Argument(
        metavar="BENCHMARK",
        help="A benchmark.toml, its folder, or a name (quickstart).",
        show_default=False,
    ),
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file to load as a plugin; may be repeated."),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with datasets, <name>.jsonl.gz [env: HARNESS_DATA]."),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--weights-dir", help="Folder with published weights [env: HARNESS_WEIGHTS]."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Results folder; beside the benchmark file unless given."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
