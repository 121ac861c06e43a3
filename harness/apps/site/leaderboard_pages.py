"""What the pages of a leaderboard show: matrix, heat maps, all cells, gains, published cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.apps.site.answers import Answer, make_answer
from harness.apps.site.drawn import Drawn, find_figures
from harness.apps.site.html_tables import (
    Column,
    HtmlEntry,
    Scale,
    Table,
    better,
    count,
    counted,
    metric_title,
    number,
    of_frame,
    significant,
    title_of,
)
from harness.apps.site.results import COSTS, PLACE, Configuration, LeaderboardCell, Results
from harness.errors import StoreError
from harness.plugin.cell import BASELINE
from harness.report.differences import Differences
from harness.report.markdown import fact_lines, gain_table
from harness.report.published import PublishedCell, agreement_text, beside_published
from harness.report.tables import ABSENT, BEST, Wording, legend, number_text, worded_marks
from harness.scoring.scores import SUBSETS

VIEW_OF_OURS = "re-run, {}"
"""What the published numbers come from; the further views are our protocols."""


@dataclass(frozen=True, eq=False)
class LeaderboardPage:
    """The first page of a leaderboard.

    Attributes:
        name, title, summary: of the leaderboard.
        lines: what must be known before the numbers; an empty one ends a paragraph.
        answer: what came out.
        constants: columns that are the same everywhere, with their value.
        counts: what there is, by what it is.
        troubles: what a reader should be warned of.
        metrics: name → title, for the choice.
        matrix: configurations and training sets × test sets.
        marks: what the marks in it mean.
        heats: train-on × test-on, one per configuration.
        legend: of the heats' colours.
        gains: over scratch; None where there is no such thing, and `no_gains` may say why.
        scores: for the script: by metric, its legend and the scores of all cells.
        figures: to be drawn beside the page.
        costs: whether it is known what models cost.
    """

    name: str
    title: str
    summary: str
    lines: Sequence[str]
    answer: Answer
    constants: Mapping[str, str]
    counts: Mapping[str, str]
    troubles: Sequence[str]
    metrics: Mapping[str, str]
    matrix: Table
    marks: Sequence[str]
    heats: Sequence[Table]
    legend: Sequence[HtmlEntry]
    gains: Table | None
    no_gains: str
    scores: Mapping[str, Any]
    figures: Sequence[Drawn]
    costs: bool


def make_leaderboard_page(results: Results) -> LeaderboardPage:
    """Gathers the first page of a leaderboard."""
    leaderboard = results.leaderboard
    shown = leaderboard.metrics[0]
    gains, no_gains = _gains(results)
    return LeaderboardPage(
        name=leaderboard.name,
        title=title_of_leaderboard(results),
        summary=leaderboard.settings["summary"],
        lines=fact_lines(leaderboard),
        answer=make_answer(results),
        constants={
            title_of(column): cell.columns[column]
            for cell in results.cells[:1]
            for column in results.model
            if column not in results.varied and cell.columns[column]
        },
        counts=counts_of(results),
        troubles=troubles_of(results),
        metrics={name: metric_title(spec) for name, spec in results.metrics.items()},
        matrix=_matrix(results, shown),
        marks=_marks(results, shown, "all"),
        heats=_heats(results, shown),
        legend=results.scales[shown].legend(),
        gains=gains,
        no_gains=no_gains,
        scores={name: _scores(results, name) for name in leaderboard.metrics},
        figures=list(find_figures(results)),
        costs=bool(results.costs),
    )


def title_of_leaderboard(results: Results) -> str:
    """Returns its title, or its name where it has none."""
    return results.leaderboard.title or results.leaderboard.name


def make_score(
    results: Results, cell: LeaderboardCell, metric: str, subset: str = "all", root: str = ""
) -> HtmlEntry:
    """Makes the entry of a cell's score; it leads to the page of the cell.

    Args:
        results: of the leaderboard.
        cell: the cell.
        metric: by which.
        subset: on which test rows.
        root: leads from the page to the leaderboard's folder.
    """
    place = (cell.page, metric, subset)
    if place not in results.made_scores:
        results.made_scores[place] = _make_score(results, cell, metric, subset)
    made = results.made_scores[place]
    return made._replace(href=f"{root}{made.href}") if root else made


def _make_score(results: Results, cell: LeaderboardCell, metric: str, subset: str) -> HtmlEntry:
    score = results.entries[metric, subset][cell.name]
    text = number_text(score, Wording(), results.leaderboard.settings["runs"])
    train_on, test_on = cell.place
    return number(score.mean, text=text)._replace(
        href=f"cells/{cell.page}.html",
        shade=results.scales[metric].shade(score.mean),
        key=cell.page,
        marks=worded_marks(score),
        rank=results.ranks[metric, subset].get(cell.name, ""),
        home=train_on == test_on,
    )


def _by_place(
    results: Results, metric: str
) -> dict[Configuration, dict[tuple[str, str], HtmlEntry]]:
    """The scores of all cells, by configuration and (train-on, test-on)."""
    return {
        configuration: {place: make_score(results, cell, metric) for place, cell in cells.items()}
        for configuration, cells in results.matrices.items()
    }


def _tests(results: Results) -> list[str]:
    return list(dict.fromkeys(cell.place[1] for cell in results.cells))


def _trains(results: Results) -> list[str]:
    return list(dict.fromkeys(cell.place[0] for cell in results.cells))


def _matrix(results: Results, metric: str) -> Table:
    """All models, those that were trained on one dataset together, the best on it first.

    One that was not tested on the dataset that it was trained on is placed by the first test set.
    """
    tests, trains = _tests(results), _trains(results)
    sign = -1 if results.metrics[metric].higher_is_better else 1
    lines = []
    for configuration, cells in _by_place(results, metric).items():
        named = dict(zip(results.model, configuration, strict=True))
        model = HtmlEntry(
            results.label(configuration),
            href=f"models/{results.model_pages[configuration]}.html",
            tag=BASELINE if named["transfer"] == BASELINE else "",
        )
        names = [HtmlEntry(named[column]) for column in results.varied]
        for train in dict.fromkeys(place[0] for place in cells):
            scores = {test: cells[train, test] for test in tests if (train, test) in cells}
            home = scores.get(train) or next(iter(scores.values()))._replace(home=True)
            entries = {**scores, **({} if train in scores else {next(iter(scores)): home})}
            costs = cost_entries(results, configuration, train)
            row = (
                *(HtmlEntry(home.rank), model, HtmlEntry(train)),
                *(entries.get(test, HtmlEntry(ABSENT)) for test in tests),
                *(*costs, *names),
            )
            place = math.inf if home.value is None else sign * home.value
            lines.append((trains.index(train), place, row))
    lines.sort(key=lambda line: line[:2])
    columns = (
        *(Column("rank", "rank"), Column("model", "name"), Column("trained on", "name")),
        *(Column(test, "number", better(results.metrics[metric])) for test in tests),
        *cost_columns(results),
        *(Column(title_of(column), "name", hidden=True) for column in results.varied),
    )
    rows, groups = tuple(line[2] for line in lines), tuple(line[0] for line in lines)
    return Table("matrix", "", columns, rows, groups)


def cost_columns(results: Results) -> tuple[Column, ...]:
    """The heads of what models cost, where that was measured."""
    return tuple(Column(f"{what}, s", "number", "lower") for what in COSTS if results.costs)


def cost_entries(
    results: Results, configuration: Configuration, train_on: str
) -> tuple[HtmlEntry, ...]:
    """What a model costs, in the order of `cost_columns`."""
    known = results.costs.get((results.label(configuration), train_on), {})
    return tuple(significant(known.get(what), 2) for what in COSTS if results.costs)


def _marks(results: Results, metric: str, subset: str) -> list[str]:
    return list(legend(results.pivots[metric, subset], BEST, "grey"))


def _heats(results: Results, metric: str) -> list[Table]:
    tests = _tests(results)
    return [
        make_heat(f"heat-{position}", results.label(configuration), cells, tests)
        for position, (configuration, cells) in enumerate(_by_place(results, metric).items())
    ]


def make_heat(
    name: str, caption: str, cells: Mapping[tuple[str, str], HtmlEntry], tests: Sequence[str]
) -> Table:
    """Makes a train-on × test-on matrix of coloured numbers.

    Args:
        name: of the table.
        caption: what it shows.
        cells: by (train-on, test-on).
        tests: its columns.
    """
    rows = tuple(
        (
            HtmlEntry(train),
            *(cells.get((train, test), HtmlEntry(ABSENT))._replace(marks="") for test in tests),
        )
        for train in dict.fromkeys(place[0] for place in cells)
    )
    columns = (Column("trained on", "name"), *(Column(test, "number") for test in tests))
    return Table(name, caption, columns, rows)


def _scores(results: Results, metric: str) -> dict[str, Any]:
    """What the script puts in the places of another metric's scores."""
    return {
        "better": better(results.metrics[metric]),
        "legend": [[entry.text, entry.shade] for entry in results.scales[metric].legend()],
        "marks": {subset: _marks(results, metric, subset) for subset in SUBSETS},
        "cells": {
            subset: {
                cell.page: [entry.text, entry.value, entry.shade, entry.marks, entry.rank]
                for cell in results.cells
                for entry in (make_score(results, cell, metric, subset),)
            }
            for subset in SUBSETS
        },
    }


