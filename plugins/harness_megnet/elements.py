"""The elements that the published weights know, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import SYMBOLS, Crystal, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ELEMENTS: tuple[str, ...] = tuple(
    symbol for symbol in SYMBOLS[:94] if symbol not in ("Po", "At", "Rn", "Fr", "Ra")
)
"""The 89 elements in the order of the published embedding (`matgl.config.DEFAULT_ELEMENTS`)."""

_NUMBER = {symbol: number for number, symbol in enumerate(ELEMENTS)}


def check_elements(crystal: Crystal, backbone: str) -> None:
    """Refuses a crystal that the backbone of this name cannot encode.

    Raises:
        DataError: an element has no place in the embedding.
    """
    unknown = sorted(set(crystal.species) - _NUMBER.keys())
    if unknown:
        raise DataError(
            f"{crystal.formula}: {backbone} does not know {', '.join(unknown)}; it knows the 89 "
            "elements from H to Pu without Po, At, Rn, Fr and Ra. Leave the row out."
        )


def number_elements(species: tuple[str, ...]) -> NDArray[np.int16]:
    """Returns the place of each element in the embedding."""
    return np.array([_NUMBER[symbol] for symbol in species], np.int16)
