"""The cells of a leaderboard laid out in rows and columns, with what stands out among them.

Plain data: every form of a table (`tables.py`), figures and pages are made from a `Pivot`. Nothing
is averaged or left out on the way: a column of the cells that varies and that nobody named becomes
one more column of the row head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BenchmarkError, did_you_mean
from harness.escaping import html_text
from harness.planning.labels import LABEL, MODEL
from harness.planning.selectors import expand_only
from harness.plugin.cell import BASELINE, SUBMISSION
from harness.report.differences import Differences
from harness.report.leaderboard import Leaderboard, has_enough_rows, is_mostly_trained_on
from harness.results.records import title_of
from harness.scoring.scores import SUBSETS
from harness.scoring.statistics import NAMES, RANDOM_SPLITS, SIGNIFICANT, Gain

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec
    from harness.report.trust import Trust

METRIC = "metric"
"""Stands among the columns of cells where a table shows several metrics."""

ALWAYS_SHOWN = (LABEL, "train_on")
"""The row head unless rows are named, whether or not they vary."""

RECORDED = (
    *("metric", "state", "runs", "n", "failed", "trained_on", "mean", "std", "low", "high"),
    *("best", "undecided"),
)
"""Fields of an entry that `Pivot.frame` has as they are."""

State = Literal["scored", "not run", "too few rows", "failed", "undefined"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """What a table shows, and where.

    Attributes:
        rows: columns of cells (`Leaderboard.identity`, `METRIC` or `LABEL`) that make the row head;
            none: the label of the configuration, and the training set.
        columns: those that make the column heads.
        metrics: by name; none: the leaderboard's first.
        only: the values to keep, by column of cells.
        subset: one of `SUBSETS`.
    """

    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("test_on",)
    metrics: tuple[str, ...] = ()
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)
    subset: str = "all"


@dataclass(frozen=True)
class PivotEntry:
    """One metric of one cell.

    Attributes:
        name: what tells the cell apart in the leaderboard, as `Leaderboard.identity`.
        cell: what tables show of it, by the same columns.
        metric: name.
        label: short name of its configuration.
        state: `scored`, or why there is no number.
        runs: how many there are.
        n: test rows per run, mean.
        failed: rows without a finite prediction, summed over runs.
        trained_on: share of its rows whose formula is in a training set of the chain.
        mean, std, low, high: over runs, as in `statistics.Summary`; NaN unless `scored`.
        best: the best mean of its train-on → test-on, as `Differences.best` of the leaderboard.
        undecided: not told apart from that best by the paired test, in the leaderboard's family.
        gain: over scratch, paired; None where there is nothing to compare with.
        stands: the gain's difference from 0 stands in the leaderboard's family.
        not_applicable: runs without test rows in its dataset.
        trust: of results that others sent, what a check has shown of them; one that is `unchecked`
            is never the best.
    """

    name: Key
    cell: Mapping[str, str]
    metric: str
    state: State
    runs: int
    n: float
    failed: int
    trained_on: float
    mean: float
    std: float
    low: float
    high: float
    best: bool = False
    undecided: bool = False
    gain: Gain | None = None
    stands: bool = False
    not_applicable: int = 0
    trust: Trust | None = None
    label: str = ""

    @property
    def negative(self) -> bool:
        """Whether it is negative transfer: the interval of the gain lies wholly below 0."""
        return self.gain is not None and self.gain.negative

    @property
    def is_mostly_trained_on(self) -> bool:
        """Whether it tells what was learnt by heart: most of its test rows were trained on."""
        return is_mostly_trained_on(self.trained_on)


@dataclass(frozen=True, eq=False)
class Pivot:
    """A table as data.

    Attributes:
        title: of the leaderboard.
        identity: the columns that tell its cells apart.
        layout: as asked for, with all that was left open filled in.
        metrics: the specs of those shown, by name.
        same: columns of cells that are the same in all entries and not shown, with their value.
        runs: planned per cell.
        row_keys, column_keys: values of the layout's rows and columns, in the order shown; equal
            values of the first row column stand together.
        entries: by row key and column key; places without a cell are absent.
        family: which tests the leaderboard makes by a metric, and by each how many.
        incomparable: train-on → test-on whose cells rest on different rows: none is called best.
        test: name of the test between configurations.
        overlap: share of the test rows whose formula is in a training set of the chain, by training
            and test set; of the cells shown, the largest. None where these rows are left out.
        notes: what the leaderboard has to say below every table; why cells of this one failed.
    """

    title: str
    identity: Key
    layout: Layout
    metrics: Mapping[str, MetricSpec]
    same: Mapping[str, str]
    runs: int
    row_keys: tuple[Key, ...]
    column_keys: tuple[Key, ...]
    entries: Mapping[tuple[Key, Key], PivotEntry]
    family: tuple[str, Mapping[str, int]] = ("", {})
    incomparable: tuple[str, ...] = ()
    test: str = NAMES[RANDOM_SPLITS][0]
    overlap: Mapping[tuple[str, str], float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line, as a notebook's lists show it."""
        size = f"{len(self.row_keys)} × {len(self.column_keys)}"
        return f"<Pivot {self.title!r}: {size} places, {', '.join(self.metrics)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: mean (std), the best of their places marked by `*`."""
        told = f"{self.title}: {', '.join(self.metrics)}, mean (std) over {self.runs} runs"
        table = self.map(_short_text).to_html()
        return f"<p><b>{html_text(told)}</b></p>{table}"

    def lines(self) -> Iterator[tuple[Key, list[PivotEntry | None]]]:
        """Yields every row: its key, and its entries by column."""
        for row in self.row_keys:
            yield row, [self.entries.get((row, column)) for column in self.column_keys]

    def frame(self) -> pd.DataFrame:
        """One row per entry: the columns of its cell, then of `PivotEntry` and its gain.

        Columns: those of `Leaderboard.identity`, `metric`, `state`, `runs`, `n`, `failed`,
        `trained_on`, `mean`, `std`, `low`, `high`, `best`, `undecided`, `gain`, `gain_low`,
        `gain_high`, `gain_p`, `stands`, `negative`; and `trust` where it is known.
        """
        import pandas as pd

        return pd.DataFrame([_record(entry) for _, row in self.lines() for entry in row if entry])

    def matrix(self, value: str = "mean") -> pd.DataFrame:
        """One number per place: a field of `PivotEntry`, or `gain`; NaN where there is none.

        Index and columns have a level per row and column of the layout.
        """
        return self.map(lambda entry: _record(entry)[value] if entry else math.nan)

    def map(self, function: Callable[[PivotEntry | None], Any]) -> pd.DataFrame:
        """Makes something of every place; index and columns as in `matrix`.

        Args:
            function: gets the entry of a place, or None where there is no such cell.
        """
        import pandas as pd

        return pd.DataFrame(
            [[function(entry) for entry in entries] for _, entries in self.lines()],
            index=_index(self.row_keys, self.layout.rows),
            columns=_index(self.column_keys, self.layout.columns),
        )


