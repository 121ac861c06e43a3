"""The façade of the harness: all that a plugin or a notebook may import, loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "harness.api": ("load_dataset", "prepare", "run"),
    "harness.benchmark": ("Benchmark",),
    "harness.contracts": (
        "Arrays",
        "Backbone",
        "BackboneSpec",
        "DatasetSpec",
        "HeadSpec",
        "MetricSpec",
        "Pool",
        "PretrainedWeights",
        "ProtocolRules",
        "ProtocolSpec",
        "Scaler",
        "Settings",
        "Split",
        "Stage",
        "TransferSpec",
    ),
    "harness.dataset": ("Card", "Dataset", "RowProblem"),
    "harness.crystal": ("SYMBOLS", "Crystal", "reduced_formula"),
    "harness.errors": (
        "BenchmarkError",
        "DataError",
        "HarnessError",
        "LeakError",
        "PluginError",
        "StoreError",
        "WeightsError",
        "did_you_mean",
    ),
    "harness.events": ("CellFinished", "EpochFinished", "StageFinished", "StageStarted"),
    "harness.graph": ("CrystalGraph", "build_graph"),
    "harness.hookspecs": ("hookimpl",),
    "harness.leaderboard": ("Leaderboard",),
    "harness.locations": ("Locations", "shipped"),
    "harness.neutral": ("find_neutral", "read_neutral", "write_neutral"),
    "harness.registry": ("Registry",),
    "harness.seeds": ("derive_seed",),
    "harness.stack": ("Stacked", "StackedEmbedding", "StackedLinear"),
    "harness.training_settings": ("TrainingSettings",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
