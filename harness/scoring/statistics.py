"""Statistics of a cell, and of the gain of one cell over another: plain functions on numbers.

A number that is missing is never dropped: one run that failed makes the mean of its cell, its
interval and every gain over it NaN.

Between cells of a leaderboard, the corrected t-test takes for n_test / n_train the shares of the
datasets' rows that a run tests and trains on. Where a cell tests on the dataset it trains on, that
is the same ratio as that of the row counts. Between datasets the counts would say more of the
datasets' sizes than of how much runs have in common: two equally good learners are called different
(p below 0.05) in 20 % of simulated studies that train on 420 of 600 rows and test on 12 of 60, and
in 0.2 % with the datasets exchanged; by shares it is 5 % both ways
(tests/scoring/test_statistics.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from harness.plugin.arrays import Floats
    from harness.plugin.protocol import Resampling

CONFIDENCE = 0.95
SIGNIFICANT = 0.05
"""A difference stands where its p-value, after Holm's correction, is below this."""

RANDOM_SPLITS: Resampling = "random splits"
NAMES: Mapping[Resampling, tuple[str, str]] = {
    RANDOM_SPLITS: ("corrected resampled t-test", "Nadeau & Bengio 2003"),
    "folds": ("corrected repeated k-fold t-test", "Bouckaert & Frank 2004"),
    "groups": ("corrected resampled t-test over the groups left out", "Nadeau & Bengio 2003"),
}
"""What `corrected_t_test` is called, and its source, by how runs share rows."""

RESAMPLES = 9999
BLOCK = 3333
"""Resamples drawn at once: memory for all of them would be asked of the system each time, and that
took as long as all the rest."""
UNROLLED = 8
"""From so many values on numpy adds those of a row in another order than one after the other: the
first eight in pairs, and as long as there are no eight more, the rest after them."""
FEW = 4
"""So many draws are looked up at once where there are as many values: n⁴ sums, 6,561 for nine."""
SAME = 1e-12
"""Differences that vary by less than this share of the largest are one number, repeated."""


@dataclass(frozen=True)
class Summary:
    """A metric over the runs of a cell, in the metric's unit.

    Attributes:
        n: runs.
        mean: over the runs.
        std: standard deviation with n − 1 in the denominator.
        low, high: 95 % interval of the mean.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class TTest:
    """A two-sided t-test of mean 0.

    Attributes:
        t: the statistic.
        p: the probability of a |t| at least as large where the true mean is 0.
        df: degrees of freedom.
        low, high: 95 % interval of the mean, with the same corrected variance.
    """

    t: float
    p: float
    df: int
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Gain:
    """How much better a cell is than its baseline, in the metric's unit; positive is better.

    Attributes:
        n: runs.
        mean: over the runs.
        low, high: 95 % interval of the mean, as the corrected resampled t-test has it.
        p: of that test.
        negative: the interval lies wholly below 0: negative transfer.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    negative: bool


def summarise(values: ArrayLike, seed: int) -> Summary:
    """Mean, standard deviation and bootstrap interval of the mean over runs.

    The interval is the percentile bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap,
    1993, chapter 13) of 9999 resamples. For the mean of nine runs BCa covers no better (0.90
    against 0.90 for normal values, 0.82 against 0.80 for strongly skewed ones, where 0.95 is
    meant), and unlike BCa it always exists and mirrors exactly when the values change sign. Like
    any bootstrap of so few values it is somewhat short. It tells how runs differ; since their
    training sets overlap, it is not an interval of the error on other materials (see
    `corrected_t_test`).

    Args:
        values: one per run; NaN where a run has none.
        seed: of the resamples: the same seed and values give the same interval.

    Returns:
        With a value that is not finite, and without values, everything but n is NaN. A single
        value has a mean, but no std and no interval (NaN). Equal values have std 0 and an interval
        of no length.
    """
    return summaries(_one_per_run(values)[None], lambda _: seed)[0]


def summaries(values: Floats, seed_of: Callable[[int], int]) -> list[Summary]:
    """Summarises many cells at once, which costs a tenth but for the resamples.

    Args:
        values: cells × runs, see `summarise`.
        seed_of: the seed of a cell, by its position; not asked where nothing is drawn.
    """
    n = values.shape[1]
    made = [Summary(n, math.nan, math.nan, math.nan, math.nan)] * len(values)
    places = np.flatnonzero(np.isfinite(values).all(axis=1)) if n else np.array([], dtype=int)
    known = values[places]
    if n == 1 or not len(places):
        for place, (only,) in zip(places.tolist(), known.tolist(), strict=True):
            made[place] = Summary(1, only, math.nan, math.nan, math.nan)
        return made
    means, stds = known.mean(axis=1).tolist(), known.std(axis=1, ddof=1).tolist()
    lowest, highest = known.min(axis=1).tolist(), known.max(axis=1).tolist()
    for number, place in enumerate(places.tolist()):
        ends = lowest[number], highest[number]
        if ends[0] == ends[1]:  # said exactly, where sums would round
            made[place] = Summary(n, ends[0], 0.0, *ends)
        elif n == 2:
            made[place] = Summary(n, means[number], stds[number], *_interval_of_two(*ends))
        else:
            interval = _bootstrap_interval(known[number], np.random.default_rng(seed_of(place)))
            made[place] = Summary(n, means[number], stds[number], *interval)
    return made