def counts_of(results: Results) -> dict[str, str]:
    """Says what there is, by what it is."""
    summary = results.leaderboard.summary(metrics=[])
    done = int((summary["runs"] > 0).sum())
    return {
        "configurations": str(len(results.configurations)),
        "cells": f"{done} of {len(summary)}" if done < len(summary) else str(done),
        "runs per cell": str(results.leaderboard.settings["runs"]),
        "trained on": ", ".join(_trains(results)),
        "tested on": ", ".join(_tests(results)),
    }


def troubles_of(results: Results) -> list[str]:
    """Says what a reader should be warned of."""
    summary = results.leaderboard.summary(metrics=[])
    found = list(results.leaderboard.notes)
    if lost := len(results.leaderboard.failures):
        found.append(f"{_cells(lost)} failed, for reasons that stand below the table.")
    absent = summary[summary["runs"] == 0][list(results.leaderboard.identity)]
    lost_cells = results.leaderboard.failures.keys()
    if missing := len(set(absent.itertuples(index=False, name=None)) - lost_cells):
        found.append(f"{_cells(missing)} not been run yet.")
    partial = (summary["runs"] > 0) & (summary["runs"] < results.leaderboard.settings["runs"])
    if partial.any():
        found.append(f"{_cells(int(partial.sum()))} been run in part only.")
    failed = summary[summary["failed"] > 0]
    if len(failed):
        found.append(
            f"{_cells(len(failed))} failed predictions: {int(failed['failed'].sum())} rows, summed "
            "over runs. Such a cell has no score."
        )
    return found


