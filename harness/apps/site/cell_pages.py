"""What the page of a cell shows: scores, runs, predictions, curves, settings, ledger, overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from harness.apps.site.predictions import PackedRows, draw_parity, pack_rows, worst_materials
from harness.apps.site.results import LeaderboardCell, Results
from harness.apps.site.stages import StagePart, read_stage
from harness.apps.site.tested_rows import CellRows, RowUses
from harness.report.tables import Wording, number_text
from harness.scoring.scores import SUBSETS

if TYPE_CHECKING:
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
    rows: PackedRows | None


class CellPages:
    """Makes the pages of the cells of one leaderboard; what cells share is read once."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.uses = RowUses(results)
        self._stages: dict[tuple[Path, str], StagePart] = {}

    def make(self, cell: LeaderboardCell) -> CellPage:
        """Gathers the page of one cell."""
        results, metric = self.results, self.results.leaderboard.metrics[0]
        whole, free = (
            {shown: results.entries[shown, subset][cell.name] for shown in results.metrics}
            for subset in SUBSETS
        )
        done = bool(whole[metric].runs)
        runs = _runs(results, cell) if done else None
        tested = self.uses.tested(cell)
        ledger = None if tested is None else self._use_of_rows(cell, tested)
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
            runs=_run_table(results, runs or (), cell.run_names),
            strip=_strip(results, whole[metric], runs or ()),
            parity=None if tested is None else draw_parity(tested.frame, results.property),
            worst=None if tested is None else worst_materials(tested, results.property),
            tuned=cell.planned.tuned,
            sources=_sources(cell),
            stages=self.stages_of(cell),
            ledger=ledger,
            both=self.uses.conflicts(cell, tested.rows) if tested and ledger else {},
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

    def _use_of_rows(self, cell: LeaderboardCell, tested: CellRows) -> Table | None:
        """What rows were used for, per run; None where that was not kept."""
        sizes = self.uses.sizes(cell)
        if sizes is None:
            return None
        what = [f"{self._stage(cell.store, key).title}, {key[:6]}" for key in cell.planned.chain]
        what += ["choice of settings"] if cell.planned.tuned else []
        rows = [
            (HtmlEntry(title), HtmlEntry(part), HtmlEntry(role), count(size))
            for title, of_one in zip((*what, "scoring"), (*sizes, tested.rows.sizes), strict=True)
            for part, role, size in of_one
        ]
        columns = (
            Column("stage", "name"),
            Column("dataset", "name"),
            Column("role", "name"),
            Column("rows per run", "number"),
        )
        return Table("ledger", "", columns, tuple(rows))


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


def _runs(results: Results, cell: LeaderboardCell) -> Sequence[Mapping[str, Any]]:
    """Scores and rows of every run, and how many of these are `free` of overlap."""
    leaderboard, subset = results.leaderboard, SUBSETS[0]
    columns = ("run", "n", "failed", "skipped", *results.metrics)
    values = leaderboard.values_of(cell.name, subset, columns)
    free = dict(zip(*leaderboard.values_of(cell.name, "overlap-free", ("run", "n")), strict=True))
    rows = zip(*(own.tolist() for own in values), strict=True)
    return [{**dict(zip(columns, row, strict=True)), "free": free[row[0]]} for row in rows]


def _run_table(results: Results, runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """The scores of every run, and where its protocol names it, what it tests."""
    columns = [
        Column("run", "name"),
        *([Column("tests", "name")] if names else []),
        *(Column(spec.title, "number") for spec in results.metrics.values()),
        *(Column(title, "number") for title in ("test rows", "overlap-free", "failed")),
        Column("updates left out", "number"),
    ]
    rows = tuple(
        (
            count(row["run"]),
            *([HtmlEntry(names[row["run"] - 1])] if names else []),
            *(number(row[metric], 3) for metric in results.metrics),
            *(count(row[what]) for what in ("n", "free", "failed", "skipped")),
        )
        for row in runs
    )
    return Table("runs", "", tuple(columns), rows)


def _strip(results: Results, score: PivotEntry, runs: Sequence[Mapping[str, Any]]) -> Plot | None:
    values = [row[score.metric] for row in runs if math.isfinite(row[score.metric])]
    if not values:
        return None
    spec = results.metrics[score.metric]
    return draw_strip("strip", spec.title, spec.unit, values, score.low, score.high, score.mean)
