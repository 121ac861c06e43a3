"""What the page of a cell shows: scores, runs, predictions, curves, settings, ledger, overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.apps.site.html_tables import (
    Column,
    HtmlEntry,
    Table,
    count,
    metric_title,
    number,
    title_of,
)
from harness.apps.site.plots import Plot, draw_strip
from harness.apps.site.predictions import draw_parity, pack_rows, worst_materials
from harness.apps.site.results import LeaderboardCell, Results
from harness.apps.site.stages import StagePart, read_stage
from harness.planning.ledger import ROLES
from harness.report.tables import Wording, number_text
from harness.results.role_report import conflicts
from harness.scoring.scores import SUBSETS

if TYPE_CHECKING:
    import pandas as pd

    from harness.report.pivot import PivotEntry
    from harness.results.store import Store


@dataclass(frozen=True, eq=False)
class CellPage:
    """The page of a cell.

    Attributes:
        page: its name.
        key: of its scoring.
        identity: its columns, by title.
        label: what tells its configuration apart.
        place: (train-on, test-on).
        headline: metric and `mean (std)` of the first metric.
        done: whether any run of it has been scored.
        leak_free: whether its protocol promises that no test row has another role.
        weights: name of the weights it starts from and what they have seen.
        test_rows: per run on average: all of them, and those whose formula was trained on.
        scores: one row per metric.
        runs: one row per run.
        strip: the runs of the first metric.
        parity: predictions against targets.
        worst: the worst predicted materials.
        tuned: whether its settings were searched for.
        sources: of these and of committees, by run: members of stages that predict.
        stages: of its chain.
        ledger: what its rows were used for, per run.
        both: test rows that have another role, by role, summed over runs.
        missing: files of it that are not there.
        rows: for the script: all predictions.
    """

    page: str
    key: str
    identity: Mapping[str, str]
    label: str
    place: tuple[str, str]
    headline: tuple[str, str]
    done: bool
    leak_free: bool
    weights: Sequence[str] | None
    test_rows: tuple[str, str]
    scores: Table
    runs: Table
    strip: Plot | None
    parity: Plot | None
    worst: Table | None
    tuned: bool
    sources: Mapping[int, Sequence[str]]
    stages: Sequence[StagePart]
    ledger: Table | None
    both: Mapping[str, int]
    missing: Sequence[str]
    rows: Mapping[str, Any] | None


class CellPages:
    """Makes the pages of the cells of one leaderboard; what cells share is read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self._stages: dict[tuple[Path, str], StagePart] = {}

    def make(self, cell: LeaderboardCell) -> CellPage:
        """Gathers the page of one cell."""
        results, metric = self.results, self.results.leaderboard.metrics[0]
        whole, free = (
            {shown: results.entries[shown, subset][cell.name] for shown in results.metrics}
            for subset in SUBSETS
        )
        done = bool(whole[metric].runs)
        runs, free_runs = (
            results.leaderboard.runs_of(cell.name, subset) if done else None for subset in SUBSETS
        )
        tested = self.tested(cell)
        ledger, both = self._use_of_rows(cell, tested)
        lost = done and tested is None
        planned = results.leaderboard.settings["runs"]
        return CellPage(
            page=cell.page,
            key=cell.planned.key,
            identity={title_of(name): value for name, value in cell.columns.items() if value},
            label=results.label(results.model_of(cell)),
            place=cell.place,
            headline=(
                metric_title(results.metrics[metric]),
                number_text(whole[metric], Wording(), planned),
            ),
            done=done,
            leak_free=cell.planned.leak_free,
            weights=cell.planned.weights,
            test_rows=(count(whole[metric].n).text, count(whole[metric].n - free[metric].n).text),
            scores=_score_table(results, whole, free),
            runs=_run_table(results, runs, free_runs, cell.run_names),
            strip=_strip(results, whole[metric], runs),
            parity=None if tested is None else draw_parity(tested, results.property),
            worst=None if tested is None else worst_materials(tested, results.property),
            tuned=cell.planned.tuned,
            sources=_sources(cell),
            stages=self.stages_of(cell),
            ledger=ledger,
            both=both,
            missing=[f"predictions/{cell.planned.key}.parquet"] if lost else [],
            rows=None if tested is None else pack_rows(tested, results.property),
        )

    def stages_of(self, cell: LeaderboardCell) -> list[StagePart]:
        """Returns the stages of a cell; none where it was not run."""
        scored = self.results.entries[self.results.leaderboard.metrics[0], "all"][cell.name].runs
        return [self._stage(cell.store, key) for key in cell.planned.chain] if scored else []

    def _stage(self, store: Store, key: str) -> StagePart:
        place = (store.folder, key)
        if place not in self._stages:
            self._stages[place] = read_stage(store, key)
        return self._stages[place]

    def tested(self, cell: LeaderboardCell) -> pd.DataFrame | None:
        """Returns the predictions of scored runs, where they are, with formulas from ledgers."""
        leaderboard = self.results.leaderboard
        scored = self.results.entries[leaderboard.metrics[0], "all"][cell.name].runs
        if not scored or not cell.store.has_predictions(cell.planned.key):
            return None
        tested = cell.store.read_predictions(cell.planned.key)
        tested = tested[tested["run"].isin(leaderboard.runs_of(cell.name)["run"])]
        pairs = zip(tested["part"], tested["id"], strict=True)
        return tested.assign(formula=[self._formulas.get(pair, "") for pair in pairs])

    @cached_property
    def _ledgers(self) -> Mapping[tuple[Path, str], pd.DataFrame]:
        """The ledgers of all stages that have one, by folder and key."""
        stages = {
            (c.store.folder, key): c.store for c in self.results.cells for key in c.planned.chain
        }
        return {
            (folder, key): store.read_ledger(key)
            for (folder, key), store in stages.items()
            if store.has_ledger(key)
        }

    @cached_property
    def _ledger_sizes(self) -> Mapping[tuple[Path, str], list[tuple[str, str, float]]]:
        """What `_sizes` says of every stage, which many cells have in common."""
        return {place: _sizes(ledger) for place, ledger in self._ledgers.items()}

    @cached_property
    def _formulas(self) -> Mapping[tuple[str, str], str]:
        """Reduced formulas by (part, id): of every row that any run has used."""
        known: dict[tuple[str, str], str] = {}
        for ledger in self._ledgers.values():
            rows = ledger[["part", "id", "group"]].drop_duplicates(["part", "id"])
            known |= {(part, row): group for part, row, group in rows.itertuples(index=False)}
        return known

    def _use_of_rows(
        self, cell: LeaderboardCell, tested: pd.DataFrame | None
    ) -> tuple[Table | None, dict[str, int]]:
        """What rows were used for, per run; and how many test rows had another role too."""
        import pandas as pd

        used = {key: self._ledgers.get((cell.store.folder, key)) for key in cell.planned.chain}
        ledgers = [ledger for ledger in used.values() if ledger is not None]
        if tested is None or len(ledgers) < len(used):
            return None, {}
        what = [f"{self._stage(cell.store, key).title}, {key[:6]}" for key in used]
        if cell.planned.tuned:
            ledgers.append(cell.store.read_tuning_ledger(cell.planned.key))
            what.append("choice of settings")
        sizes = [self._ledger_sizes[cell.store.folder, key] for key in used]
        sizes += [_sizes(ledger) for ledger in (*ledgers[len(used) :], tested.assign(role="test"))]
        rows = [
            (HtmlEntry(title), HtmlEntry(part), HtmlEntry(role), count(size))
            for title, of_one in zip([*what, "scoring"], sizes, strict=True)
            for part, role, size in of_one
        ]
        of_tested = [
            own[own["id"].isin(tested["id"])] for own in ledgers
        ]  # few, and the rest costs
        both = conflicts(pd.concat(of_tested), tested)["role"].value_counts()
        columns = (
            Column("stage", "name"),
            Column("dataset", "name"),
            Column("role", "name"),
            Column("rows per run", "number"),
        )
        return (
            Table("ledger", "", columns, tuple(rows)),
            {role: int(both.get(role, 0)) for role in ROLES[:-1] if both.get(role, 0)},
        )


