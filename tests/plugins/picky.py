"""Backbones for tests that do not take every crystal: features are the volume per atom, twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.plugin import SYMBOLS, Backbone, BackboneSpec, CannotEncode, Crystal, hookimpl


class Picky(Backbone):
    """Asks `judge` of every crystal, and notes in the file `PICKY_NOTES` that it did."""

    width = 2
    elements = frozenset(SYMBOLS)
    encoding = "picky-1"

    def __init__(self, judge: Callable[[Crystal], None]) -> None:
        self.judge = judge
        self.encoding = f"picky-1 {judge.__name__}"

    def encode(self, crystal: Crystal) -> dict[str, Any]:
        if notes := os.environ.get("PICKY_NOTES"):
            with Path(notes).open("a") as file:
                file.write(crystal.formula + "\n")
        self.judge(crystal)
        volume = crystal.volume / len(crystal.species)
        return {"features": np.array([volume, volume], dtype=np.float32)}

    def pool(self, encodings: Sequence[Any], device: Any) -> Any:
        return PickyPool(np.stack([encoding["features"] for encoding in encodings]))

    def build(self, generators: Sequence[Any]) -> Any:
        from torch import nn

        return nn.Identity()


class PickyPool:
    def __init__(self, features: Any) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Any) -> Any:
        import torch

        return torch.as_tensor(self.features[rows.clip(min=0)] * (rows >= 0)[..., None])


class Sure(Picky):
    """Says that it refuses nothing, and does."""

    refuses = False


def no_salt(crystal: Crystal) -> None:
    if crystal.formula in ("ClNa", "BrK"):
        raise CannotEncode("too salty")


def stumble(crystal: Crystal) -> None:
    if crystal.formula == "ClNa":
        raise ArithmeticError("no sum over no neighbours\nand more")


def refuse_all(crystal: Crystal) -> None:
    raise CannotEncode("no way")


def want_files(crystal: Crystal) -> None:
    raise FileNotFoundError("its table is not there")


@hookimpl
def register_backbones() -> list[BackboneSpec]:
    return [
        BackboneSpec("picky", "no salt", make=lambda settings: Picky(no_salt)),
        BackboneSpec("clumsy", "stumbles", make=lambda settings: Picky(stumble)),
        BackboneSpec("useless", "refuses all", make=lambda settings: Picky(refuse_all)),
        BackboneSpec("lost", "finds no file", make=lambda settings: Picky(want_files)),
        BackboneSpec("sure", "refuses after all", make=lambda settings: Sure(no_salt)),
    ]
