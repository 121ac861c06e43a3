"""A plugin for tests that is well, until one of its `pass` lines is made to raise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from harness.plugin import (
    Backbone,
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    MetricSpec,
    ProtocolRules,
    ProtocolSpec,
    Settings,
    Split,
    StackedLinear,
    Stage,
    TransferSpec,
    build_graph,
    hookimpl,
)

HERE = Path(__file__).parent


def load(where: Any) -> Iterator[dict[str, Any]]:
    for a in range(30, 54):
        yield {
            "id": str(a),
            "kappa": float(a),
            "lattice": (np.eye(3) * a / 10).tolist(),
            "species": ["Na" if a % 2 else "K", "Cl"],
            "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.01 * (a - 30)]],
        }
    pass  # load


class Pool:
    def __init__(self, features: Any) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Any) -> Any:
        pass  # batch
        return self.features[np.maximum(rows, 0)]


class Module(nn.Module):
    def __init__(self, generators: Sequence[Any]) -> None:
        super().__init__()
        self.linear = StackedLinear(generators, 1, 4)

    def forward(self, batch: Any) -> Any:
        pass  # forward
        return self.linear(batch)


class SickBackbone(Backbone):
    width = 4
    elements = frozenset({"Na", "K", "Cl"})
    encoding = "sick"

    def __init__(self, settings: Any) -> None:
        pass  # make

    def encode(self, crystal: Any) -> dict[str, Any]:
        pass  # encode
        return {"volume": np.array([np.linalg.det(crystal.lattice)], dtype=np.float32)}

    def pool(self, encodings: Any, device: Any) -> Pool:
        import torch

        pass  # pool
        return Pool(torch.as_tensor(np.stack([e["volume"] for e in encodings])).to(device))

    def build(self, generators: Any) -> nn.Module:
        pass  # build
        return Module(generators)


class Head(nn.Module):
    def __init__(self, width: int, generators: Any) -> None:
        super().__init__()
        pass  # make_head
        self.linear = StackedLinear(generators, width, 1)

    def forward(self, embeddings: Any) -> Any:
        pass  # head
        return self.linear(embeddings).squeeze(-1)


def make_head(settings: Any, width: int, generators: Any) -> nn.Module:
    return Head(width, generators)


def fit(settings: Any, rows: Any) -> Any:
    def predict(embeddings: Any) -> Any:
        pass  # predict
        return np.full(len(embeddings), rows.targets.mean())

    pass  # fit
    return predict


def stages(settings: Any, target: Any) -> list[Stage]:
    pass  # stages
    return [Stage(target.dataset, "random")]


class Rules(ProtocolRules):
    leak_free = False
    selection = "mae-log"
    offset = 0.0
    scaler_stage = "last"

    def __init__(self, settings: Any) -> None:
        pass  # rules

    def split(self, formulas: Any, run: int, seed: int) -> Split:
        pass  # split
        third = len(formulas) // 3
        return Split(*np.split(np.arange(len(formulas)), [third, 2 * third]))

    def scaler_rows(self, split: Split) -> Any:
        pass  # scaler_rows
        return split.train

    def labels(self, kappa: Any, own: Any, decoder: Any) -> Any:
        pass  # labels
        return kappa


def score(targets: Any, predictions: Any) -> float:
    pass  # score
    return float(abs(targets - predictions).mean())


def ask_in_vain() -> None:
    """Calls the façade with what it cannot take."""
    build_graph("NaCl", 4.0)  # type: ignore[arg-type]


@hookimpl
def register_datasets() -> Iterator[DatasetSpec]:
    yield DatasetSpec("Sick", HERE / "cards" / "toy.toml", load)


@hookimpl
def register_backbones() -> Iterator[BackboneSpec]:
    yield BackboneSpec("sick", "", Settings, SickBackbone)


@hookimpl
def register_heads() -> Iterator[HeadSpec]:
    yield HeadSpec("sick", "", Settings, make=make_head)
    yield HeadSpec("sick-fit", "", Settings, fit=fit)


@hookimpl
def register_transfers() -> Iterator[TransferSpec]:
    yield TransferSpec("sick", "", Settings, stages)


@hookimpl
def register_protocols() -> Iterator[ProtocolSpec]:
    yield ProtocolSpec("sick", "", Settings, Rules)


@hookimpl
def register_metrics() -> Iterator[MetricSpec]:
    yield MetricSpec("sick", "sick", "", False, score)