def _short_text(entry: PivotEntry | None) -> str:
    if entry is None or entry.state != "scored":
        return entry.state if entry else ""
    std = "" if math.isnan(entry.std) else f" ({entry.std:.2f})"
    return f"{entry.mean:.2f}{std}{' *' if entry.best else ''}"


def _index(keys: Sequence[Key], names: Key) -> pd.Index[Any]:
    import pandas as pd

    if len(names) == 1:
        return pd.Index([part for (part,) in keys], name=names[0])
    return pd.MultiIndex.from_tuples(keys, names=names)


def pivot(
    leaderboard: Leaderboard, metrics: Mapping[str, MetricSpec], layout: Layout | None = None
) -> Pivot:
    """Lays the cells of a leaderboard out in rows and columns.

    Args:
        leaderboard: the leaderboard.
        metrics: specs by name, as registered.
        layout: what to show, and where.

    Raises:
        BenchmarkError: the layout names a metric, column, subset or value that there is not, or
            no cell has all the values asked for.
    """
    asked = layout or Layout()
    _check(leaderboard, asked)
    asked = replace(
        asked,
        metrics=asked.metrics or leaderboard.metrics[:1],
        only=expand_only(asked.only, leaderboard.cells),
    )
    specs = {name: metrics[name] for name in asked.metrics}
    differences = {
        name: Differences(leaderboard, spec, asked.subset) for name, spec in specs.items()
    }
    found = [
        entry
        for name, differing in differences.items()
        for entry in _entries(leaderboard, name, asked, differing)
    ]
    if not found:
        wanted = ", ".join(f"{c}={' or '.join(values)}" for c, values in asked.only.items())
        raise BenchmarkError(f"No cell of {leaderboard.name!r} has all of {wanted}.")
    filled = _fill(asked, found, leaderboard.identity)
    rows, columns = (_keys(found, names) for names in (filled.rows, filled.columns))
    shown = {*filled.rows, *filled.columns}
    return Pivot(
        title=leaderboard.title or leaderboard.name,
        identity=leaderboard.identity,
        layout=filled,
        metrics=specs,
        same={c: v for c, v in _same(found, leaderboard.identity).items() if c not in shown},
        runs=leaderboard.settings["runs"],
        row_keys=rows,
        column_keys=columns,
        entries={(_key(e, filled.rows), _key(e, filled.columns)): e for e in found},
        family=(
            next(iter(differences.values())).family,
            {name: differing.tests for name, differing in differences.items()},
        ),
        incomparable=_incomparable(differences, found),
        test=" or ".join(NAMES[kind][0] for kind in leaderboard.resampling),
        overlap=_overlap(found),
        notes=(*leaderboard.notes, *_told_failures(leaderboard, found)),
    )