def _sizes(ledger: pd.DataFrame) -> list[tuple[str, str, float]]:
    """How many rows of each part had which role, per run that is in the ledger."""
    once = ledger.drop_duplicates(["run", "part", "id", "role"])
    runs = ledger["run"].nunique()
    counted = once.groupby(["part", "role"], sort=False, as_index=False).size()
    return [
        (str(line["part"]), str(line["role"]), line["size"] / runs)
        for line in counted.to_dict("records")
    ]


def _sources(cell: LeaderboardCell) -> dict[int, list[str]]:
    """By run, the members that predict, with their stages."""
    return {
        run: [f"member {member} of {stage[:6]}" for stage, member in cell.planned.sources_of(run)]
        for run in range(1, len(cell.planned.sources) + 1)
    }


def _score_table(
    results: Results, whole: Mapping[str, PivotEntry], free: Mapping[str, PivotEntry]
) -> Table:
    """Every metric; of overlap-free rows too, where these are not all."""
    first = next(iter(results.metrics))
    same = whole[first].n == free[first].n
    subsets = [whole] if same else [whole, free]
    titles = ["mean (std)", "95 % interval"]
    columns = [Column("metric", "name"), *(Column(title, "number") for title in titles)]
    if not same:
        columns += [Column(f"overlap-free {title}", "number") for title in titles]
    runs = results.leaderboard.settings["runs"]
    rows = [
        (
            HtmlEntry(metric_title(spec)),
            *(
                entry
                for scores in subsets
                for entry in (
                    number(scores[name].mean, text=number_text(scores[name], Wording(3), runs)),
                    number(scores[name].low, text=interval(scores[name])),
                )
            ),
        )
        for name, spec in results.metrics.items()
    ]
    sizes = [entry for scores in subsets for entry in (count(scores[first].n), HtmlEntry(""))]
    return Table("scores", "", tuple(columns), (*rows, (HtmlEntry("test rows per run"), *sizes)))