def _places_of_interval() -> list[float]:
    """Where the ends of an interval stand among the ordered means of the resamples."""
    tail = (1 - CONFIDENCE) / 2
    return [share * (RESAMPLES - 1) for share in (tail, 1 - tail)]


def _interval_of_two(lower: float, higher: float) -> tuple[float, float]:
    """What `_bootstrap_interval` makes of two values, with nothing drawn.

    A quarter of all resamples hold the lower one twice, and a quarter the higher one. That they are
    not even the fortieth part that lies outside of the interval has a chance of 10⁻⁸⁵⁰.
    """
    low, high = _places_of_interval()
    return _between(lower, lower, low), _between(higher, higher, high)


def _bootstrap_interval(x: Floats, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap's interval of the mean, to the last bit as scipy's.

    Written out here: scipy's spends most of its time on checking what it is given, and loading it
    takes longer than a table.
    """
    # the same numbers as without a type, in half of the time
    shape, kind = (BLOCK, len(x)), np.int32
    blocks = (rng.integers(0, len(x), shape, kind) for _ in range(RESAMPLES // BLOCK))
    means = np.concatenate(_sums(x, blocks)) / len(x)
    places = _places_of_interval()
    means.partition([int(place) + step for place in places for step in (0, 1)])
    low, high = (_between(means[int(place)], means[int(place) + 1], place) for place in places)
    return low, high


def _sums(x: Floats, blocks: Iterable[NDArray[np.int32]]) -> list[Floats]:
    """The sums of resamples, added in numpy's order, but of all at once: a fifth of the time.

    Args:
        x: the values.
        blocks: resamples × runs: positions of what was drawn.
    """
    n = len(x)
    if n >= 2 * UNROLLED:
        return [np.asarray(x.take(drawn).sum(axis=-1)) for drawn in blocks]
    table, several = _sums_of_several(x)
    looked_up = UNROLLED if n >= UNROLLED else several
    found = []
    for drawn in blocks:
        sums = np.zeros(len(drawn))
        for start in range(0, looked_up, several):
            place, *more = drawn.T[start : start + several]
            for position in more:
                place = place * n + position
            sums += table.take(place)
        for position in drawn.T[looked_up:]:
            sums += x.take(position)
        found.append(sums)
    return found


def _sums_of_several(x: Floats) -> tuple[Floats, int]:
    """The sums of all that the first few draws may be, and how many these are."""
    pairs = np.add.outer(x, x).ravel()
    if len(x) < FEW:
        return pairs, 2
    if len(x) < UNROLLED:
        return np.add.outer(np.add.outer(pairs, x), x).ravel(), FEW
    return np.add.outer(pairs, pairs).ravel(), FEW


def _between(below: float, above: float, place: float) -> float:
    """The value at a place between those of two, linear (type 7 of Hyndman and Fan)."""
    share = place - int(place)
    return float((1 - share) * below + share * above)


def corrected_t_test(differences: ArrayLike, n_train: ArrayLike, n_test: ArrayLike) -> TTest:
    """The corrected resampled t-test of mean 0, two-sided.

    Runs train on overlapping parts of one dataset, so their differences d are correlated and the
    paired t-test finds differences where there are none. The correction assumes a correlation of
    n_test / (n_test + n_train), which gives, with s² of n − 1 in the denominator,

        t = mean(d) / sqrt((1 / n + n_test / n_train) · s²),   n − 1 degrees of freedom

    (Nadeau & Bengio, Inference for the Generalization Error, Machine Learning 52, 239–281, 2003).
    With `n_test` 0 it is the ordinary paired t-test.

    For the k·r runs of a k-fold cross-validation that is repeated r times the same variance holds,
    with the rows of a fold (Bouckaert & Frank, Evaluating the Replicability of Significance Tests
    for Comparing Learning Algorithms, PAKDD 2004). For runs that each leave out another group, the
    mean rows of a group stand for those of a run: s² then holds how groups differ too, and the
    interval is one of the mean over groups such as these. None of them is exact: the variance of
    cross-validation has no unbiased estimate (Bengio & Grandvalet, JMLR 5, 1089–1105, 2004).

    Args:
        differences: one per run; NaN where a run has none.
        n_train: training rows of a run; where runs differ, one per run, and their mean counts.
        n_test: test rows, likewise. Only the ratio of the two matters.

    Returns:
        All but df is NaN where a difference is not finite, with fewer than two runs, and where all
        differences are the same number: runs that repeat each other say nothing of the spread.
        Only if that number is 0 is the case clear: t = 0 and p = 1.

    Raises:
        ValueError: `n_train` is not above 0, or `n_test` is below 0.
    """
    d, train, test = (_one_per_run(given) for given in (differences, n_train, n_test))
    return _corrected_t_tests(d[None], train[None], test[None])[0]


def _corrected_t_tests(d: Floats, n_train: Floats, n_test: Floats) -> list[TTest]:
    """Makes many tests at once; all arguments are tests × runs, see `corrected_t_test`."""
    train, test = n_train.mean(axis=1), n_test.mean(axis=1)
    for one, other in zip(train.tolist(), test.tolist(), strict=True):
        if not (one > 0 and other >= 0):
            raise ValueError(f"expected n_train > 0 and n_test >= 0, got {one:g} and {other:g}")
    n = d.shape[1]
    df = max(n - 1, 0)
    made = [TTest(math.nan, math.nan, df)] * len(d)
    if n < 2:
        return made
    nothing = ~d.any(axis=1)
    for place in np.flatnonzero(nothing).tolist():
        made[place] = TTest(0.0, 1.0, df, 0.0, 0.0)
    finite = np.isfinite(d).all(axis=1) & ~nothing
    varies = np.flatnonzero(finite)[
        np.ptp(d[finite], axis=1) > SAME * np.abs(d[finite]).max(axis=1)
    ]
    if not len(varies):
        return made
    from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to load

    mean = d[varies].mean(axis=1)
    error = np.sqrt(1 / n + test[varies] / train[varies]) * d[varies].std(axis=1, ddof=1)
    t = mean / error
    reach = stdtrit(df, 0.5 + CONFIDENCE / 2) * error
    columns = (t, 2 * stdtr(df, -np.abs(t)), mean - reach, mean + reach)
    rows = zip(varies.tolist(), *(column.tolist() for column in columns), strict=True)
    for place, statistic, p, low, high in rows:
        made[place] = TTest(statistic, p, df, low, high)
    return made


def paired_gain(
    ours: ArrayLike,
    baseline: ArrayLike,
    higher_is_better: bool,
    n_train: ArrayLike,
    n_test: ArrayLike,
) -> Gain:
    """The gain of a cell over its baseline: ours − baseline, or the reverse where lower is better.

    Interval and p-value are those of `corrected_t_test`, which know that runs share their rows. A
    bootstrap over runs does not: it calls 18 % of equal learners negative transfer (nine runs).

    Args:
        ours: the metric, one value per run.
        baseline: likewise, the same runs in the same order.
        higher_is_better: the direction of the metric.
        n_train: as in `corrected_t_test`.
        n_test: likewise.

    Raises:
        ValueError: the two differ in length.
    """
    a, b, train, test = (_one_per_run(given) for given in (ours, baseline, n_train, n_test))
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs cannot be paired with {len(b)}")
    return paired_gains(a[None], b[None], higher_is_better, train[None], test[None])[0]


def paired_gains(
    ours: Floats, baseline: Floats, higher_is_better: bool, n_train: Floats, n_test: Floats
) -> list[Gain]:
    """Many gains at once, which costs little more than one.

    Args:
        ours: as in `paired_gain`, cells × runs; and so is all that follows.
        baseline: likewise.
        higher_is_better: the direction of the metric.
        n_train: likewise; or cells × 1.
        n_test: likewise.
    """
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, and is kept
        gains = ours - baseline if higher_is_better else baseline - ours
    n = gains.shape[1]
    known = np.isfinite(gains).all(axis=1) if n else np.zeros(len(gains), dtype=bool)
    means = np.full(len(gains), math.nan)
    means[known] = gains[known].mean(axis=1)
    return [
        Gain(n, mean, test.low, test.high, test.p, test.high < 0)
        for mean, test in zip(
            means.tolist(), _corrected_t_tests(gains, n_train, n_test), strict=True
        )
    ]


def holm(p_values: ArrayLike) -> Floats:
    """Adjusts the p-values of one family of tests so that the family errs with 5 % at most.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 65–70, 1979. A test that could not be made (NaN) stays NaN, and the family is
    that much smaller. Written out here: statsmodels' has Python collect its garbage at every call,
    which took two thirds of the time that a table takes.
    """
    p = _one_per_run(p_values)
    made = ~np.isnan(p)
    adjusted = np.full(len(p), math.nan)
    known = p[made]
    order = np.argsort(known, kind="stable")
    # the smallest counts n times, the next n − 1 times, …; none is below one before it, or above 1
    steps = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    stepped = np.empty(len(known))
    stepped[order] = np.minimum(steps, 1.0)
    adjusted[made] = stepped
    return adjusted


class OneMoreTest:
    """Holm's correction of one further test beside a family, for as many as come, one at a time.

    Args:
        p_values: of the family, as in `holm`.
    """

    def __init__(self, p_values: ArrayLike) -> None:
        p = _one_per_run(p_values)
        self._known = np.sort(p[~np.isnan(p)])
        times = np.arange(len(self._known) + 1, 1, -1)
        self._steps = np.maximum.accumulate(self._known * times)

    def adjust(self, p: float) -> float:
        """Returns what `holm` makes of it as the last of all."""
        place = int(np.searchsorted(self._known, p, side="right"))
        before = float(self._steps[place - 1]) if place else 0.0
        return min(max(p * (len(self._known) + 1 - place), before), 1.0)


def _one_per_run(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1)
