"""Closed-form heads in one line, and the mirrored Dataset1 as composition features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.plugin import Blocks, Crystal, FitRows, Predictor, Scaler, read_neutral
from harness_composition import CompositionSettings, register_backbones
from harness_heads import register_heads
from harness_properties import KAPPA

Fit = Callable[..., Predictor]


@pytest.fixture
def fit() -> Fit:
    """`fit(head, embeddings, kappa, seed=0, blocks=(), **settings)` → predictor."""
    heads = {spec.name: spec for spec in register_heads()}

    def fit(
        head: str,
        embeddings: Any,
        kappa: Any,
        seed: int = 0,
        blocks: Blocks = (),
        **settings: object,
    ) -> Predictor:
        kappa = np.asarray(kappa, dtype=np.float64)
        rows = FitRows(
            np.asarray(embeddings, dtype=np.float64), kappa, Scaler(0, 0, 1), KAPPA, seed, blocks
        )
        spec = heads[head]
        assert spec.make is None and spec.fit is not None
        return spec.fit(spec.settings(**settings), rows)

    return fit


@pytest.fixture(scope="module")
def dataset1(shared: Path):
    """Embeddings (rows × 203), κ, and a fold of 5 for each row that keeps formulas together."""
    rows = list(read_neutral(shared / "data" / "Dataset1.jsonl.gz"))
    crystals = [
        Crystal(np.array(r["lattice"]), tuple(r["species"]), np.array(r["frac_coords"]))
        for r in rows
    ]
    (spec,) = register_backbones()
    backbone = spec.make(CompositionSettings(features="elements"))
    formulas = sorted({crystal.formula for crystal in crystals})
    return (
        np.array([backbone.encode(c)["features"] for c in crystals], dtype=np.float64),
        np.array([r["kappa"] for r in rows]),
        np.array([formulas.index(c.formula) % 5 for c in crystals]),
    )
