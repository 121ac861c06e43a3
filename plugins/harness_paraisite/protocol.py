"""The protocol of the published study, reproduced with its defects in sight.

Source: main/src of github.com/liudakl/ParAIsite at commit cc0c1ff578cbed186ba930784db2909b0066a80e,
read and run. It is not leak-free: test rows choose the epoch and enter the scaler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.plugin import DataError, ProtocolRules, Settings, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.plugin import Scaler

TRAIN_FRACTION = 0.8


class PublishedSettings(Settings):
    """Settings of the protocol `published`.

    Attributes:
        label_view: `true` trains on and scores against true κ. `as-published` reproduces the
            study's labels: scaled by their own dataset's scaler, then decoded by that of the
            dataset the model was first trained on.
    """

    label_view: Literal["true", "as-published"] = "true"


class PublishedRules(ProtocolRules):
    """80 % of the rows train, the other 20 % both validate and test; the scaler sees all."""

    leak_free = False
    selection = "mape"
    offset = 1.0
    scaler_stage: Literal["first", "last"] = "first"

    def __init__(self, settings: PublishedSettings) -> None:
        self.view = settings.label_view

    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        """Splits by `RandomState(run).permutation(n)`: the first int(0.8·n) rows train.

        `seed` is ignored on purpose: the published splits depend on the run's number alone.

        Raises:
            DataError: fewer than two rows.
        """
        from numpy.random import RandomState

        rows = len(formulas)
        if rows < 2:
            raise DataError(
                f"The protocol 'published' cannot split {rows} row(s): it needs at least 2, one to "
                "train on and one to test on."
            )
        order = RandomState(run).permutation(rows).astype("int64")
        cut = int(TRAIN_FRACTION * rows)
        return Split(train=order[:cut], validation=order[cut:], test=order[cut:])

    def scaler_rows(self, split: Split) -> NDArray[np.int64]:
        """All rows, the left-out ones included, in file order."""
        import numpy as np

        return np.union1d(split.train, split.test)

    def labels(
        self, kappa: NDArray[np.float64], own: Scaler, decoder: Scaler
    ) -> NDArray[np.float64]:
        """The labels (W/(m·K)) of rows of one dataset, as `label_view` says.

        With equal scalers the two views agree and κ is returned as it is, free of round-off.
        """
        if self.view == "true" or own == decoder:
            return kappa
        return decoder.decode(own.encode(kappa))
