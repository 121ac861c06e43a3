"""Every configuration of a leaderboard against every other, paired by run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from harness.apps.site.html_tables import p_value
from harness.apps.site.results import Configuration, Results
from harness.report.tables import Wording, number_text
from harness.scoring.statistics import SIGNIFICANT, Gain, holm, paired_gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


@dataclass(frozen=True, eq=False)
class _Runs:
    """The runs of a cell, one entry each; pandas would take longer than the tests themselves."""

    rows: NDArray[np.float64]
    train_share: NDArray[np.float64]
    test_share: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]


class Comparisons:
    """Compares all pairs of configurations of a leaderboard that can be compared.

    These are pairs of one protocol, with the same runs, tested on as many rows. The gain of B over
    A is paired by run and tested by the corrected resampled t-test; p is Holm-corrected over the
    cells of the pair. (`comparison.compare` does the same for one pair, and looks at every row.)
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self._runs = {
            name: _read_runs(results, name)
            for name, score in results.entries[results.leaderboard.metrics[0], "all"].items()
            if score.runs
        }
        self._places = tuple(dict.fromkeys(cell.place for cell in results.cells))

    def pairs(self, metric: str) -> Iterator[Pair]:
        """Yields all pairs, compared by one metric."""
        protocol = self.results.model.index("protocol")
        for (i, one), (j, other) in combinations(enumerate(self.results.configurations), 2):
            if one[protocol] == other[protocol] and (rows := self._rows(metric, one, other)):
                yield Pair(i, j, rows)

    def _rows(self, metric: str, one: Configuration, other: Configuration) -> tuple[Row, ...]:
        found = []
        for place in self._places:
            cells = [self.results.matrices[which].get(place) for which in (one, other)]
            names = [cell.name for cell in cells if cell is not None]
            a, b = (self._runs.get(cell.name) if cell else None for cell in cells)
            if a is None or b is None or not np.array_equal(a.rows, b.rows):
                continue
            gain = paired_gain(
                b.scores[metric],
                a.scores[metric],
                self.results.metrics[metric].higher_is_better,
                n_train=np.minimum(a.train_share, b.train_share),
                n_test=np.maximum(a.test_share, b.test_share),
            )
            texts = [_text(self.results, metric, name) for name in names]
            found.append((place, texts, gain))
        adjusted = holm([gain.p for _, _, gain in found])
        return tuple(
            _row(place, texts, gain, p_holm)
            for (place, texts, gain), p_holm in zip(found, adjusted, strict=True)
        )


def _read_runs(results: Results, name: tuple[str, ...]) -> _Runs:
    frame = results.leaderboard.runs_of(name)
    scores = {metric: frame[metric].to_numpy(dtype=np.float64) for metric in results.metrics}
    return _Runs(
        rows=frame[["run", "n"]].to_numpy(dtype=np.float64),
        train_share=frame["train_share"].to_numpy(dtype=np.float64),
        test_share=frame["test_share"].to_numpy(dtype=np.float64),
        scores=scores,
    )


def _text(results: Results, metric: str, name: tuple[str, ...]) -> str:
    entry = results.entries[metric, "all"].get(name)
    return number_text(entry, Wording(), results.leaderboard.settings["runs"])


def _row(place: tuple[str, str], texts: list[str], gain: Gain, p_holm: float) -> Row:
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
