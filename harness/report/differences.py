"""The differences between cells of a leaderboard, and what may be said of them: judged here only.

A leaderboard has one family of tests by one metric on one kind of rows, whatever page or table
shows them, and Holm's correction is over that family: the gains over scratch, which are what a
leaderboard asks. One without scratch asks for the best, and its family are the differences of all
cells from the best of the same train-on → test-on. Any other difference that is shown, as of two
cells that somebody chose, counts as one further test. So a difference has one verdict in a
leaderboard; in another leaderboard, which has other tests, it may have another.

The best was chosen by the same numbers, so that a difference from it is, if anything, too easily
said to stand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.errors import BenchmarkError, StoreError, did_you_mean
from harness.plugin.cell import BASELINE, CELL, COMMITTEE, DEFAULT, FIXED
from harness.report.leaderboard import has_enough_rows, is_mostly_trained_on
from harness.scoring.statistics import SIGNIFICANT, Gain, OneMoreTest, holm, paired_gains

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats
    from harness.plugin.metric import MetricSpec
    from harness.report.leaderboard import Leaderboard

CellName = tuple[str, ...]
"""What tells a cell apart, as `Leaderboard.identity`."""

Verdict = Literal["unknown", "none", "better", "better?", "worse", "worse?"]
"""What the interval of a difference shows; with a question mark what the correction leaves open."""

WITHOUT_SCRATCH = (FIXED, COMMITTEE)
"""Transfers of configurations that cannot be trained from scratch."""

SCRATCH = {"transfer": "scratch"}
"""What the default baseline of a cell has in place of the cell's own; the rest is the same."""

GAINS = "gains over scratch"
FROM_BEST = "differences from the best of each train-on → test-on"

PLACE = ("protocol", "train_on", "test_on")
"""Cells that have these in common are tested on the same rows, and had the same to learn from."""


@dataclass(frozen=True)
class Difference:
    """How much better one cell is than another, and how that stands in the leaderboard's family.

    Attributes:
        gain: paired by run.
        p_holm: its p after Holm's correction.
        tests: how many the family has, this one included.
    """

    gain: Gain
    p_holm: float
    tests: int

    @property
    def verdict(self) -> Verdict:
        """What may be said of it."""
        return judge(self.gain.low, self.gain.high, self.p_holm)


def judge(low: float, high: float, p_holm: float) -> Verdict:
    """Says what a difference comes to.

    Args:
        low: lower end of its 95 % interval; NaN where no test could be made.
        high: upper end.
        p_holm: its p within its family.
    """
    if math.isnan(low):
        return "unknown"
    if low <= 0 <= high:
        return "none"
    stands = p_holm < SIGNIFICANT
    if low > 0:
        return "better" if stands else "better?"
    return "worse" if stands else "worse?"


def stands_text(verdict: Verdict, tests: int | str) -> str:
    """Says whether a difference that the interval shows stands, and among how many tests."""
    does = "does not stand" if verdict.endswith("?") else "stands"
    return f"{does} among {tests} tests"


@dataclass(frozen=True, eq=False)
class _Runs:
    """The runs of a cell, one entry each; pandas would take longer than the tests themselves."""

    runs: NDArray[np.int64]
    n: NDArray[np.int64]
    train_share: Floats
    test_share: Floats
    scores: Floats

    def rest_on_the_rows_of(self, other: _Runs) -> bool:
        return self._rows == other._rows

    @cached_property
    def _rows(self) -> tuple[bytes, bytes]:
        return self.runs.tobytes(), self.n.tobytes()