# --- what was asked for -----------------------------------------------------------------------


def _check(leaderboard: Leaderboard, layout: Layout) -> None:
    known = (*leaderboard.identity, METRIC, LABEL)
    for column in (*layout.rows, *layout.columns):
        if column not in known:
            raise BenchmarkError(f"Cells have no column {column!r}.{did_you_mean(column, known)}")
    named = (*layout.rows, *layout.columns)
    if twice := {column for column in named if named.count(column) > 1}:
        raise BenchmarkError(f"Named twice among rows and columns: {', '.join(sorted(twice))}.")
    if not layout.columns:
        raise BenchmarkError("A table needs at least one column, as test_on.")
    if layout.subset not in SUBSETS:
        raise BenchmarkError(f"No subset {layout.subset!r}.{did_you_mean(layout.subset, SUBSETS)}")
    for metric in layout.metrics:
        leaderboard.check_metric(metric)


def _fill(layout: Layout, found: Sequence[PivotEntry], identity: Key) -> Layout:
    """Names whatever tells entries apart; without rows given, the usual ones."""
    columns = layout.columns
    if len(layout.metrics) > 1 and METRIC not in (*layout.rows, *columns):
        columns = (METRIC, *columns)
    constant = _same(found, identity)
    named = (*layout.rows, *columns)
    says_all = not layout.rows and not set(columns) & set(MODEL)  # a label, what no column says
    told = (*MODEL, SUBMISSION) if says_all or LABEL in named else ()
    varying = [c for c in identity if c not in constant and c not in (*named, *told)]
    if layout.rows:
        return replace(layout, rows=(*layout.rows, *varying), columns=columns)
    first, last = ALWAYS_SHOWN
    rows = (*((first,) if says_all else ()), *(c for c in varying if c != last), last)
    rows = tuple(c for c in rows if c not in columns)
    spare = next((c for c in (*identity, METRIC) if c not in columns), METRIC)
    return replace(layout, rows=rows or (spare,), columns=columns)


def _same(found: Sequence[PivotEntry], identity: Key) -> dict[str, str]:
    values = {column: {entry.cell[column] for entry in found} for column in identity}
    return {column: next(iter(have)) for column, have in values.items() if len(have) == 1}


def _key(entry: PivotEntry, names: Key) -> Key:
    other = {METRIC: entry.metric, LABEL: entry.label}
    return tuple(other[name] if name in other else entry.cell[name] for name in names)


def _keys(found: Sequence[PivotEntry], names: Key) -> tuple[Key, ...]:
    """All keys, in the order of their parts' first appearance, so that equal parts are together."""
    keys = dict.fromkeys(_key(entry, names) for entry in found)
    ranks = [
        {value: rank for rank, value in enumerate(dict.fromkeys(key[level] for key in keys))}
        for level in range(len(names))
    ]
    return tuple(
        sorted(keys, key=lambda key: [rank[part] for rank, part in zip(ranks, key, strict=True)])
    )


# --- entries ----------------------------------------------------------------------------------


def _entries(
    leaderboard: Leaderboard, metric: str, layout: Layout, differences: Differences
) -> list[PivotEntry]:
    """One entry per cell to keep; of equal cells that are shown as one, the first."""
    gained = {
        tuple(row[column] for column in leaderboard.identity): row
        for row in differences.gains(lenient=True).to_dict("records")
    }
    made: dict[Key, PivotEntry] = {}
    for row in leaderboard.summary_rows(layout.subset, metric):
        if any(row[column] not in values for column, values in layout.only.items()):
            continue
        name = tuple(row[column] for column in leaderboard.identity)
        shown = {
            **dict(zip(leaderboard.identity, name, strict=True)),
            **leaderboard.shown_as.get(name, {}),
        }
        if tuple(shown.values()) in made:
            continue
        entry = read_entry(
            row,
            metric,
            leaderboard.identity,
            shown,
            label=leaderboard.label_of(shown),
            not_applicable=leaderboard.not_applicable.get(name, 0),
            best=name in differences.best,
            undecided=differences.is_undecided(name),
        )
        if entry.state == "not run" and name in leaderboard.failures:
            entry = replace(entry, state="failed")
        made[tuple(shown.values())] = _with_gain(entry, gained.get(name))
    return list(made.values())


