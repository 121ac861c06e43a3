"""A leaderboard with all that its pages are made of: results, metrics, published cells, keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import default_out, published_cells
from harness.benchmark import BENCHMARK_FILE
from harness.errors import HarnessError, StoreError
from harness.leaderboard import Leaderboard
from harness.pivot import Entry, Layout, Pivot, pivot
from harness.scores import SUBSETS
from harness.site.tables import Scale
from harness.store import PLAN_FILE, Store

if TYPE_CHECKING:
    import pandas as pd

    from harness.contracts import MetricSpec
    from harness.registry import Registry

PLACE = ("train_on", "test_on")
"""Columns of a cell's identity that say where it stands in the matrix of its configuration."""

Configuration = tuple[str, ...]
"""Values of `Results.model`."""


@dataclass(frozen=True, eq=False)
class Results:
    """One leaderboard, read.

    Attributes:
        board: its tables.
        store: its results folder.
        metrics: specs of those it scores, by name, in the order of the benchmark.
        published: published cells to show beside it, if there are any.
        plan: its cells as `plan.json` has them, in the order of `board.cells`.
        datasets: what `plan.json` says of each.
    """

    board: Leaderboard
    store: Store
    metrics: Mapping[str, MetricSpec]
    published: pd.DataFrame | None
    plan: Sequence[Mapping[str, Any]]
    datasets: Mapping[str, Mapping[str, Any]]

    @cached_property
    def model(self) -> tuple[str, ...]:
        """Columns of a cell's identity that make its configuration."""
        return tuple(column for column in self.board.identity if column not in PLACE)

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Columns that tell its configurations apart."""
        return tuple(
            column
            for column in self.model
            if column == "transfer" or len({cell[column] for cell in self.plan}) > 1
        )

    @cached_property
    def configurations(self) -> tuple[Configuration, ...]:
        """All of them, in table order."""
        return tuple(dict.fromkeys(self.model_of(cell) for cell in self.plan))

    def model_of(self, cell: Mapping[str, Any]) -> Configuration:
        """Returns the configuration of a cell."""
        return tuple(cell[column] for column in self.model)

    def name_of(self, cell: Mapping[str, Any]) -> tuple[str, ...]:
        """Returns what tells a cell apart."""
        return tuple(cell[column] for column in self.board.identity)

    @cached_property
    def pivots(self) -> Mapping[tuple[str, str], Pivot]:
        """All cells with what stands out among them, by metric and subset."""
        return {
            (metric, subset): pivot(
                self.board, self.metrics, Layout(metrics=(metric,), subset=subset)
            )
            for metric in self.metrics
            for subset in SUBSETS
        }

    @cached_property
    def entries(self) -> Mapping[tuple[str, str], Mapping[tuple[str, ...], Entry]]:
        """By metric and subset, then by what tells a cell apart: its score."""
        return {
            shown: {entry.name: entry for entry in made.entries.values()}
            for shown, made in self.pivots.items()
        }

    def label(self, configuration: Configuration) -> str:
        """Names a configuration by what tells it apart."""
        named = dict(zip(self.model, configuration, strict=True))
        return " · ".join(named[column] for column in self.varied if named[column])

    @cached_property
    def scales(self) -> Mapping[str, Scale]:
        """The colours of every metric, the same on all pages."""
        return {
            name: Scale.of(
                [value for subset in SUBSETS for value in self.board.summary(subset)[name]],
                spec.higher_is_better,
            )
            for name, spec in self.metrics.items()
        }


def read_results(source: str | Path, registry: Registry) -> Results:
    """Reads the results of a benchmark.

    Args:
        source: a benchmark file, its folder or name; or a folder with results alone.
        registry: knows its metrics.

    Raises:
        HarnessError: there is no such benchmark, it was not run, or a metric is not registered.
    """
    alone = (Path(source) / PLAN_FILE).is_file() and not (Path(source) / BENCHMARK_FILE).is_file()
    store = Store(Path(source) if alone else default_out(source))
    plan = store.read_plan()
    board = Leaderboard.read(store)
    return Results(
        board,
        store,
        {name: registry.metrics[name] for name in board.metrics},
        None if alone else published_cells(source),
        [{**planned, **shown} for planned, shown in zip(plan["cells"], board.cells, strict=True)],
        plan["datasets"],
    )


def find_sources(folder: Path = Path("leaderboards")) -> list[Path]:
    """Returns all folders with results in `leaderboards/`, by name.

    Raises:
        HarnessError: there are none.
    """
    found = sorted(path.parent for path in folder.glob(f"*/{PLAN_FILE}"))
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
        other = known.setdefault(result.board.name.lower(), result)
        if other is not result:
            raise StoreError(
                f"{other.store.folder} and {result.store.folder} are both called "
                f"{result.board.name!r}: give one another `name` in its benchmark.toml, or write "
                "two sites."
            )
