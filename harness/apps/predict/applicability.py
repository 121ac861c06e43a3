"""Whether a model may be asked at all: how far a crystal is from what each member has seen.

The distance of a crystal is Euclidean, between its embedding and the nearest one of the member's
training rows, in units of the member's own scale: the 99th percentile of the distances of its
training rows to their nearest other training row. Above 1, the crystal is farther out than all but
1 % of the training rows are from the rest. The median over all members decides, whichever stack
they are of and however many make up a run: in units of the member's own scale, distances compare
between embeddings of any width. Source of the idea: Sahigara et al., Molecules 17, 4791 (2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Embeddings = NDArray[np.float32]

PERCENTILE = 99.0
FAR = 1.0
"""The distance, in units of the member's scale, from which on a crystal is far from the data."""

ROWS_AT_ONCE = 1024
SMALLEST_SCALE = 1e-12
"""Where all training rows have a twin, whatever is none is far."""


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The training rows of every member, as its own embeddings.

    Attributes:
        training: per member, rows × width.
        scales: per member, the distance that counts as 1.
    """

    training: tuple[Tensor, ...]
    scales: tuple[float, ...]

    @classmethod
    def of(cls, training: Sequence[NDArray[Any]]) -> Neighbourhood:
        """Finds each member's scale."""
        tensors = tuple(torch.from_numpy(np.asarray(rows, np.float32)) for rows in training)
        scales = [float(np.percentile(_leave_one_out(rows), PERCENTILE)) for rows in tensors]
        return cls(tensors, tuple(scales))

    def distances(self, embeddings: Sequence[Embeddings]) -> NDArray[np.float64]:
        """Returns one distance per crystal, the median over members.

        Args:
            embeddings: per member, crystals × width.
        """
        found = [
            _nearest(torch.from_numpy(own), rows) / max(scale, SMALLEST_SCALE)
            for own, rows, scale in zip(embeddings, self.training, self.scales, strict=True)
        ]
        return np.asarray(np.median(np.stack(found), axis=0))


def _nearest(asked: Tensor, rows: Tensor) -> NDArray[np.float64]:
    parts = [torch.cdist(part, rows).amin(1) for part in asked.split(ROWS_AT_ONCE)]
    return np.asarray(torch.cat(parts).double().numpy())


def _leave_one_out(rows: Tensor) -> NDArray[np.float64]:
    """Distance of every row to the nearest other one; a single row has none."""
    if len(rows) < 2:
        return np.zeros(1)
    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        distance = torch.cdist(rows[start : start + ROWS_AT_ONCE], rows)
        own = torch.arange(len(distance))
        distance[own, start + own] = torch.inf
        parts.append(distance.amin(1))
    return torch.cat(parts).double().numpy()
