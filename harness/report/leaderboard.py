"""Tables made from result lines, and from nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BenchmarkError, did_you_mean
from harness.escaping import html_text
from harness.planning.benchmark import BENCHMARK_FILE, read_fields
from harness.planning.labels import Configuration, configuration_of, make_labels
from harness.planning.selectors import find_one_each
from harness.plugin.cell import CELL, SUBMISSION
from harness.plugin.seeds import derive_seed
from harness.results.records import SETTINGS_OF_SOME
from harness.scoring.scores import SUBSETS
from harness.scoring.statistics import RANDOM_SPLITS, summaries

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from harness.plugin.arrays import Indices
    from harness.plugin.protocol import Resampling
    from harness.report.trust import Trust
    from harness.results.records import PlanFile, PlannedCell, ResultLine
    from harness.results.store import Store

MIN_ROWS = 3
"""A cell with fewer test rows per run says so in place of a number."""


MOSTLY = 0.5
"""A cell of whose test rows a greater share was trained on is marked, and never the best."""


def is_mostly_trained_on(share: float) -> bool:
    """Whether a cell tells what was learnt by heart.

    Args:
        share: of its test rows, those whose formula was trained on.
    """
    return share > MOSTLY


def has_enough_rows(cell: Mapping[str, Any]) -> bool:
    """Whether numbers are shown of a cell: it has `MIN_ROWS` on average, and some in every run.

    Args:
        cell: with `n` and `n_min`, test rows per run.
    """
    return bool(cell["n"] >= MIN_ROWS and cell["n_min"] > 0)


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """The results of one benchmark.

    Attributes:
        name, title: of the benchmark.
        settings: the benchmark as it was run.
        property_name: of what is predicted.
        metrics: names, the first being the one shown by default.
        unusable: rows that could not be used, by dataset; only where there are any.
        pretraining: (weights, what they were trained on) → the strategies that start from them.
        cells: every cell of the plan in table order, as mappings over `CELL`.
        runs: one row per cell, run and subset: the cell's columns, `run`, `train_rows` (trained on
            by the last stage), `train_share` (of all rows in the dataset), `test_share` (rows
            tested on, overlap or not, of all in the dataset), `skipped` (updates left out),
            `subset`, `n`, `failed`, and one column per metric (NaN where it could not be computed).
        identity: the columns that tell cells apart: those of `CELL`, and where people's results are
            shown together, `submission`.
        shown_as: what tables show in place of a cell's own columns, by its identity: the names of
            all who submitted the same configuration with the same result.
        notes: what must be said below every table.
        trust: of results that others sent, what a check has shown of each cell, by its identity.
        failures: why a cell could not be trained or scored when it was last tried, by its identity.
        not_applicable: how many runs have no test rows in its dataset, by a cell's identity; only
            where there are any.
        resampling: the ways in which the runs of its protocols share rows.
        leaky: labels of its protocols that do not promise to keep test rows out of all else.
        finding: what its author says came out; empty where nothing is written.
        order: its place among others; None where nothing is written.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    property_name: str
    metrics: tuple[str, ...]
    unusable: Mapping[str, int]
    pretraining: Mapping[tuple[str, str], tuple[str, ...]]
    cells: tuple[Mapping[str, str], ...]
    runs: pd.DataFrame
    identity: tuple[str, ...] = CELL
    shown_as: Mapping[tuple[str, ...], Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    trust: Mapping[tuple[str, ...], Trust] = field(default_factory=dict)
    failures: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    not_applicable: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    resampling: tuple[Resampling, ...] = (RANDOM_SPLITS,)
    leaky: tuple[str, ...] = ()
    finding: str = ""
    order: int | None = None

    def __repr__(self) -> str:
        """One line, as a notebook's lists show it."""
        return f"<Leaderboard {self.name!r}: {len(self.cells)} cells, {', '.join(self.metrics)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: mean (std) by the first metric, models × test sets."""
        shown = self.summary(metrics=self.metrics[:1])
        metric = self.metrics[0]
        heads = [c for c in self.identity if c != "test_on" and shown[c].nunique() > 1]
        texts = [
            "—"
            if math.isnan(mean)
            else f"{mean:.2f}" + ("" if math.isnan(std) else f" ({std:.2f})")
            for mean, std in zip(shown[metric], shown[f"{metric}_std"], strict=True)
        ]
        rows = shown[["test_on"]].assign(**{c: shown[c] for c in heads or ["train_on"]}, text=texts)
        table = rows.pivot_table(
            "text", heads or ["train_on"], "test_on", aggfunc="first", sort=False
        )
        runs = self.settings["runs"]
        told = f"{self.title or self.name}: {metric}, mean (std) over {runs} runs"
        return f"<p><b>{html_text(told)}</b></p>{table.to_html(na_rep='')}"

    @classmethod
    def read(cls, store: Store) -> Leaderboard:
        """Reads the results of the plan that was last run in this folder.

        Raises:
            StoreError: nothing was run there.
        """
        return cls.of(store.read_plan(), store)

    @classmethod
    def of(cls, plan: PlanFile, store: Store) -> Leaderboard:
        """Reads the results of a plan."""
        import pandas as pd

        keys = {cell.key for cell in plan.cells}
        rows = [row for line in store.read_results() if line.key in keys for row in _rows_of(line)]
        columns = [
            *CELL,
            "run",
            "train_rows",
            "train_share",
            "test_share",
            "skipped",
            "subset",
            "n",
            "failed",
            *plan.metrics,
        ]
        return cls(
            plan.name,
            plan.benchmark["title"],
            plan.benchmark,
            plan.property_name,
            plan.metrics,
            {name: len(data.problems) for name, data in plan.datasets.items() if data.problems},
            _pretraining(plan.cells),
            tuple(cell.columns for cell in plan.cells),
            pd.DataFrame(rows, columns=columns),
            notes=(*_left_out(plan), *_crystals_seen(plan.cells)),
            failures=_failures(plan, store, rows),
            not_applicable={
                cell.named(): plan.runs - len(cell.runs) for cell in plan.cells if cell.runs
            },
            resampling=_resampling(plan),
            leaky=tuple(dict.fromkeys(c.protocol for c in plan.cells if not c.leak_free)),
            **_written(plan, store.folder / BENCHMARK_FILE),
        )

    @cached_property
    def labels(self) -> dict[Configuration, str]:
        """Short names of its configurations."""
        return make_labels(self.cells, self.settings.get("labels", {}))

    def label_of(self, cell: Mapping[str, str]) -> str:
        """Returns the short name of a cell's configuration: given by the benchmark, or made.

        Args:
            cell: its columns; `train_on` and `test_on` are not needed.
        """
        label = self.labels.get(configuration_of(cell)) or " ".join(configuration_of(cell))
        return f"{label} ({cell[SUBMISSION]})" if cell.get(SUBMISSION) else label

    def check_metric(self, metric: str) -> str:
        """Returns the metric's name.

        Raises:
            BenchmarkError: the benchmark does not score it.
        """
        if metric not in self.metrics:
            raise BenchmarkError(
                f"The leaderboard {self.name!r} has no metric {metric!r}."
                f"{did_you_mean(metric, self.metrics)}"
            )
        return metric

    def summary(self, subset: str = "all", metrics: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per cell of the plan, in table order.

        Columns: those of `CELL`, `runs`, `n` (test rows per run, mean), `n_min`, `failed` (rows,
        summed over runs), `trained_on` (share of the rows whose formula is in a training set of the
        chain), and for every metric `<metric>` (mean), `<metric>_std` (ddof 1),
        `<metric>_low` and `<metric>_high` (95 % bootstrap interval of the mean over runs). A cell
        that has not been run has zero runs and NaN scores; one with fewer than `MIN_ROWS` test
        rows per run, or none in some run, has NaN scores. Where `trust` is known, it is the column
        `trust`.

        Args:
            subset: which test rows count.
            metrics: those that are wanted; all unless given.
        """
        import pandas as pd

        wanted = self.metrics if metrics is None else metrics
        scores = [self._scores(subset, metric) for metric in wanted]
        trust = {name: self.trust[name] for name in self._names if name in self.trust}
        known = [pd.DataFrame({"trust": [trust.get(name) for name in self._names]})]
        return pd.concat([self._counts[subset], *scores, *(known if trust else ())], axis=1)

    def summary_rows(self, subset: str, metric: str) -> list[dict[str, Any]]:
        """Rows of `summary` by one metric, as dicts: pandas takes longer to make them than these.

        They are made once, and are not to be changed.
        """
        if (subset, metric) not in self._known_rows:
            columns = _score_columns(metric)
            rows = [
                {**counted, **dict(zip(columns, scores, strict=True))}
                for counted, scores in zip(
                    self._counted[subset], self._score_rows(subset, metric), strict=True
                )
            ]
            if any(name in self.trust for name in self._names):
                for row, name in zip(rows, self._names, strict=True):
                    row["trust"] = self.trust.get(name)
            self._known_rows[subset, metric] = rows
        return self._known_rows[subset, metric]

    @cached_property
    def _names(self) -> list[tuple[str, ...]]:
        return [tuple(cell[column] for column in self.identity) for cell in self.cells]

    @cached_property
    def _counts(self) -> dict[str, pd.DataFrame]:
        """By subset, what summaries say of every cell besides its scores."""
        import pandas as pd

        return {subset: pd.DataFrame(rows) for subset, rows in self._counted.items()}

    @cached_property
    def _counted(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of `_counts`."""
        return {subset: self._count(subset) for subset in SUBSETS}

    def _count(self, subset: str) -> list[dict[str, Any]]:
        places, free = self._places[subset], self._places["overlap-free"]
        n, failed = self._columns["n"], self._columns["failed"]
        nowhere = np.array([], dtype=np.int64)
        rows = []
        for cell, name in zip(self.cells, self._names, strict=True):
            own = places.get(name, nowhere)
            tested = int(n[own].sum())
            row: dict[str, Any] = {
                **cell,
                "runs": len(own),
                "n": float(n[own].mean()) if len(own) else 0.0,
                "n_min": int(n[own].min()) if len(own) else 0,
                "failed": int(failed[own].sum()),
                "trained_on": 1 - int(n[free[name]].sum()) / tested if tested else 0.0,
            }
            rows.append(row)
        return rows

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        """The columns of `runs`; pandas would take longer to find a cell than what follows."""
        return {str(name): values.to_numpy() for name, values in self.runs.items()}

    @cached_property
    def _places(self) -> dict[str, dict[tuple[str, ...], Indices]]:
        """By subset and cell, where its rows stand in `runs`, as they come."""
        found: dict[str, dict[tuple[str, ...], list[int]]] = {subset: {} for subset in SUBSETS}
        names = zip(*(self._columns[column] for column in self.identity), strict=True)
        for place, (name, subset) in enumerate(zip(names, self._columns["subset"], strict=True)):
            found[subset].setdefault(name, []).append(place)
        return {
            subset: {name: np.array(own, dtype=np.int64) for name, own in places.items()}
            for subset, places in found.items()
        }

    @cached_property
    def _known_rows(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        return {}

    @cached_property
    def _known_scores(self) -> dict[tuple[str, str], list[tuple[float, float, float, float]]]:
        return {}

    def _scores(self, subset: str, metric: str) -> pd.DataFrame:
        """Mean, std and interval of a metric for every cell."""
        import pandas as pd

        return pd.DataFrame(self._score_rows(subset, metric), columns=_score_columns(metric))

    def _score_rows(self, subset: str, metric: str) -> list[tuple[float, float, float, float]]:
        """The rows of `_scores`; computed once, when first asked for."""
        if (subset, metric) not in self._known_scores:
            self._known_scores[subset, metric] = self._summarise(subset, metric)
        return self._known_scores[subset, metric]

    def _summarise(self, subset: str, metric: str) -> list[tuple[float, float, float, float]]:
        by_runs: dict[int, list[tuple[int, Indices]]] = {}
        for cell, (row, name) in enumerate(zip(self._counted[subset], self._names, strict=True)):
            if has_enough_rows(row):
                places = self._places[subset][name]
                by_runs.setdefault(len(places), []).append((cell, places))
        rows = [(math.nan, math.nan, math.nan, math.nan)] * len(self._names)
        for of_cells in by_runs.values():
            cells, places_of_all = zip(*of_cells, strict=True)

            def seed_of(number: int, cells: Sequence[int] = cells) -> int:
                name = self._names[cells[number]]
                return derive_seed(self.settings["seed"], "interval", metric, subset, *name)

            scores = self._columns[metric].astype(np.float64)[np.stack(places_of_all)]
            for cell, made in zip(cells, summaries(scores, seed_of), strict=True):
                rows[cell] = (made.mean, made.std, made.low, made.high)
        return rows

    def runs_of(self, name: tuple[str, ...], subset: str = "all") -> pd.DataFrame:
        """The rows of `runs` of one cell, by its identity, in the order of runs."""
        return self.runs.iloc[self._in_order(name, subset)]

    def values_of(
        self, name: tuple[str, ...], subset: str, columns: Sequence[str]
    ) -> list[NDArray[Any]]:
        """Some columns of `runs_of`."""
        places = self._in_order(name, subset)
        return [self._columns[column][places] for column in columns]

    def _in_order(self, name: tuple[str, ...], subset: str) -> Indices:
        if (subset, name) not in self._known_order:
            places = self._places[subset][name]
            in_order: Indices = places[self._columns["run"][places].argsort(kind="stable")]
            self._known_order[subset, name] = in_order
        return self._known_order[subset, name]

    @cached_property
    def _known_order(self) -> dict[tuple[str, tuple[str, ...]], Indices]:
        return {}

    @property
    def skipped(self) -> pd.DataFrame:
        """Cells with updates that were left out, the loss not being finite: `CELL`, `skipped`."""
        whole = self.runs[self.runs["subset"] == "all"]
        totals = whole.groupby(list(self.identity), sort=False)["skipped"].sum().reset_index()
        return totals[totals["skipped"] > 0]

    @property
    def failed(self) -> dict[tuple[str, ...], str]:
        """Why cells have no number: by identity, those that failed and how.

        Either they could not be trained or scored, or predictions are not finite.
        """
        found = dict(self.failures)
        for row in self.summary_rows("all", self.metrics[0]):
            if row["failed"] and has_enough_rows(row) and math.isnan(row[self.metrics[0]]):
                name = tuple(row[column] for column in self.identity)
                tested = round(row["n"] * row["runs"])
                found[name] = f"{row['failed']} of {tested} predictions are not finite"
        return found

    def find_baseline(self, named: Mapping[str, str]) -> dict[str, str]:
        """Completes a baseline of which some columns are named.

        Where no cell differs from another by what is named alone, as a head that stands on one
        backbone only, the rest of its configuration goes with it.

        Raises:
            BenchmarkError: no cell has what is named, or several configurations do.
        """
        named = find_one_each(named, self.cells)
        names = {tuple(cell.values()) for cell in self.cells}
        swaps = [{**cell, **named} for cell in self.cells if {**cell, **named} != cell]
        if any(tuple(swap.values()) in names for swap in swaps):
            return dict(named)
        found = [c for c in self.cells if all(c.get(k) == v for k, v in named.items())]
        free = [c for c in self.identity if c not in (*named, "train_on", "test_on")]
        values = {column: dict.fromkeys(cell[column] for cell in found) for column in free}
        several = {column: have for column, have in values.items() if len(have) > 1}
        if several:
            told = "; ".join(f"{column}: {', '.join(have)}" for column, have in several.items())
            raise BenchmarkError(f"Several configurations have what is named. Name too: {told}.")
        return {**named, **{column: next(iter(have)) for column, have in values.items() if have}}


def _written(plan: PlanFile, path: Path) -> dict[str, Any]:
    """What the author says of the results: in the benchmark file beside them, or when it was run.

    The file comes first: what came out is known only after the run.
    """
    if path.is_file():
        return read_fields(path, SETTINGS_OF_SOME)
    return {name: plan.benchmark[name] for name in SETTINGS_OF_SOME if name in plan.benchmark}


def _rows_of(line: ResultLine) -> Iterator[dict[str, Any]]:
    """The rows of `Leaderboard.runs` of one result line: one per subset."""
    tested: Any = line.scores["all"]["n"]
    for subset in SUBSETS:
        yield {
            **line.columns,
            "run": line.run,
            "train_rows": line.train_rows,
            "train_share": line.train_rows / line.datasets[line.train_on].rows,
            "test_share": tested / line.datasets[line.test_on].rows,
            "skipped": _total(line.skipped_updates),
            "subset": subset,
            **{k: math.nan if v is None else v for k, v in line.scores[subset].items()},
        }


def _failures(
    plan: PlanFile, store: Store, rows: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, ...], str]:
    """Why cells lack runs, by identity, where the last attempt has failed."""
    if not (failed := store.failures()):
        return {}
    have = Counter(tuple(row[c] for c in CELL) for row in rows if row["subset"] == SUBSETS[0])
    return {
        cell.named(): failed[lost[0]].reason
        for cell in plan.cells
        if have[cell.named()] < len(plan.runs_of(cell))
        and (lost := [key for key in (*cell.chain, cell.key) if key in failed])
    }


def _total(skipped: int | Sequence[int | None] | None) -> int:
    """Updates left out by all members that predict; none where the head is in closed form."""
    counts = skipped if isinstance(skipped, Sequence) else [skipped]
    return sum(count or 0 for count in counts)


def _left_out(plan: PlanFile) -> Iterator[str]:
    """Says what every run leaves out, where it is a group."""
    for label, facts in plan.protocols.items():
        if facts.resampling == "groups" and facts.runs:
            runs = ", ".join(f"{run} {name}" for run, name in enumerate(facts.runs, start=1))
            yield f"{label}: what is left out for test, run by run: {runs}"


def _resampling(plan: PlanFile) -> tuple[Resampling, ...]:
    """The ways in which runs share rows, in the order of the protocols."""
    kinds = {
        cell.protocol: facts.resampling
        if (facts := plan.protocols.get(cell.protocol))
        else RANDOM_SPLITS
        for cell in plan.cells
    }
    return tuple(dict.fromkeys(kinds.values()))


def _crystals_seen(cells: Sequence[PlannedCell]) -> Iterator[str]:
    """Says which transfers have seen crystals of test rows with another property."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        if cell.crystals_seen:
            seen.setdefault(cell.crystals_seen, []).append(cell.transfer)
    for properties, transfers in seen.items():
        yield (
            f"{', '.join(dict.fromkeys(transfers))}: crystals of test rows were seen in an earlier "
            f"stage, with their {' and '.join(properties)}; their labels here were not"
        )


def _pretraining(cells: Sequence[PlannedCell]) -> dict[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        if cell.weights:
            name, seen = cell.weights
            found.setdefault((name, seen), {})[cell.transfer] = None
    return {weights: tuple(transfers) for weights, transfers in found.items()}


def _score_columns(metric: str) -> list[str]:
    return [metric, *(f"{metric}_{what}" for what in ("std", "low", "high"))]
