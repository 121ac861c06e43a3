"""Every configuration of a leaderboard against every other, paired by run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from harness.apps.site.html_tables import p_value
from harness.apps.site.results import LeaderboardCell, Results
from harness.report.differences import CellName, Difference, Differences, Verdict, stands_text
from harness.report.tables import Wording, number_text

Row = tuple[str, str, str, str, float | None, float | None, float | None, str, str, Verdict, int]
"""Train-on, test-on, `mean (std)` of A and of B, gain of B over A and its interval, p, p after
Holm, the verdict: see `VERDICTS`, and the number of tests that it holds among."""

VERDICTS: Mapping[Verdict, str] = {
    "unknown": "cannot be told",
    "none": "no difference seen",
    "better": f"B is better, {stands_text('better', '{tests}')}",
    "better?": f"B is better, {stands_text('better?', '{tests}')}",
    "worse": f"B is worse, {stands_text('worse', '{tests}')}",
    "worse?": f"B is worse, {stands_text('worse?', '{tests}')}",
}
"""What the interval shows, and whether it stands in the family of the leaderboard."""


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


class Comparisons:
    """Compares all pairs of configurations of a leaderboard that can be compared.

    These are pairs of one protocol, with the same runs, tested on as many rows; see `Differences`.
    (`comparison.compare` does the same for one pair, and looks at every row.)
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self._places = tuple(dict.fromkeys(cell.place for cell in results.cells))

    def pairs(self, metric: str) -> Iterator[Pair]:
        """Yields all pairs, compared by one metric."""
        differences = Differences(self.results.leaderboard, self.results.metrics[metric])
        texts = self._texts(metric)
        places = list(self._comparable(differences))
        found = differences.between_each([(b.name, a.name) for _, a, b in places])
        rows: dict[tuple[int, int], list[Row]] = {}
        for (pair, a, b), difference in zip(places, found, strict=True):
            row = _row(a.place, (texts[a.name], texts[b.name]), difference)
            rows.setdefault(pair, []).append(row)
        yield from (Pair(*pair, tuple(own)) for pair, own in rows.items())

    def _comparable(
        self, differences: Differences
    ) -> Iterator[tuple[tuple[int, int], LeaderboardCell, LeaderboardCell]]:
        """Yields the positions of two configurations, and two cells of theirs with one place."""
        protocol = self.results.model.index("protocol")
        for (i, one), (j, other) in combinations(enumerate(self.results.configurations), 2):
            if one[protocol] != other[protocol]:
                continue
            for place in self._places:
                a, b = (self.results.matrices[which].get(place) for which in (one, other))
                if a and b and differences.comparable(a.name, b.name):
                    yield (i, j), a, b

    def _texts(self, metric: str) -> dict[CellName, str]:
        """The `mean (std)` of all cells."""
        runs = self.results.leaderboard.settings["runs"]
        entries = self.results.entries[metric, "all"]
        return {name: number_text(entry, Wording(), runs) for name, entry in entries.items()}


def _row(place: tuple[str, str], texts: tuple[str, str], found: Difference) -> Row:
    (train_on, test_on), (a, b), gain = place, texts, found.gain
    mean, low, high = (_finite(value) for value in (gain.mean, gain.low, gain.high))
    p, adjusted = (p_value(value).text for value in (gain.p, found.p_holm))
    return (train_on, test_on, a, b, mean, low, high, p, adjusted, found.verdict, found.tests)


def _finite(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
