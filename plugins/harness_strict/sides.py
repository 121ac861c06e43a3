"""What the leak-free protocols share: their promises, and sides drawn by whole groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.plugin import DataError, ProtocolRules, Split, derive_seed

if TYPE_CHECKING:
    from harness.plugin import Indices


class LeakFreeRules(ProtocolRules):
    """True labels, a scaler from training rows, selection on validation rows."""

    leak_free = True
    selection = None
    offset = 0.0
    scaler_stage = "last"

    def scaler_rows(self, split: Split) -> Indices:
        """The training rows."""
        return split.train


def divide(
    groups: Sequence[str], tested: frozenset[str], seed: int, validation: float, keep: float
) -> Split:
    """Splits rows so that no group is on two sides.

    The groups that are not tested are shuffled, laid end to end and cut at the group boundary
    nearest to the wanted share: validation rows before it, training rows behind it, so that fewer
    training rows are always a part of more.

    Args:
        groups: of each row.
        tested: the groups whose rows are test rows.
        seed: decides the order of the groups.
        validation: share of the rows that are not tested.
        keep: share of the training rows that is trained on.

    Raises:
        DataError: less than two groups are not tested.
    """
    import numpy as np

    sizes = Counter(name for name in groups if name not in tested)
    if len(sizes) < 2:
        raise DataError(
            f"{len(sizes)} of {len(set(groups))} groups are left when those to be tested are left "
            "out, and training and validation need one each. Leave out another group, or use a "
            "larger dataset."
        )
    order = sorted(sizes, key=lambda name: derive_seed(seed, name))
    ends = np.cumsum([sizes[name] for name in order])
    first = min(_nearest(ends, validation * ends[-1]), len(order) - 1)
    behind = ends[first:] - ends[first - 1]
    last = first + _nearest(behind, keep * behind[-1])
    names = np.array(groups)
    sides = (order[first:last], order[:first], list(tested))
    return Split(*(np.flatnonzero(np.isin(names, own)) for own in sides))


def _nearest(ends: Indices, rows: float) -> int:
    """How many groups, at least one, end nearest to a number of rows."""
    import numpy as np

    return int(np.argmin(np.abs(ends - rows))) + 1
