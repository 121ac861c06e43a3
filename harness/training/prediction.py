"""Predictions of a stack, the device they are made on, and the padding of rows that both need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from harness.errors import BenchmarkError, did_you_mean

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.backbone import Pool
    from harness.plugin.protocol import Scaler

PREDICTION_BATCH = 128
"""Rows per member in one forward pass, unless told otherwise."""


def resolve_device(name: str) -> torch.device:
    """Turns `auto`, `cpu` or `cuda` into a device; `auto` is CUDA where there is one.

    Raises:
        BenchmarkError: CUDA is asked for and absent, or the name is unknown.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise BenchmarkError(
            f"Unknown device {name!r}.{did_you_mean(name, ('auto', 'cpu', 'cuda'))}"
        )
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise BenchmarkError(
            "device = 'cuda', but torch finds no CUDA device here: "
            "use 'auto' or 'cpu', or install a CUDA build of torch."
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def padded(rows: Sequence[Indices], length: int) -> Indices:
    """Rows of all members side by side, `members × length`; −1 marks empty places."""
    padded = np.full((len(rows), length), -1, dtype=np.int64)
    for member, own in enumerate(rows):
        padded[member, : len(own)] = own
    return padded


def predict(
    backbone: nn.Module,
    head: nn.Module,
    pool: Pool,
    rows: Sequence[Indices],
    scalers: Sequence[Scaler],
    *,
    device: torch.device,
    batch_size: int = PREDICTION_BATCH,
) -> list[Floats]:
    """Predicts values in the property's unit.

    Args:
        backbone: batch of the pool → embeddings.
        head: embeddings → scaled targets.
        pool: the encoded crystals.
        rows: positions in the pool, for each member; their numbers may differ.
        scalers: one per member.
        device: where to compute.
        batch_size: rows per member in one forward pass.

    Returns:
        For each member one value per row, which may be infinite or NaN.
    """
    scaled = _outputs(nn.Sequential(backbone, head), pool, rows, device, batch_size)
    return [scaler.decode(own) for own, scaler in zip(scaled, scalers, strict=True)]


def embed(
    backbone: nn.Module,
    pool: Pool,
    rows: Sequence[Indices],
    *,
    device: torch.device,
    batch_size: int = PREDICTION_BATCH,
) -> list[Floats]:
    """Returns each member's embeddings of its rows, `rows × width`; arguments as of `predict`."""
    return _outputs(backbone, pool, rows, device, batch_size)


def _outputs(
    module: nn.Module,
    pool: Pool,
    rows: Sequence[Indices],
    device: torch.device,
    batch_size: int,
) -> list[Floats]:
    module.to(device).eval()
    longest = max(len(r) for r in rows)
    places = padded(rows, longest)
    parts = []
    for start in range(0, longest, batch_size):
        batch = pool.batch(np.ascontiguousarray(places[:, start : start + batch_size]))
        with torch.inference_mode():
            parts.append(module(batch).cpu().numpy().astype(np.float64))
    whole = np.concatenate(parts, axis=1)
    return [whole[member, : len(own)] for member, own in enumerate(rows)]
