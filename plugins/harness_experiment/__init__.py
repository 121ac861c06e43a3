"""The embedded dataset: 58 simple crystals with measured κ, and its parts by prototype."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from harness.plugin import DatasetSpec, hookimpl, shipped
from harness_experiment.table import load_rows

PARTS = {
    "Tetrahedral": ("diamond", "zincblende", "wurtzite"),
    "Rocksalt": ("rocksalt",),
    "OtherPrototypes": (
        "fluorite",
        "CsCl-type",
        "cubic perovskite",
        "spinel",
        "corundum",
        "skutterudite",
    ),
}
"""The datasets that make up `Experiment`, each with its prototypes."""


@hookimpl
def register_datasets() -> Iterable[DatasetSpec]:
    """Offers `Experiment` and its parts; they need no download."""
    yield DatasetSpec("Experiment", _card("Experiment"), parts=tuple(PARTS))
    for name, prototypes in PARTS.items():
        yield DatasetSpec(name, _card(name), partial(load_rows, prototypes))


def _card(name: str) -> Path:
    return shipped(f"datasets/{name}.toml")
