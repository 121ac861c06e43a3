"""Structure → composition features; nothing is learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Arrays, Backbone, Crystal

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from harness_composition import CompositionSettings

POSITIONS = {symbol: position for position, symbol in enumerate(SYMBOLS)}


class CompositionPool:
    """The features of many crystals.

    Args:
        features: crystals × width.
    """

    def __init__(self, features: torch.Tensor) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def batch(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Returns the features of the rows, `members × batch × width`; zeros in empty places."""
        import torch

        index = torch.as_tensor(rows, device=self._features.device)
        return self._features[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)


class CompositionBackbone(Backbone):
    """Element fractions, and for `elements` the statistics of their properties.

    Crystals of one reduced formula have equal features, to the last bit.

    Args:
        settings: which of the two.
    """

    refuses = False

    def __init__(self, settings: CompositionSettings) -> None:
        self.features = settings.features
        self.width = len(SYMBOLS)
        self.elements = frozenset(SYMBOLS)
        self.encoding = "composition-fractions-1"
        if settings.features == "elements":
            from harness_composition.properties import KNOWN, STATISTICS, property_table

            table = property_table()
            self.width += STATISTICS * table.shape[1]
            self.elements = frozenset(KNOWN)
            # another version of pymatgen may tabulate other values
            self.encoding = f"composition-elements-1 {sha256(table.tobytes()).hexdigest()}"

    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Returns `features`, of length `width`."""
        features = np.zeros(len(SYMBOLS))
        # one division per element: 2/4 and 1/2 are the same number, sums of 1/4 need not be
        for symbol, count in Counter(crystal.species).items():
            features[POSITIONS[symbol]] = count / len(crystal.species)
        if self.features == "elements":
            from harness_composition.properties import describe

            features = np.concatenate([features, describe(features)])
        return {"features": features.astype(np.float32)}

    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> CompositionPool:
        """Stacks the features of all crystals."""
        import torch

        features = np.stack([encoding["features"] for encoding in encodings])
        return CompositionPool(torch.as_tensor(features, device=device))

    def build(self, generators: Sequence[torch.Generator]) -> torch.nn.Module:
        """Returns a module without parameters: what the pool assembles are the embeddings."""
        from torch import nn

        return nn.Identity()
