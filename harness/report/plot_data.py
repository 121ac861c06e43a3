"""What is drawn of stored rows and histories: prepared once, for figures and for web pages.

Pages draw by hand what figures draw with matplotlib, since that was measured. Parity plot and
curves of a cell (of `strict`, `head-study`, `paraisite`) take 9 to 13 kB and 0.01 s by
hand, 65 to 105 kB and 0.7 to 1.4 s as matplotlib's SVG: a page would be three times as large and
take five times as long to build.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

    Bools = NDArray[np.bool_]

FACTOR = 2.0
"""Predictions this factor off lie on the dashed lines, as in the metric `within-factor-2`."""


@dataclass(frozen=True, eq=False)
class ParityRows:
    """Predictions against targets, as axes may see them; one entry per row and run.

    Attributes:
        target: in the property's unit; on a log scale no lower than its lowest value.
        predicted: likewise; NaN where the prediction failed.
        overlap: whether the row's formula was trained on.
    """

    target: Floats
    predicted: Floats
    overlap: Bools

    @classmethod
    def of(cls, tested: pd.DataFrame, spec: PropertySpec) -> ParityRows:
        """Takes them from rows of `Store.read_predictions`."""
        predicted = tested["prediction"].to_numpy(dtype=np.float64)
        predicted = np.where(np.isfinite(predicted), predicted, np.nan)
        target = tested["target"].to_numpy(dtype=np.float64)
        lowest = spec.lowest if spec.is_log else -np.inf
        return cls(
            np.maximum(target, lowest),
            np.maximum(predicted, lowest),
            tested["overlap"].to_numpy(dtype=bool),
        )

    @property
    def failed(self) -> Bools:
        """Where the prediction was no finite number."""
        return np.isnan(self.predicted)

    def lie_beyond(self, low: float, high: float) -> Bools:
        """Where a prediction is on the edge of a frame or beyond it; one that failed is not."""
        return (self.predicted <= low) | (self.predicted >= high)


def member_curves(epochs: Sequence[Sequence[float | None]]) -> Floats:
    """Returns a history of a stage's record, epochs × members; NaN where it is not finite."""
    rows = [[np.nan if value is None else value for value in members] for members in epochs]
    curves = np.array(rows, dtype=np.float64)
    return np.where(np.isfinite(curves), curves, np.nan)
