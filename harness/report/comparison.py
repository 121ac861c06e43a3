"""Two leaderboards, or two configurations, compared cell by cell and run by run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BenchmarkError
from harness.escaping import html_text
from harness.planning.benchmark import flatten
from harness.planning.labels import LABEL, MODEL, find_labelled
from harness.planning.selectors import find_one_each
from harness.plugin.cell import CELL
from harness.report.differences import Differences
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store
from harness.scoring.scores import same_score
from harness.scoring.statistics import Gain, holm, paired_gain

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec
    from harness.report.differences import CellName
    from harness.results.records import PlannedCell

ROW = ["run", "part", "id"]

COMMON_SETTINGS = ("runs", "seed", "limit", "training", "training_on")

COMPARED = "compared"
SAME_CONFIGURATION = "same configuration"
UNCHECKED_ROWS = "test rows not at hand, taken to be the same"
OTHER_ROWS = "other test rows"
NO_NUMBERS = "no number in a run"
NO_COMMON_RUN = "no run in common"


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two that are compared.

    Attributes:
        store: its results.
        leaderboard: its leaderboard.
        where: columns of cells with the value they must have; those are not matched.
        label: of the one configuration that these values are, where it was named by that.
    """

    store: Store
    leaderboard: Leaderboard
    where: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @classmethod
    def read(cls, store: Store, where: Mapping[str, str] | None = None) -> Side:
        """Reads the results in a folder.

        Args:
            store: of the folder.
            where: values by column; `model` is the label of a configuration.

        Raises:
            StoreError: there are none.
            BenchmarkError: `where` names a column or value that cells do not have, or several.
        """
        leaderboard = Leaderboard.read(store)
        whose = f" of {leaderboard.name!r}"
        named = dict(where or {})
        label = named.pop(LABEL, "")
        if label:
            named |= dict(zip(MODEL, find_labelled(label, leaderboard.labels), strict=True))
        found = find_one_each(named, leaderboard.cells, whose) if named else {}
        return cls(store, leaderboard, found, label)

    @property
    def title(self) -> str:
        """Name of the leaderboard, with the columns that are fixed."""
        own = {} if self.label else self.where
        where = ", ".join([*filter(None, [self.label]), *map(" ".join, own.items())])
        return self.leaderboard.name + (f" ({where})" if where else "")

    def cells(self, matched: Sequence[str]) -> dict[tuple[str, ...], PlannedCell]:
        """The cells of this side as `plan.json` has them, by the columns that are matched.

        Raises:
            BenchmarkError: these columns do not tell its cells apart.
        """
        found: dict[tuple[str, ...], PlannedCell] = {}
        for cell in self.store.read_plan().cells:
            if any(getattr(cell, column) != value for column, value in self.where.items()):
                continue
            name = cell.named(matched)
            if name in found:
                left = [c for c in CELL if c not in matched and c not in self.where]
                raise BenchmarkError(
                    f"Several cells of {self.leaderboard.name!r} are {', '.join(name)}: say of "
                    f"both sides which {' and '.join(left)} is meant."
                )
            found[name] = cell
        return found


@dataclass(frozen=True, eq=False)
class Comparison:
    """What differs between two sides, in one metric.

    Attributes:
        metric: its name.
        names: of the two leaderboards, with the columns that are fixed.
        cells: one row per cell that both have. Columns: those matched, `a` and `b` (means over the
            common runs), `runs` (their number), `gain` (of b over a; positive is better), `low`,
            `high`, `p`, `p_holm`, `tests` (in its family), `for_a`, `for_b`, `equal` (runs in
            which a or b is better, or neither), and `state`.
        family: the tests that Holm's correction is over, in words: those of the leaderboard where
            both sides are of one; of two, the cells that are compared.
        only_a, only_b: how many cells have no counterpart.
        settings: what the benchmarks were run with that differs, by dotted key: (a's, b's).
    """

    metric: str
    names: tuple[str, str]
    cells: pd.DataFrame
    family: str
    only_a: int
    only_b: int
    settings: Mapping[str, tuple[Any, Any]]

    def __repr__(self) -> str:
        """One line, as a notebook's lists show it."""
        return f"<Comparison of {self.names[0]!r} with {self.names[1]!r}: {len(self.cells)} cells>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table that `harness compare` prints."""
        told = f"{self.metric}: a is {self.names[0]}, b is {self.names[1]}; positive: b is better"
        return f"<p><b>{html_text(told)}</b></p>{comparison_table(self).to_html(index=False)}"


