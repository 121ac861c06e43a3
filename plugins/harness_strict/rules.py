"""Rules of the strict protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from harness.plugin import DataError, Settings, Split, derive_seed
from harness_strict.sides import LeakFreeRules

if TYPE_CHECKING:
    from harness.plugin import Indices

_SIDES = 3


class StrictSettings(Settings):
    """Settings of `strict`: shares of the rows; what they leave is the test share.

    Attributes:
        train: share of the rows to train on.
        validation: share of the rows to select on.
        keep: share of these training rows that is trained on, for learning curves: whole groups,
            and less is always a part of more. Validation and test rows stay as they are.
        keep_other_properties: let source stages on another property than the target's keep the
            crystals of test rows.
    """

    train: float = Field(default=0.7, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    keep: float = Field(default=1.0, gt=0, le=1)
    keep_other_properties: bool = False

    @model_validator(mode="after")
    def _leave_a_test_share(self) -> Self:
        if self.train + self.validation >= 1:
            raise ValueError("train + validation must be less than 1: the rest is the test share")
        return self


class StrictRules(LeakFreeRules):
    """Grouped split, scaler from training rows, selection on validation rows."""

    def __init__(self, settings: StrictSettings) -> None:
        self.settings = settings
        self.keep_other_properties = settings.keep_other_properties

    def split(self, formulas: Sequence[str], run: int, seed: int) -> Split:
        """Splits rows so that no formula is on two sides.

        The groups are shuffled, laid end to end, and cut at the two group boundaries nearest to the
        wanted shares of rows. So training and test rows miss their share by half a group at most
        and validation rows by one, unless groups are so few that a side would be left empty: each
        gets one group at least.

        Args:
            formulas: reduced formula of each row.
            run: not looked at; the seed differs from run to run.
            seed: decides the order of the groups.

        Returns:
            Row positions, ascending on each side.

        Raises:
            DataError: fewer than three groups.
        """
        import numpy as np

        # scikit-learn's GroupShuffleSplit takes its shares as numbers of groups, not of rows, and
        # its grouped folds are of equal size: hence a cut of our own.
        sizes = Counter(formulas)
        if len(sizes) < _SIDES:
            raise DataError(
                f"The strict protocol needs rows of at least {_SIDES} different reduced formulas "
                "(groups), one each for training, validation and test; the number of groups among "
                f"the {len(formulas)} rows is {len(sizes)}. Use a larger dataset."
            )
        order = sorted(sizes, key=lambda group: derive_seed(seed, group))
        ends = np.cumsum([sizes[group] for group in order])
        first, second = self._cuts(ends)
        kept = int(np.argmin(np.abs(ends[:first] - self.settings.keep * ends[first - 1]))) + 1
        sides = (order[:kept], order[first:second], order[second:])
        names = np.array(formulas)
        return Split(*(np.flatnonzero(np.isin(names, own)) for own in sides))

    def _cuts(self, ends: Indices) -> tuple[int, int]:
        """How many groups end before each of the two cuts, given the row number each ends at."""
        import numpy as np

        rows, last = ends[-1], len(ends) - 1
        wanted = self.settings.train, self.settings.train + self.settings.validation
        first, second = (int(np.argmin(np.abs(ends - share * rows))) + 1 for share in wanted)
        first = min(first, last - 1)
        return first, min(max(second, first + 1), last)
