"""Committees again: each of their rows is the mean of what the cells of their members hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin.cell import COMMITTEE
from harness.results.store import SPREAD_COLUMNS
from harness.scoring.averages import combine

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.plan import Plan, Scoring
    from harness.scoring.averages import Predicted

TOLERANCE = 1e-6
"""Relative; logarithms and powers differ in the last bits between machines."""

ReadRows = Callable[[str], "pd.DataFrame | None"]


def compare_committees(plan: Plan, read_rows: ReadRows) -> Iterator[tuple[Scoring, int, bool]]:
    """Yields cells of committees, run by run, and whether they hold the mean of their members.

    Runs of which a member has no rows are left out.

    Args:
        plan: laid out from the data.
        read_rows: returns the stored rows of a cell; none where they are not there.
    """
    column = SPREAD_COLUMNS[plan.property.scale]
    alone = {
        (member.stage.key, member.index, id(one.dataset), run): (one.key, rows)
        for one in plan.scorings
        for run, (member, *others), rows in zip(one.runs, one.sources, one.rows, strict=True)
        if not others
    }

    def stored(key: str, run: int) -> Iterator[Predicted]:
        if (frame := read_rows(key)) is not None:
            rows = frame[frame["run"] == run]
            stds = rows[column].to_numpy() if column in rows else None
            yield rows["prediction"].to_numpy(), stds

    for scoring in plan.scorings:
        if scoring.cell.transfer != COMMITTEE:
            continue
        for run, sources, rows in zip(scoring.runs, scoring.sources, scoring.rows, strict=True):
            places = [(own.stage.key, own.index, id(scoring.dataset), run) for own in sources]
            found = [alone[place] for place in places if place in alone]
            members = [
                one for key, own in found if np.array_equal(own, rows) for one in stored(key, run)
            ]
            if len(members) == len(sources):
                mean = combine(members, plan.property, scoring.weighting)
                for own in stored(scoring.key, run):
                    yield scoring, run, _same(own, mean)


def _same(found: Predicted, expected: Predicted) -> bool:
    """Whether predictions are equal, and their standard deviations where there are to be some."""
    (values, stds), (mean, spread) = found, expected
    if (stds is None) != (spread is None) or values.shape != mean.shape:
        return False
    pairs = [(values, mean)] if stds is None or spread is None else [(values, mean), (stds, spread)]
    return all(np.allclose(a, b, rtol=TOLERANCE, atol=0.0, equal_nan=True) for a, b in pairs)