class Differences:
    """The differences of one leaderboard by one metric, on one kind of rows.

    Attributes:
        best: the cells with the best mean of their train-on → test-on, equal ones all. Cells that
            lack runs take no part, nor do those that are mostly trained on, or that nobody could
            check; nor one that is alone.
        incomparable: train-on → test-on whose cells rest on different rows: none is the best.
    """

    def __init__(self, leaderboard: Leaderboard, metric: MetricSpec, subset: str = "all") -> None:
        self._leaderboard, self._metric, self._subset = leaderboard, metric, subset
        self._summary: dict[CellName, Any] = {
            tuple(row[column] for column in leaderboard.identity): row
            for row in leaderboard.summary_rows(subset, metric.name)
        }
        self._cells = {
            name: _read_runs(leaderboard, name, subset, metric.name)
            for name, row in self._summary.items()
            if row["runs"]
        }
        self.best: set[CellName] = set()
        self.incomparable: dict[str, None] = {}
        self._best_of: dict[CellName, CellName] = {}
        self._find_best()

    @property
    def best_of(self) -> Mapping[CellName, CellName]:
        """Every cell that is held against others → the best of its train-on → test-on."""
        return self._best_of

    # --- the family ---------------------------------------------------------------------------

    @property
    def family(self) -> str:
        """Which differences the family has."""
        return GAINS if self._gains_over_scratch else FROM_BEST

    @property
    def tests(self) -> int:
        """How many tests the family has; one that could not be made does not count."""
        return len(self._known)

    def comparable(self, one: CellName, other: CellName) -> bool:
        """Whether two cells have the same runs, tested on as many rows."""
        ours, theirs = self._cells.get(one), self._cells.get(other)
        return ours is not None and theirs is not None and ours.rest_on_the_rows_of(theirs)

    def between(self, ours: CellName, baseline: CellName) -> Difference:
        """Compares two cells that have the same runs; positive says that the first is better.

        Raises:
            ValueError: they have other runs.
        """
        return self.between_each([(ours, baseline)])[0]

    def between_each(self, pairs: Sequence[tuple[CellName, CellName]]) -> list[Difference]:
        """Compares many pairs as `between` does one, in a tenth of the time."""
        return [
            Difference(gain, *self.adjust(*pair, gain.p))
            for pair, gain in zip(pairs, self._gains_of(pairs), strict=True)
        ]

    def adjust(self, ours: CellName, baseline: CellName, p: float) -> tuple[float, int]:
        """Corrects the p of the difference of two cells; returns it with the number of tests."""
        pair = frozenset((ours, baseline))
        if pair in self._family:
            return self._family[pair], self.tests
        if math.isnan(p):
            return p, self.tests
        return self._one_more.adjust(p), self.tests + 1

    def is_undecided(self, name: CellName) -> bool:
        """Whether the paired test does not tell a cell from the best of its train-on → test-on."""
        return name in self._undecided

    @cached_property
    def _undecided(self) -> set[CellName]:
        pairs = [pair for pair in self._best_of.items() if pair[0] not in self.best]
        found = zip(pairs, self.between_each(pairs), strict=True)
        return {name for (name, _), held in found if held.p_holm >= SIGNIFICANT}

    @cached_property
    def _gains_over_scratch(self) -> list[tuple[CellName, CellName]]:
        return [pair for pair in self._pairs(SCRATCH) if not self._problem(*pair)]

    @cached_property
    def _p_values(self) -> dict[frozenset[CellName], float]:
        """What was tested, by the two cells."""
        from_best = [pair for pair in self._best_of.items() if pair[0] != pair[1]]
        pairs = self._gains_over_scratch or from_best
        gains = self._gains_of(pairs)
        return {frozenset(pair): gain.p for pair, gain in zip(pairs, gains, strict=True)}

    @cached_property
    def _known(self) -> list[float]:
        return [p for p in self._p_values.values() if not math.isnan(p)]

    @cached_property
    def _one_more(self) -> OneMoreTest:
        return OneMoreTest(self._known)

    @cached_property
    def _family(self) -> dict[frozenset[CellName], float]:
        adjusted = holm(list(self._p_values.values()))
        return dict(zip(self._p_values, map(float, adjusted), strict=True))

    # --- the best -----------------------------------------------------------------------------

    def _find_best(self) -> None:
        places: dict[CellName, list[CellName]] = {}
        for name in self._shown():
            if self._competes(name):
                row = self._summary[name]
                places.setdefault(tuple(row[c] for c in PLACE), []).append(name)
        for (_, train_on, test_on), names in places.items():
            most = max(self._summary[name]["runs"] for name in names)
            rivals = [name for name in names if self._summary[name]["runs"] == most]
            first = self._cells[rivals[0]]
            if not all(self._cells[name].rest_on_the_rows_of(first) for name in rivals):
                self.incomparable[f"{train_on} → {test_on}"] = None
            elif len(rivals) > 1:
                self._mark(rivals)

    def _mark(self, rivals: Sequence[CellName]) -> None:
        means = np.array([self._cells[name].scores.mean() for name in rivals])
        top = int(np.argmax(means if self._metric.higher_is_better else -means))
        for name, mean in zip(rivals, means, strict=True):
            self._best_of[name] = rivals[top]
            if mean == means[top]:
                self.best.add(name)

    def _competes(self, name: CellName) -> bool:
        row = self._summary[name]
        return (
            has_enough_rows(row)
            and not math.isnan(row[self._metric.name])
            and not is_mostly_trained_on(row["trained_on"])
            and row.get("trust") != "unchecked"
        )

    def _shown(self) -> Iterator[CellName]:
        """Yields cells that have runs; of equal ones that tables show as one, the first."""
        if not self._leaderboard.shown_as:
            yield from self._cells
            return
        seen: set[CellName] = set()
        for name in self._cells:
            own = dict(zip(self._leaderboard.identity, name, strict=True))
            shown = tuple({**own, **self._leaderboard.shown_as.get(name, {})}.values())
            if shown not in seen:
                seen.add(shown)
                yield name

    # --- gains --------------------------------------------------------------------------------

    def gains(
        self,
        baseline: Mapping[str, str] | None = None,
        *,
        only: Mapping[str, Sequence[str]] | None = None,
        lenient: bool = False,
    ) -> pd.DataFrame:
        """The gains of all cells over their baselines.

        Args:
            baseline: what a baseline has in place of the cell's own, by column of `CELL`; default
                `SCRATCH`: the same backbone, head, protocol and datasets without transfer. A
                trivial one is named by `{"backbone": …, "head": "nearest", "transfer":
                "baseline"}`.
            only: the values to keep, by column; baselines are looked for among all cells.
            lenient: leave out a cell whose baseline has no run, or other runs, in place of an
                error.

        Returns:
            One row per cell, in table order, but for those that are their own baseline and the
            benchmark's trivial ones. Columns: those of `Leaderboard.identity`, `runs` (their
            number), `gain`, `low`, `high`, `p`, `p_holm`, `tests` (of the family), `negative`; as
            in `Gain` and `Difference`.

        Raises:
            BenchmarkError: `baseline` names a column that cells do not have.
            StoreError: a cell and its baseline do not have the same runs, unless `lenient`.
        """
        import pandas as pd

        identity = self._leaderboard.identity
        pairs = []
        for ours, theirs in self._pairs(SCRATCH if baseline is None else baseline):
            own = dict(zip(identity, ours, strict=True))
            if any(own[column] not in values for column, values in (only or {}).items()):
                continue
            if problem := self._problem(ours, theirs):
                if lenient:
                    continue
                raise StoreError(problem)
            pairs.append((ours, theirs))
        rows = []
        for (ours, _), found in zip(pairs, self.between_each(pairs), strict=True):
            *numbers, negative = astuple(found.gain)
            rows.append((*ours, *numbers, found.p_holm, found.tests, negative))
        columns = ["runs", "gain", "low", "high", "p", "p_holm", "tests", "negative"]
        return pd.DataFrame(rows, columns=[*identity, *columns])

    def _pairs(self, baseline: Mapping[str, str]) -> Iterator[tuple[CellName, CellName]]:
        """Yields cells with their baselines, whether or not these were run."""
        for column in baseline:
            if column not in CELL:
                raise BenchmarkError(
                    f"A baseline cannot be named by {column!r}.{did_you_mean(column, CELL)}"
                )
        identity = self._leaderboard.identity
        for name in self._shown():
            own = dict(zip(identity, name, strict=True))
            against = tuple({**own, **baseline}.values())
            if baseline == SCRATCH and own["transfer"] in WITHOUT_SCRATCH:
                continue
            if against != name and own["transfer"] != BASELINE:
                yield name, against

    def _problem(self, ours: CellName, baseline: CellName) -> str:
        """Says why the runs of a cell and its baseline are not paired; nothing where they are."""
        remedy = "Finish it with `harness run`, or name another baseline."
        if baseline not in self._cells:
            return f"{_title(baseline)}, the baseline of {_title(ours)}, has no run. {remedy}"
        for name, other in ((ours, baseline), (baseline, ours)):
            have = set(self._cells[name].runs.tolist())
            if missing := sorted(set(self._cells[other].runs.tolist()) - have):
                return (
                    f"{_title(ours)} cannot be compared with its baseline {_title(baseline)}: "
                    f"{_title(name)} lacks run {_listed(missing)}. {remedy}"
                )
        return ""

    def _gains_of(self, pairs: Sequence[tuple[CellName, CellName]]) -> list[Gain]:
        """The gains of cells; n of the t-test are shares of rows, the more cautious of the two.

        Raises:
            ValueError: two cells differ in the number of their runs.
        """
        cells = [(self._cells[ours], self._cells[baseline]) for ours, baseline in pairs]
        by_runs: dict[int, list[int]] = {}
        for place, (one, other) in enumerate(cells):
            if len(one.scores) != len(other.scores):
                raise ValueError(
                    f"{len(one.scores)} runs cannot be paired with {len(other.scores)}"
                )
            by_runs.setdefault(len(one.scores), []).append(place)
        gains: dict[int, Gain] = {}
        for places in by_runs.values():
            made = self._gains_of_equally_many([cells[place] for place in places])
            gains.update(zip(places, made, strict=True))
        return [gains[place] for place in range(len(pairs))]

    def _gains_of_equally_many(self, cells: Sequence[tuple[_Runs, _Runs]]) -> list[Gain]:
        """The gains of the first of each two cells over the second, all with as many runs."""
        scores, train, test = (
            np.array([[getattr(one, what) for one in pair] for pair in cells])
            for what in ("scores", "train_share", "test_share")
        )
        return paired_gains(
            scores[:, 0],
            scores[:, 1],
            self._metric.higher_is_better,
            n_train=train.min(axis=1),
            n_test=test.max(axis=1),
        )


def _read_runs(leaderboard: Leaderboard, name: CellName, subset: str, metric: str) -> _Runs:
    columns = ("run", "n", "train_share", "test_share", metric)
    runs, n, *shares, scores = leaderboard.values_of(name, subset, columns)
    if len(set(runs.tolist())) < len(runs):
        twice = sorted(run for run, count in Counter(runs.tolist()).items() if count > 1)
        raise StoreError(f"{_title(name)} has more than one result of run {_listed(twice)}.")
    train_share, test_share, scores = (
        values.astype(np.float64, copy=False) for values in (*shares, scores)
    )
    return _Runs(
        runs.astype(np.int64, copy=False),
        n.astype(np.int64, copy=False),
        train_share,
        test_share,
        scores,
    )


def _title(cell: CellName) -> str:
    *model, train_on, test_on = cell[: len(CELL)]
    shown = ", ".join(part for part in (*model, *cell[len(CELL) :]) if part != DEFAULT)
    return f"the cell {shown}, {train_on} → {test_on}"


def _listed(runs: Sequence[int]) -> str:
    return ", ".join(str(run) for run in runs)