def compare(a: Side, b: Side, metric: MetricSpec, subset: str = "all") -> Comparison:
    """Compares the cells that two sides have in common, paired by run.

    Interval and p are those of the corrected resampled t-test. Cells are paired only where both
    were tested on the same rows with the same targets; where the rows of one are not at hand, the
    comparison says so.

    Raises:
        BenchmarkError: a side does not score the metric, its cells are not told apart, or there
            is no cell in common.
    """
    import pandas as pd

    for side in (a, b):
        side.leaderboard.check_metric(metric.name)
    matched = [column for column in CELL if column not in {*a.where, *b.where}]
    ours, theirs = a.cells(matched), b.cells(matched)
    common = [name for name in ours if name in theirs]
    if not common:
        raise BenchmarkError(
            f"{a.title!r} and {b.title!r} have no cell in common: they are matched by "
            f"{', '.join(matched)}. {_why_apart(matched, ours, theirs)}Say which are to be "
            "compared, as --a transfer=scratch --b transfer=pretrained."
        )
    rows = [
        dict(zip(matched, name, strict=True))
        | _compare_cell(a, b, ours[name], theirs[name], metric, subset)
        for name in common
    ]
    pairs = [(theirs[name].named(), ours[name].named()) for name in common]
    own = a.store.folder.resolve() == b.store.folder.resolve()
    differences = Differences(a.leaderboard, metric, subset) if own else None
    return Comparison(
        metric=metric.name,
        names=(a.title, b.title),
        cells=_judged(pd.DataFrame(rows), pairs, differences),
        family=_family(differences),
        only_a=len(ours) - len(common),
        only_b=len(theirs) - len(common),
        settings=_settings(a.leaderboard, b.leaderboard),
    )


def _why_apart(matched: Sequence[str], ours: Iterable[CellName], theirs: Iterable[CellName]) -> str:
    """Names the columns in which two sides have no value in common, and the values."""
    apart = []
    for place, column in enumerate(matched):
        one, other = ({name[place]: None for name in side} for side in (ours, theirs))
        if not one.keys() & other.keys():
            apart.append(f"{column} is {', '.join(one)} in a and {', '.join(other)} in b")
    return f"{'; '.join(apart)}. " if apart else ""


def _family(differences: Differences | None) -> str:
    if differences is None:
        return "the cells compared here"
    return f"the {differences.family} of the leaderboard, and any other difference as one more"


def _judged(
    cells: pd.DataFrame, pairs: Sequence[tuple[CellName, CellName]], differences: Differences | None
) -> pd.DataFrame:
    """Adds `p_holm` and `tests`: in the family of the one leaderboard, or among these cells."""
    if differences is None:
        adjusted, tests = list(holm(cells["p"])), [int(cells["p"].notna().sum())] * len(cells)
    else:
        found = [differences.adjust(*pair, p) for pair, p in zip(pairs, cells["p"], strict=True)]
        adjusted, tests = [p for p, _ in found], [n for _, n in found]
    place = list(cells.columns).index("p") + 1
    cells.insert(place, "p_holm", adjusted)
    cells.insert(place + 1, "tests", tests)
    return cells


def _settings(a: Leaderboard, b: Leaderboard) -> dict[str, tuple[Any, Any]]:
    """Settings that bear on every cell and are not the same on both sides."""
    one, other = (
        flatten({key: leaderboard.settings.get(key) for key in COMMON_SETTINGS})
        for leaderboard in (a, b)
    )
    both = {key: (one.get(key), other.get(key)) for key in dict.fromkeys((*one, *other))}
    return {key: values for key, values in both.items() if values[0] != values[1]}


def _compare_cell(
    a: Side,
    b: Side,
    ours: PlannedCell,
    theirs: PlannedCell,
    metric: MetricSpec,
    subset: str,
) -> dict[str, Any]:
    both = _runs(a, ours, metric, subset).merge(
        _runs(b, theirs, metric, subset), on="run", suffixes=("_a", "_b")
    )
    state = _state(a, b, ours, theirs, both)
    paired = state in (COMPARED, SAME_CONFIGURATION, UNCHECKED_ROWS)
    by_run = _by_run(both if paired else both[:0], metric)
    repeated = state == SAME_CONFIGURATION and not (by_run["for_a"] or by_run["for_b"])
    # a result that was only repeated is no test, and makes the family of tests no larger
    gain = _gain(both, metric) if paired and not repeated else _no_gain(len(both))
    row: dict[str, Any] = {
        "a": float(both["score_a"].mean(skipna=False)) if len(both) else math.nan,
        "b": float(both["score_b"].mean(skipna=False)) if len(both) else math.nan,
        "runs": len(both),
        "gain": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "p": gain.p,
    }
    return row | by_run | {"state": state}


