"""The façade of the harness: everything a plugin or a notebook may import, loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.contracts import (
        Backbone as Backbone,
    )
    from harness.contracts import (
        BackboneSpec as BackboneSpec,
    )

__version__ = "0.1.0"

_HOMES = {
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
    "harness.locations": ("Locations", "shipped"),
    "harness.seeds": ("derive_seed",),
    "harness.stack": ("Stacked", "StackedEmbedding", "StackedLinear"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
