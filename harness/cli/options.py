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
    typer.Option(
        "--data-dir",
        exists=True,
        file_okay=False,
        help="Folder with datasets, <name>.jsonl.gz; others in $HARNESS_DATA.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights-dir",
        exists=True,
        file_okay=False,
        help="Folder with published weights; others in $HARNESS_WEIGHTS.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Results folder; beside the benchmark file unless given."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key, as training.epochs=10; may be repeated."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
BundleOption = Annotated[
    Path,
    typer.Option("--bundle", help="A bundle: what `harness export` wrote.", show_default=False),
]
LevelOption = Annotated[
    float | None,
    typer.Option(help="Probability that the interval holds κ; 0.9 unless given."),
]
DeviceOption = Annotated[str, typer.Option(help="To predict on: cpu, cuda or auto.")]