def _cells(number_of: int) -> str:
    return f"{counted(number_of, 'cell')} {'has' if number_of == 1 else 'have'}"


def _gains(results: Results) -> tuple[Table | None, str]:
    """The gains over scratch, or why there are none."""
    leaderboard = results.leaderboard
    if not (leaderboard.runs["transfer"] == "scratch").any():
        return None, ""
    spec = results.metrics[leaderboard.metrics[0]]
    try:
        gained = Differences(leaderboard, spec).gains()
    except StoreError as problem:  # a partner that was not run, or not wholly
        return None, f"Cannot be told: {problem}"
    if gained.empty:
        return None, ""
    text = gain_table(gained)
    cells: list[Any] = gained.to_dict("records")
    shown = text.drop(columns=[c for c in text if c in leaderboard.identity and c not in PLACE])
    shown.insert(0, "model", [leaderboard.label_of(cell) for cell in cells])
    table = of_frame("gains", metric_title(spec), shown, ("model", *PLACE))
    columns = {column.title: column for column in table.columns}
    columns |= {"gain": Column("gain", "number", "higher"), "verdict": Column("verdict")}
    return replace(table, columns=tuple(columns.values())), ""


# --- all cells --------------------------------------------------------------------------------


def make_cells_table(results: Results, subset: str) -> Table:
    """Every cell and every metric, as the CSV file has them."""
    leaderboard = results.leaderboard
    names = (*results.varied, *PLACE)
    columns = (
        *(Column(title_of(column), "name") for column in names),
        *(Column(title, "number") for title in ("runs", "rows per run", "failed")),
        *(Column(spec.title, "number", better(spec)) for spec in results.metrics.values()),
    )
    rows = []
    for cell in results.cells:
        first = results.entries[leaderboard.metrics[0], subset][cell.name]
        entries = [make_score(results, cell, metric, subset) for metric in leaderboard.metrics]
        rows.append(
            (
                *(HtmlEntry(cell.columns[column]) for column in names),
                *(count(value) for value in (first.runs, first.n, first.failed)),
                *(entry._replace(key="", marks="", rank="") for entry in entries),
            )
        )
    return Table(f"cells-{subset}", subset, columns, tuple(rows))


# --- the published study ----------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedPage:
    """The published study beside ours, for one metric.

    Attributes:
        metric: its title.
        table: one row per published cell that we have.
        agreements: how many of ours are near to the published ones, for each protocol.
        transfers: by transfer, the same as one matrix per view.
        legend: of the matrices' colours.
        left_out: published cells that the leaderboard has not.
    """

    metric: str
    table: Table
    agreements: Sequence[str]
    transfers: Mapping[str, Sequence[Table]]
    legend: Sequence[HtmlEntry]
    left_out: int


