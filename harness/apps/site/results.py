"""A leaderboard with all that its pages are made of: results, metrics, published cells, keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import open_leaderboard, published_cells, results_folder
from harness.api.costs import COSTS_FILE, read_costs
from harness.apps.site.html_tables import HtmlEntry, Scale
from harness.apps.site.parts import tell_parts
from harness.errors import HarnessError, StoreError
from harness.planning.benchmark import BENCHMARK_FILE
from harness.plugin.cell import SUBMISSION
from harness.report.findings import Finding, derive_finding
from harness.report.leaderboard import Leaderboard
from harness.report.pivot import Layout, Pivot, PivotEntry, pivot
from harness.report.submissions import SUBMISSIONS
from harness.results.store import PLAN_FILE, Store
from harness.scoring.scores import SUBSETS

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry
    from harness.results.records import PlannedCell

PLACE = ("train_on", "test_on")
"""Columns of a cell's identity that say where it stands in the matrix of its configuration."""

COSTS = ("encode", "fit", "predict")
"""What takes seconds."""

Configuration = tuple[str, ...]
"""Values of `Results.model`."""


@dataclass(frozen=True, eq=False)
class LeaderboardCell:
    """A cell of a leaderboard, and where its results lie.

    Attributes:
        name: what tells it apart, as `Leaderboard.identity`.
        columns: what tables show of it, by the same columns.
        page: name of its page.
        store: its results folder.
        planned: the cell as it was planned there.
        run_names: what each run of the plan tests, where its protocol names that.
    """

    name: tuple[str, ...]
    columns: Mapping[str, str]
    page: str
    store: Store
    planned: PlannedCell
    run_names: Sequence[str] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Where it stands in the matrix of its configuration: (train-on, test-on)."""
        return self.columns["train_on"], self.columns["test_on"]


@dataclass(frozen=True, eq=False)
class Results:
    """One leaderboard, read.

    Attributes:
        source: what was read: a benchmark file, its folder or name, or a folder with results.
        folder: where it lies.
        leaderboard: its tables.
        property: what is predicted.
        metrics: specs of those it scores, by name, in the order of the benchmark.
        published: published cells to show beside it, if there are any.
        cells: all that tables show, in their order.
        costs: by label and training set, seconds of one core to `encode` a crystal, `fit` one run
            and `predict` a crystal; none where that was not measured.
        parts: what plugins say of what models are made of; see `tell_parts`.
    """

    source: str | Path
    folder: Path
    leaderboard: Leaderboard
    property: PropertySpec
    metrics: Mapping[str, MetricSpec]
    published: pd.DataFrame | None
    cells: Sequence[LeaderboardCell]
    costs: Mapping[tuple[str, str], Mapping[str, float]]
    parts: Mapping[tuple[str, str], str]

    @cached_property
    def model(self) -> tuple[str, ...]:
        """Columns of a cell's identity that make its configuration."""
        return tuple(column for column in self.leaderboard.identity if column not in PLACE)

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Columns that tell its configurations apart."""
        return tuple(
            column
            for column in self.model
            if column == "transfer" or len({cell.columns[column] for cell in self.cells}) > 1
        )

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """All of them, in table order."""
        return tuple(dict.fromkeys(self.model_of(cell) for cell in self.cells))

    @cached_property
    def model_pages(self) -> Mapping[Configuration, str]:
        """Name of the page of each: its label, in letters that every address can hold."""
        pages: dict[Configuration, str] = {}
        for configuration in self.configurations:
            label = self.label(configuration).lower()
            plain = "-".join(re.findall(r"[a-z0-9.]+", label)) or "model"
            taken = sum(page == plain or page.startswith(f"{plain}~") for page in pages.values())
            pages[configuration] = f"{plain}~{taken + 1}" if taken else plain
        return pages

    def model_of(self, cell: LeaderboardCell) -> Configuration:
        """Returns the configuration of a cell."""
        return tuple(cell.columns[column] for column in self.model)

    @cached_property
    def matrices(self) -> Mapping[Configuration, Mapping[tuple[str, str], LeaderboardCell]]:
        """The cells of every configuration by their place, in table order."""
        found: dict[Configuration, dict[tuple[str, str], LeaderboardCell]] = {}
        for cell in self.cells:
            found.setdefault(self.model_of(cell), {})[cell.place] = cell
        return found

    @cached_property
    def pivots(self) -> Mapping[tuple[str, str], Pivot]:
        """All cells with what stands out among them, by metric and subset."""
        return {
            (metric, subset): pivot(
                self.leaderboard, self.metrics, Layout(metrics=(metric,), subset=subset)
            )
            for metric in self.metrics
            for subset in SUBSETS
        }

    @cached_property
    def entries(self) -> Mapping[tuple[str, str], Mapping[tuple[str, ...], PivotEntry]]:
        """By metric and subset, then by what tells a cell apart: its score."""
        return {
            shown: {entry.name: entry for entry in made.entries.values()}
            for shown, made in self.pivots.items()
        }

    @cached_property
    def ranks(self) -> Mapping[tuple[str, str], Mapping[tuple[str, ...], str]]:
        """By metric and subset, then by what tells a cell apart: its rank, see `rank_cells`."""
        return {
            shown: rank_cells(list(entries.values()), self.metrics[shown[0]].higher_is_better)
            for shown, entries in self.entries.items()
        }

    @cached_property
    def made_scores(self) -> dict[tuple[str, str, str], HtmlEntry]:
        """Entries of scores that were made, by page of the cell, metric and subset."""
        return {}

    @cached_property
    def finding(self) -> Finding:
        """What the statistics say, by the first metric."""
        return derive_finding(self.leaderboard, self.metrics[self.leaderboard.metrics[0]])

    @cached_property
    def family(self) -> str:
        """Which differences are tested in it."""
        return self.pivots[self.leaderboard.metrics[0], "all"].family[0]

    def label(self, configuration: Configuration) -> str:
        """Names a configuration: as its benchmark does, or by what tells it apart."""
        return self.leaderboard.label_of(dict(zip(self.model, configuration, strict=True)))

    @cached_property
    def scales(self) -> Mapping[str, Scale]:
        """The colours of every metric, the same on all pages."""
        return {
            name: Scale.of(
                [value for subset in SUBSETS for value in self.leaderboard.summary(subset)[name]],
                spec.higher_is_better,
            )
            for name, spec in self.metrics.items()
        }


def rank_cells(entries: Sequence[PivotEntry], higher_is_better: bool) -> dict[tuple[str, ...], str]:
    """Ranks cells within their train-on → test-on, by the mean.

    What the paired test does not tell from the best may be anything from first to its own place,
    and reads so: `1–5`. Cells that are never called best have no rank, nor one that is alone.
    """
    places: dict[tuple[str, ...], list[PivotEntry]] = {}
    for entry in entries:
        if (
            entry.state == "scored"
            and not entry.is_mostly_trained_on
            and entry.trust != "unchecked"
        ):
            places.setdefault(tuple(entry.cell[c] for c in ("protocol", *PLACE)), []).append(entry)
    ranks: dict[tuple[str, ...], str] = {}
    for rivals in places.values():
        if any(entry.best for entry in rivals):
            means = sorted((entry.mean for entry in rivals), reverse=higher_is_better)
            for entry in rivals:
                place = 1 + means.index(entry.mean)
                ranks[entry.name] = f"1–{place}" if entry.undecided and place > 1 else f"{place}"
    return ranks


def _costs(folder: Path) -> Mapping[tuple[str, str], Mapping[str, float]]:
    """What models cost, by label and training set, where that was measured."""
    if not (folder / COSTS_FILE).is_file():
        return {}
    rows: list[Any] = read_costs(folder).to_dict("records")
    return {
        (row["model"], row["train_on"]): {what: row[f"{what}_seconds"] for what in COSTS}
        for row in rows
    }


def read_results(source: str | Path, registry: Registry) -> Results:
    """Reads the results of a benchmark.

    Args:
        source: a benchmark file, its folder or name; or a folder with results alone.
        registry: knows its metrics.

    Raises:
        HarnessError: there is no such benchmark, it was not run, or a metric is not registered.
    """
    folder = results_folder(source)
    leaderboard = open_leaderboard(folder)
    metrics = registry.metrics_of(leaderboard.property_name)
    alone = not Path(source).is_file() and not (folder / BENCHMARK_FILE).is_file()
    return Results(
        source,
        folder,
        leaderboard,
        metrics.property,
        {name: metrics[name] for name in leaderboard.metrics},
        None if alone else published_cells(source),
        tuple(_cells(leaderboard, folder)),
        _costs(folder),
        tell_parts(leaderboard.cells, registry),
    )


def _cells(leaderboard: Leaderboard, folder: Path) -> Iterator[LeaderboardCell]:
    """Finds the cells of a leaderboard in the results folders that it was read from.

    Of a leaderboard of submissions, each has its own; cells that are shown as one are the first's.
    """
    merged = SUBMISSION in leaderboard.identity
    names = [tuple(cell[column] for column in leaderboard.identity) for cell in leaderboard.cells]
    parts = dict.fromkeys(cell[SUBMISSION] for cell in leaderboard.cells) if merged else {"": None}
    stores = {part: Store(folder / SUBMISSIONS / part if part else folder) for part in parts}
    plans = {part: store.read_plan() for part, store in stores.items()}
    planned = [(part, cell) for part, plan in plans.items() for cell in plan.cells]
    seen = set()
    for name, (part, cell) in zip(names, planned, strict=True):
        facts = plans[part].protocols.get(cell.protocol)
        own = dict(zip(leaderboard.identity, name, strict=True))
        shown = own | dict(leaderboard.shown_as.get(name, {}))
        if tuple(shown.values()) not in seen:
            seen.add(tuple(shown.values()))
            yield LeaderboardCell(
                name=name,
                columns=shown,
                page=f"{part}-{cell.key}" if part else cell.key,
                store=stores[part],
                planned=cell,
                run_names=facts.runs if facts else (),
            )


def find_sources(folder: Path = Path("leaderboards")) -> list[Path]:
    """Returns all folders with results in `leaderboards/`, by name.

    Raises:
        HarnessError: there are none.
    """
    plans = [path.parent for path in folder.glob(f"*/{PLAN_FILE}")]
    found = sorted({*plans, *(path.parent for path in folder.glob(f"*/{SUBMISSIONS}"))})
    if not found:
        raise HarnessError(
            f"No results in {folder.resolve()}/*/. Run a benchmark first (`harness run "
            "quickstart`), or name one: `harness site path/to/benchmark.toml`."
        )
    return found


def check_names(results: Sequence[Results]) -> None:
    """Sees that every leaderboard can have a folder of its own.

    Raises:
        StoreError: two have one name.
    """
    known: dict[str, Results] = {}
    for result in results:
        other = known.setdefault(result.leaderboard.name.lower(), result)
        if other is not result:
            raise StoreError(
                f"{other.folder} and {result.folder} are both called "
                f"{result.leaderboard.name!r}: give one another `name` in its benchmark.toml, or "
                "write two sites."
            )