def _incomparable(
    differences: Mapping[str, Differences], found: Sequence[PivotEntry]
) -> tuple[str, ...]:
    """The train-on → test-on of a table whose cells rest on different rows."""
    shown = {f"{entry.cell['train_on']} → {entry.cell['test_on']}" for entry in found}
    places = (place for differing in differences.values() for place in differing.incomparable)
    return tuple(place for place in dict.fromkeys(places) if place in shown)


def _told_failures(leaderboard: Leaderboard, found: Sequence[PivotEntry]) -> Iterator[str]:
    """Yields a line for every reason why cells of a table failed."""
    shown = {entry.name for entry in found}
    cells: dict[str, list[str]] = {}
    for name, reason in leaderboard.failed.items():
        if name in shown:
            cell = dict(zip(leaderboard.identity, name, strict=True))
            cells.setdefault(" ".join(reason.split()), []).append(title_of(SimpleNamespace(**cell)))
    for reason, titles in cells.items():
        more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
        yield f"Failed: {titles[0]}{more}: {reason.rstrip('.')}"


def _overlap(found: Sequence[PivotEntry]) -> dict[tuple[str, str], float]:
    """The shares that `Pivot.overlap` holds."""
    shares: dict[tuple[str, str], float] = {}
    for entry in found:
        if entry.trained_on:
            place = entry.cell["train_on"], entry.cell["test_on"]
            shares[place] = max(shares.get(place, 0.0), entry.trained_on)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def read_entry(
    row: Any, metric: str, identity: Key, shown: Mapping[str, str] | None = None, **marks: Any
) -> PivotEntry:
    """Makes an entry of a row of `Leaderboard.summary`.

    Args:
        row: the row.
        metric: name.
        identity: `Leaderboard.identity`.
        shown: what tables show of the cell; its own columns unless given.
        marks: further fields; without them it has none.
    """
    own = {column: row[column] for column in identity}
    return PivotEntry(
        name=tuple(own.values()),
        cell=shown or own,
        metric=metric,
        state=_state(row, metric),
        runs=int(row["runs"]),
        n=float(row["n"]),
        failed=int(row["failed"]),
        trained_on=float(row["trained_on"]),
        mean=float(row[metric]),
        std=float(row[f"{metric}_std"]),
        low=float(row[f"{metric}_low"]),
        high=float(row[f"{metric}_high"]),
        trust=row.get("trust"),
        **marks,
    )


def _with_gain(entry: PivotEntry, gained: Any) -> PivotEntry:
    if gained is None or entry.state != "scored" or math.isnan(gained["gain"]):
        return entry
    gain = Gain(
        n=int(gained["runs"]),
        mean=float(gained["gain"]),
        low=float(gained["low"]),
        high=float(gained["high"]),
        p=float(gained["p"]),
        negative=bool(gained["negative"]),
    )
    return replace(entry, gain=gain, stands=bool(gained["p_holm"] < SIGNIFICANT))


def _state(row: Any, metric: str) -> State:
    if not row["runs"]:
        return "not run"
    if not has_enough_rows(row):
        return "too few rows"
    if math.isnan(row[metric]):
        return "failed" if row["failed"] else "undefined"
    return "scored"


def _record(entry: PivotEntry) -> dict[str, Any]:
    gain = entry.gain
    nothing = math.nan
    return {
        **entry.cell,
        **{name: getattr(entry, name) for name in RECORDED},
        "gain": gain.mean if gain else nothing,
        "gain_low": gain.low if gain else nothing,
        "gain_high": gain.high if gain else nothing,
        "gain_p": gain.p if gain else nothing,
        "stands": entry.stands,
        "negative": entry.negative,
        **({"trust": entry.trust} if entry.trust else {}),
    }


def is_baseline(entry: PivotEntry) -> bool:
    """Whether an entry is one of the benchmark's baselines, not a strategy."""
    return entry.cell["transfer"] == BASELINE
