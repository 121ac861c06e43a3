"""What the pages of a leaderboard show: matrix, heat maps, all cells, gains, published cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.leaderboard import cell_text
from harness.markdown import gain_table, settings_lines
from harness.published import side_by_side
from harness.scores import CELL, SUBSETS
from harness.site.results import MODEL, PLACE, Configuration, Results, model_of
from harness.site.tables import (
    Column,
    Entry,
    Scale,
    Table,
    count,
    metric_title,
    number,
    of_frame,
    title_of,
)

if TYPE_CHECKING:
    import pandas as pd

VIEWS = ("published table", "published per-run files")
"""What the published numbers come from; the further views are our protocols."""


@dataclass(frozen=True)
class Heat:
    """One matrix of numbers, coloured.

    Attributes:
        table: the matrix; its first column are names.
        href: where more of it is; empty for nowhere.
    """

    table: Table
    href: str = ""


@dataclass(frozen=True, eq=False)
class BoardPage:
    """The first page of a leaderboard.

    Attributes:
        name, title: of the leaderboard.
        lines: what must be known before the numbers; an empty one ends a paragraph.
        constants: columns that are the same everywhere, with their value.
        counts: what there is, by what it is.
        troubles: what a reader should be warned of.
        metrics: name → title, for the choice.
        matrix: configurations and training sets × test sets.
        heats: train-on × test-on, one per configuration.
        gains: over scratch; None where there is no such thing, and `no_gains` may say why.
        scores: for the script: by metric, its legend and the text, value and shade of all cells.
    """

    name: str
    title: str
    lines: Sequence[str]
    constants: Mapping[str, str]
    counts: Mapping[str, str]
    troubles: Sequence[str]
    metrics: Mapping[str, str]
    matrix: Table
    heats: Sequence[Heat]
    legend: Sequence[Entry]
    gains: Table | None
    no_gains: str
    scores: Mapping[str, Any]


def make_board_page(results: Results) -> BoardPage:
    """Gathers the first page of a leaderboard."""
    board = results.board
    shown = board.metrics[0]
    gains, no_gains = _gains(results)
    return BoardPage(
        board.name,
        board.title or board.name,
        settings_lines(board),
        {
            title_of(column): results.plan[0][column]
            for column in MODEL
            if column not in results.varied and results.plan and results.plan[0][column]
        },
        _counts(results),
        _troubles(results),
        {name: metric_title(spec) for name, spec in results.metrics.items()},
        _matrix(results, shown),
        _heats(results, shown),
        results.scales[shown].legend(),
        gains,
        no_gains,
        {name: _scores(results, name) for name in board.metrics},
    )


def score(results: Results, row: Mapping[str, Any], key: str, metric: str) -> Entry:
    """Makes the entry of a cell's score; it leads to the cell."""
    shade = results.scales[metric].shade(row[metric])
    entry = number(row[metric], text=cell_text(row, metric, 2))
    return Entry(entry.text, entry.value, f"cells/{key}.html", shade, key)


def _by_place(results: Results, metric: str) -> dict[Configuration, dict[tuple[str, str], Entry]]:
    """The scores of all cells, by configuration and (train-on, test-on)."""
    found: dict[Configuration, dict[tuple[str, str], Entry]] = {}
    for cell, row in zip(results.plan, _rows(results), strict=True):
        place = (cell["train_on"], cell["test_on"])
        entry = score(results, row, cell["key"], metric)
        found.setdefault(model_of(cell), {})[place] = entry
    return found


def _rows(results: Results, subset: str = "all") -> list[dict[Any, Any]]:
    """The summary of every cell, in the order of the plan."""
    return results.board.summary(subset).to_dict("records")


def _tests(results: Results) -> list[str]:
    return list(dict.fromkeys(cell["test_on"] for cell in results.plan))


def _matrix(results: Results, metric: str) -> Table:
    tests = _tests(results)
    rows = []
    for configuration, cells in _by_place(results, metric).items():
        named = dict(zip(MODEL, configuration, strict=True))
        for train in dict.fromkeys(place[0] for place in cells):
            names = [Entry(named[column]) for column in results.varied]
            entries = [cells.get((train, test), Entry("—")) for test in tests]
            rows.append((*names, Entry(train), *entries))
    columns = (
        *(Column(title_of(column), "name") for column in (*results.varied, "train_on")),
        *(Column(test, "number") for test in tests),
    )
    return Table("matrix", "", columns, tuple(rows))


def _heats(results: Results, metric: str) -> list[Heat]:
    tests = _tests(results)
    columns = (Column("trained on", "name"), *(Column(test, "number") for test in tests))
    heats = []
    for position, (configuration, cells) in enumerate(_by_place(results, metric).items()):
        trains = dict.fromkeys(place[0] for place in cells)
        rows = tuple(
            (Entry(train), *(cells.get((train, test), Entry("—")) for test in tests))
            for train in trains
        )
        caption = results.label(configuration)
        heats.append(Heat(Table(f"heat-{position}", caption, columns, rows)))
    return heats


def _scores(results: Results, metric: str) -> dict[str, Any]:
    """What the script puts in the places of another metric's scores."""
    return {
        "legend": [[entry.text, entry.shade] for entry in results.scales[metric].legend()],
        "cells": {
            subset: {
                cell["key"]: [entry.text, entry.value, entry.shade]
                for cell, row in zip(results.plan, _rows(results, subset), strict=True)
                for entry in (score(results, row, cell["key"], metric),)
            }
            for subset in SUBSETS
        },
    }


def _counts(results: Results) -> dict[str, str]:
    summary = results.board.summary()
    done = int((summary["runs"] > 0).sum())
    return {
        "configurations": str(len(results.configurations)),
        "cells": f"{done} of {len(summary)}" if done < len(summary) else str(done),
        "runs per cell": str(results.board.settings["runs"]),
    }