def make_published_pages(results: Results) -> list[PublishedPage]:
    """Gathers the published study, metric by metric."""
    if results.published is None:
        return []
    found = []
    for metric in results.leaderboard.metrics:
        known = results.published[results.published["metric"] == metric]
        if cells := beside_published(results.leaderboard, results.published, metric):
            found.append(_published_page(results, metric, cells, len(known)))
    return found


def _published_page(
    results: Results, metric: str, cells: Sequence[PublishedCell], known: int
) -> PublishedPage:
    views = [_view_entries(results, cell) for cell in cells]
    values = [e.value for row in views for e in row.values() if e.value is not None]
    scale = Scale.of(values, results.metrics[metric].higher_is_better)
    shaded = [{view: _shaded(entry, scale) for view, entry in row.items()} for row in views]
    protocols = list(cells[0].ours)
    columns = (
        *(Column(title_of(name), "name") for name in ("transfer", *PLACE)),
        *(Column(view, "number") for view in shaded[0]),
        *(Column(f"{VIEW_OF_OURS.format(own)}: off by, σ", "number") for own in protocols),
        *([Column(f"{protocols[0]} − {protocols[1]}", "number")] if len(protocols) == 2 else []),
    )
    rows = tuple(
        (
            *(HtmlEntry(text) for text in (cell.transfer, cell.train_on, cell.test_on)),
            *row.values(),
            *(_signed(cell.deviation(own), 1) for own in protocols),
            *([_signed(_apart(cell, *protocols), 2)] if len(protocols) == 2 else []),
        )
        for cell, row in zip(cells, shaded, strict=True)
    )
    return PublishedPage(
        metric_title(results.metrics[metric]),
        Table(f"published-{metric}", metric, columns, rows),
        [agreement_text(cells, own) for own in protocols],
        _by_transfer(f"published-{metric}", cells, shaded),
        scale.legend(),
        known - len(rows),
    )


def _shaded(entry: HtmlEntry, scale: Scale) -> HtmlEntry:
    return entry._replace(shade=None if entry.value is None else scale.shade(entry.value))


def _view_entries(results: Results, cell: PublishedCell) -> dict[str, HtmlEntry]:
    """What stands in the place of a published cell, by view: theirs, then ours."""
    found = {"published table": _mean_std(cell.mean, cell.std)}
    if cell.from_runs:
        entry = _mean_std(*cell.from_runs)
        found["published per-run files"] = (
            entry._replace(text=f"{entry.text} ≠") if cell.disagrees else entry
        )
    pages = {own.name: own.page for own in results.cells}
    for protocol, own in cell.ours.items():
        text = number_text(own, Wording(), results.leaderboard.settings["runs"])
        found[VIEW_OF_OURS.format(protocol)] = (
            HtmlEntry(ABSENT)
            if own is None
            else number(own.mean, text=text)._replace(href=f"cells/{pages[own.name]}.html")
        )
    return found


def _mean_std(mean: float, std: float) -> HtmlEntry:
    return number(mean, text=f"{mean:.2f} ({std:.2f})")


def _signed(value: float, digits: int) -> HtmlEntry:
    return number(value, text=f"{value:+.{digits}f}".replace("-", "−").replace("+nan", ABSENT))


def _apart(cell: PublishedCell, one: str, other: str) -> float:
    """What the protocols' ways with labels make of a difference between our own means."""
    first, second = cell.ours[one], cell.ours[other]
    return math.nan if first is None or second is None else first.mean - second.mean


def _by_transfer(
    name: str, cells: Sequence[PublishedCell], views: Sequence[Mapping[str, HtmlEntry]]
) -> dict[str, list[Table]]:
    """By transfer, one matrix per view."""
    tests = list(dict.fromkeys(cell.test_on for cell in cells))
    heats: dict[str, list[Table]] = {}
    for transfer in dict.fromkeys(cell.transfer for cell in cells):
        for number_of, view in enumerate(views[0]):
            entries = {
                (cell.train_on, cell.test_on): row[view]
                for cell, row in zip(cells, views, strict=True)
                if cell.transfer == transfer
            }
            heat = make_heat(f"{name}-{number_of}-{transfer}", view, entries, tests)
            heats.setdefault(transfer, []).append(heat)
    return heats