def interval(score: PivotEntry, digits: int = 3) -> str:
    """Returns the interval of a mean as text."""
    if not score.low <= score.high:
        return "—"
    return f"{score.low:.{digits}f} … {score.high:.{digits}f}"


def _run_table(
    results: Results,
    whole: pd.DataFrame | None,
    free: pd.DataFrame | None,
    names: Sequence[str],
) -> Table:
    """The scores of every run, and where its protocol names it, what it tests."""
    columns = [
        Column("run", "name"),
        *([Column("tests", "name")] if names else []),
        *(Column(spec.title, "number") for spec in results.metrics.values()),
        *(Column(title, "number") for title in ("test rows", "overlap-free", "failed")),
        Column("updates left out", "number"),
    ]
    if whole is None or free is None:
        return Table("runs", "", tuple(columns), ())
    left = dict(zip(free["run"], free["n"], strict=True))
    rows = tuple(
        (
            count(row["run"]),
            *([HtmlEntry(names[row["run"] - 1])] if names else []),
            *(number(row[metric], 3) for metric in results.metrics),
            *(count(n) for n in (row["n"], left[row["run"]], row["failed"], row["skipped"])),
        )
        for row in whole.to_dict("records")
    )
    return Table("runs", "", tuple(columns), rows)


def _strip(results: Results, score: PivotEntry, runs: pd.DataFrame | None) -> Plot | None:
    values = [] if runs is None else [float(value) for value in runs[score.metric]]
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return None
    spec = results.metrics[score.metric]
    return draw_strip("strip", spec.title, spec.unit, values, score.low, score.high, score.mean)