def _troubles(results: Results) -> list[str]:
    summary = results.board.summary()
    found = []
    if missing := int((summary["runs"] == 0).sum()):
        found.append(f"{_cells(missing)} not been run yet.")
    partial = (summary["runs"] > 0) & (summary["runs"] < results.board.settings["runs"])
    if partial.any():
        found.append(f"{_cells(int(partial.sum()))} been run in part only.")
    failed = summary[summary["failed"] > 0]
    if len(failed):
        found.append(
            f"{_cells(len(failed))} failed predictions: {int(failed['failed'].sum())} rows, summed "
            "over runs. Such a cell has no score where it counts."
        )
    return found


def _cells(number_of: int) -> str:
    return "1 cell has" if number_of == 1 else f"{number_of} cells have"


def _gains(results: Results) -> tuple[Table | None, str]:
    """The gains over scratch, or why there are none."""
    board = results.board
    if not (board.runs["transfer"] == "scratch").any():
        return None, ""
    spec = results.metrics[board.metrics[0]]
    try:
        gained = board.gains(spec)
    except StoreError as problem:  # a partner that was not run, or not wholly
        return None, f"Cannot be told: {problem}"
    if gained.empty:
        return None, ""
    text = gain_table(gained)
    names = [column for column in text.columns if column in CELL]
    table = of_frame("gains", spec.title, text, names)
    verdict = len(table.columns) - 1
    columns = (*table.columns[:verdict], Column("verdict"))
    return Table("gains", metric_title(spec), columns, table.rows), ""


# --- all cells --------------------------------------------------------------------------------


def make_cells_table(results: Results, subset: str) -> Table:
    """Every cell and every metric, as the CSV file has them."""
    board = results.board
    names = (*results.varied, *PLACE)
    columns = (
        *(Column(title_of(column), "name") for column in names),
        *(Column(title, "number") for title in ("runs", "rows per run", "failed")),
        *(Column(results.metrics[metric].title, "number") for metric in board.metrics),
    )
    rows = []
    for cell, row in zip(results.plan, _rows(results, subset), strict=True):
        scores = [score(results, row, cell["key"], metric) for metric in board.metrics]
        rows.append(
            (
                *(Entry(cell[column]) for column in names),
                *(count(row[column]) for column in ("runs", "n", "failed")),
                *(Entry(s.text, s.value, s.href, s.shade) for s in scores),
            )
        )
    return Table(f"cells-{subset}", subset, columns, tuple(rows))


# --- the published study ----------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Where numbers of the published study come from, with a matrix per strategy."""

    title: str
    heats: Sequence[Heat]


@dataclass(frozen=True)
class PublishedPage:
    """The published study beside ours, for one metric.

    Attributes:
        metric: its title.
        table: one row per published cell that we have.
        views: the same as matrices.
        legend: of the matrices' colours.
        left_out: published cells that the leaderboard has not.
    """

    metric: str
    table: Table
    views: Sequence[View]
    legend: Sequence[Entry]
    left_out: int


def make_published_pages(results: Results) -> list[PublishedPage]:
    """Gathers the published study, metric by metric."""
    if results.published is None:
        return []
    found = []
    for metric in results.board.metrics:
        known = results.published[results.published["metric"] == metric]
        beside = side_by_side(results.board, results.published, metric)
        if not beside.empty:
            found.append(_published_page(results, metric, beside, len(known)))
    return found


def _published_page(
    results: Results, metric: str, beside: pd.DataFrame, known: int
) -> PublishedPage:
    names = ["transfer", *PLACE]
    titles = {"published": VIEWS[0], "published, per run": VIEWS[1]}
    protocols = [column for column in beside if column not in (*names, *titles)]
    titles |= {protocol: f"ours, {protocol}" for protocol in protocols}
    frame = beside.rename(columns=titles)
    plain = of_frame(f"published-{metric}", metric, frame, names)
    views = [title for title in titles.values() if title in frame]
    start = len(names)
    scale = Scale.of(
        [entry.value for row in plain.rows for entry in row[start:] if entry.value is not None],
        results.metrics[metric].higher_is_better,
    )
    rows = tuple(
        (*row[:start], *(_shaded(entry, scale) for entry in row[start:])) for row in plain.rows
    )
    table = Table(plain.name, plain.caption, plain.columns, rows)
    return PublishedPage(
        metric_title(results.metrics[metric]),
        table,
        [View(title, _view(table, title, start + i)) for i, title in enumerate(views)],
        scale.legend(),
        known - len(rows),
    )


def _shaded(entry: Entry, scale: Scale) -> Entry:
    shade = None if entry.value is None else scale.shade(entry.value)
    return Entry(entry.text, entry.value, shade=shade)


def _view(table: Table, title: str, position: int) -> list[Heat]:
    """One matrix per strategy of what one column of the table holds."""
    places: dict[str, dict[tuple[str, str], Entry]] = {}
    for row in table.rows:
        transfer, train, test = (entry.text for entry in row[:3])
        places.setdefault(transfer, {})[train, test] = row[position]
    tests = list(dict.fromkeys(row[2].text for row in table.rows))
    columns = (Column("trained on", "name"), *(Column(test, "number") for test in tests))
    heats = []
    for transfer, cells in places.items():
        rows = tuple(
            (Entry(train), *(cells.get((train, test), Entry("—")) for test in tests))
            for train in dict.fromkeys(place[0] for place in cells)
        )
        name = f"{table.name}-{position}-{transfer}"
        heats.append(Heat(Table(name, f"{transfer}", columns, rows)))
    del title
    return heats
