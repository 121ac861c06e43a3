"""What several models together say of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec


def average(predictions: Sequence[Floats], spec: PropertySpec) -> Floats:
    """Returns the mean on the property's scale; of one model, just what it says.

    Args:
        predictions: per model, values of every row in the property's unit.
        spec: the property.

    Returns:
        One value per row; NaN where one of them is NaN.
    """
    if len(predictions) == 1:
        return predictions[0]
    return spec.mean(np.stack(predictions))