def _runs(side: Side, cell: PlannedCell, metric: MetricSpec, subset: str) -> pd.DataFrame:
    columns = {metric.name: "score", "train_share": "train", "test_share": "test"}
    runs = side.leaderboard.runs
    mine = runs[runs["subset"] == subset]
    for column, value in cell.columns.items():
        mine = mine[mine[column] == value]
    return mine[["run", *columns]].rename(columns=columns).astype({"score": float})


def _state(a: Side, b: Side, ours: PlannedCell, theirs: PlannedCell, both: pd.DataFrame) -> str:
    if both.empty:
        return NO_COMMON_RUN
    if both[["score_a", "score_b"]].isna().to_numpy().any():
        return NO_NUMBERS
    if ours.key == theirs.key:
        return SAME_CONFIGURATION
    if not (a.store.has_predictions(ours.key) and b.store.has_predictions(theirs.key)):
        return UNCHECKED_ROWS
    runs = set(both["run"])
    return COMPARED if _rows(a, ours, runs).equals(_rows(b, theirs, runs)) else OTHER_ROWS


def _rows(side: Side, cell: PlannedCell, runs: set[int]) -> pd.DataFrame:
    """What was tested in the given runs: rows and targets, in an order of their own."""
    rows = side.store.read_predictions(cell.key)
    rows = rows[rows["run"].isin(runs)][[*ROW, "target"]].astype({"run": int})
    return rows.sort_values(ROW).reset_index(drop=True)


def _gain(both: pd.DataFrame, metric: MetricSpec) -> Gain:
    return paired_gain(
        both["score_b"],
        both["score_a"],
        metric.higher_is_better,
        n_train=np.minimum(both["train_a"], both["train_b"]),
        n_test=np.maximum(both["test_a"], both["test_b"]),
    )


def _no_gain(runs: int) -> Gain:
    return Gain(runs, math.nan, math.nan, math.nan, math.nan, False)


def _by_run(both: pd.DataFrame, metric: MetricSpec) -> dict[str, tuple[int, ...]]:
    """Which runs are better on which side."""
    sign = 1 if metric.higher_is_better else -1
    found: dict[str, list[int]] = {"for_a": [], "for_b": [], "equal": []}
    for _, row in both.iterrows():
        one, other = float(row["score_a"]), float(row["score_b"])
        if same_score(one, other):
            side = "equal"
        else:
            side = "for_b" if sign * (other - one) > 0 else "for_a"
        found[side].append(int(row["run"]))
    return {side: tuple(runs) for side, runs in found.items()}


def comparison_table(found: Comparison, digits: int = 3) -> pd.DataFrame:
    """Turns a comparison into text; columns that are the same everywhere are left out.

    `against` lists the runs that go the other way than their mean.
    """
    import pandas as pd

    cells = found.cells
    matched = [column for column in CELL if column in cells]
    varied = [c for c in matched if cells[c].nunique() > 1] or matched[-2:]
    shown = cells[varied].copy()
    for column in ("a", "b", "gain"):
        title = "b better by" if column == "gain" else column
        shown[title] = [_number(value, digits) for value in cells[column]]
    shown["95 % interval"] = [
        f"{_number(low, digits)} … {_number(high, digits)}" if not math.isnan(low) else "—"
        for low, high in zip(cells["low"], cells["high"], strict=True)
    ]
    shown["p"] = [_number(value, 3) for value in cells["p"]]
    shown["p, Holm"] = [_number(value, 3) for value in cells["p_holm"]]
    shown["runs a : b"] = [
        f"{len(row['for_a'])} : {len(row['for_b'])}" for _, row in cells.iterrows()
    ]
    for column, tell in (("against", _against), ("note", _note)):
        texts = [tell(row) for _, row in cells.iterrows()]
        if any(texts):
            shown[column] = texts
    return pd.DataFrame(shown)


def _against(row: Any) -> str:
    """The runs that disagree with the sign of the mean difference."""
    if math.isnan(row["gain"]) or row["gain"] == 0:
        return ""
    return " ".join(map(str, row["for_a"] if row["gain"] > 0 else row["for_b"]))


def _note(row: Any) -> str:
    differ = sorted((*row["for_a"], *row["for_b"]))
    if row["state"] == COMPARED:
        return "" if differ else "equal in all runs"
    if row["state"] != SAME_CONFIGURATION:
        return str(row["state"])
    if not differ:
        return "same configuration, equal in all runs"
    return f"same configuration, runs differ: {' '.join(map(str, differ))}"


def _number(value: float, digits: int) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"
