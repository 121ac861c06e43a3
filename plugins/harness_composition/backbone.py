"""Structure → composition features; nothing is learnt."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import SYMBOLS, Crystal, FixedFeatures
from harness_composition.properties import KNOWN, STATISTICS, describe, property_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness_composition import CompositionSettings

POSITIONS = {symbol: position for position, symbol in enumerate(SYMBOLS)}


def make_composition(settings: CompositionSettings) -> FixedFeatures:
    """Makes the backbone: element fractions, and for `elements` the statistics of their properties.

    Crystals of one reduced formula have equal features, to the last bit.
    """
    if settings.features == "fractions":
        encoding = "composition-fractions-1"
        return FixedFeatures(
            fractions, len(SYMBOLS), elements=SYMBOLS, encoding=encoding, refuses=False
        )
    table = property_table()
    return FixedFeatures(
        fractions_and_statistics,
        len(SYMBOLS) + STATISTICS * table.shape[1],
        elements=KNOWN,
        # another version of pymatgen may tabulate other values
        encoding=f"composition-elements-1 {sha256(table.tobytes()).hexdigest()}",
        refuses=False,
    )


def fractions(crystal: Crystal) -> NDArray[np.float64]:
    """Returns the fractions of all elements."""
    features = np.zeros(len(SYMBOLS))
    # one division per element: 2/4 and 1/2 are the same number, sums of 1/4 need not be
    for symbol, count in Counter(crystal.species).items():
        features[POSITIONS[symbol]] = count / len(crystal.species)
    return features


def fractions_and_statistics(crystal: Crystal) -> NDArray[np.float64]:
    """Returns the fractions of all elements, then the statistics of their properties."""
    features = fractions(crystal)
    return np.concatenate([features, describe(features)])
