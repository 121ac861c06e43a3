"""Every configuration of a leaderboard against every other, paired by run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from harness.site.results import PLACE, Configuration, Results
from harness.site.tables import p_value
from harness.statistics import SIGNIFICANT, Gain, holm, paired_gain
from harness.tables import Wording, number_text

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[str, str, str, str, float | None, float | None, float | None, str, str, str]
"""Train-on, test-on, `mean (std)` of A and of B, gain of B over A and its interval, p, p after
Holm, and the verdict: see `VERDICTS`."""

VERDICTS = {
    "unknown": "cannot be told",
    "none": "no difference seen",
    "better": "B is better",
    "better?": "B is better, but not after Holm",
    "worse": "B is worse",
    "worse?": "B is worse, but not after Holm",
}
"""What the interval shows, and whether it stands among the cells of the pair."""


@dataclass(frozen=True)
class Pair:
    """Two configurations, compared wherever both have the same runs.

    Attributes:
        first, second: positions of A and B in `Results.configurations`.
        rows: one per place in the matrix.
    """

    first: int
    second: int
    rows: tuple[Row, ...]


def compare_all(results: Results, metric: str) -> Iterator[Pair]:
    """Yields all pairs that can be compared: of one protocol, so that runs share their test rows.

    The gain of B over A is paired by run and tested by the corrected resampled t-test; p is
    Holm-corrected over the cells of the pair.
    """
    protocol = results.model.index("protocol")
    for (i, one), (j, other) in combinations(enumerate(results.configurations), 2):
        if one[protocol] == other[protocol]:
            rows = _rows(results, metric, one, other)
            if rows:
                yield Pair(i, j, rows)


def _rows(
    results: Results, metric: str, one: Configuration, other: Configuration
) -> tuple[Row, ...]:
    found = []
    scores = results.entries[metric, "all"]
    places = dict.fromkeys(tuple(cell[column] for column in PLACE) for cell in results.plan)
    for place in places:
        names = [_cell(results, configuration, place) for configuration in (one, other)]
        if not all(name in scores and scores[name].runs for name in names):
            continue
        a, b = (results.board.runs_of(name) for name in names)
        if not _same_rows(a, b):
            continue
        gain = paired_gain(
            b[metric],
            a[metric],
            results.metrics[metric].higher_is_better,
            n_train=np.minimum(a["train_share"].to_numpy(), b["train_share"].to_numpy()),
            n_test=np.maximum(a["test_share"].to_numpy(), b["test_share"].to_numpy()),
        )
        texts = [_text(results, metric, name) for name in names]
        found.append((place, texts, gain))
    adjusted = holm([gain.p for _, _, gain in found])
    return tuple(
        _row(place, texts, gain, p_holm)
        for (place, texts, gain), p_holm in zip(found, adjusted, strict=True)
    )


def _same_rows(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    """Whether two cells of one protocol and place have the same runs, of as many rows."""
    shared = ["run", "n"]
    return bool(np.array_equal(a[shared].to_numpy(), b[shared].to_numpy()))


def _cell(
    results: Results, configuration: Configuration, place: tuple[str, ...]
) -> tuple[str, ...]:
    named = dict(zip(results.model, configuration, strict=True))
    return results.name_of(named | dict(zip(PLACE, place, strict=True)))


def _text(results: Results, metric: str, name: tuple[str, ...]) -> str:
    entry = results.entries[metric, "all"].get(name)
    return number_text(entry, Wording(), results.board.settings["runs"])


def _row(place: tuple[str, ...], texts: list[str], gain: Gain, p_holm: float) -> Row:
    (train_on, test_on), (a, b) = place, texts
    mean, low, high = (_finite(value) for value in (gain.mean, gain.low, gain.high))
    p, adjusted = (p_value(value).text for value in (gain.p, p_holm))
    return (train_on, test_on, a, b, mean, low, high, p, adjusted, _verdict(gain, p_holm))


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _verdict(gain: Gain, p_holm: float) -> str:
    """Returns a key of `VERDICTS`."""
    if math.isnan(gain.p):
        return "unknown"
    if not (gain.low > 0 or gain.high < 0):
        return "none"
    what = "better" if gain.low > 0 else "worse"
    return what if p_holm < SIGNIFICANT else f"{what}?"
