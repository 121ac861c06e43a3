"""Leaderboards: read, laid out as tables, drawn, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.lookup import (
    Source,
    holds_submissions,
    home_of,
    load_benchmark,
    registry_of,
    results_alone,
    results_folder,
)
from harness.api.table_stamps import are_current, note_current
from harness.drawing.style import SCREEN, Sheet, show_as_written
from harness.errors import BenchmarkError, did_you_mean
from harness.escaping import csv_frame
from harness.planning.benchmark import Benchmark
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.report.markdown import render_markdown
from harness.report.merging import merge
from harness.report.pivot import Layout, Pivot, pivot
from harness.report.published import read_published
from harness.report.submissions import folders_of
from harness.report.trust import read_checks
from harness.results.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from harness.report.comparison import Comparison

TABLES = ("table.md", "table.csv", "table-overlap-free.csv")
"""The files that `render_tables` renders."""

FIGURES = ("heatmap", "parity", "loss", "heads", "learning", "gain", "cost")


def open_leaderboard(folder: Path) -> Leaderboard:
    """Reads the leaderboard of a results folder, or of one that holds people's submissions.

    Raises:
        StoreError: nothing was run there, or a file is damaged.
    """
    if holds_submissions(folder):
        return merge(folders_of(folder), folder.name, read_checks(folder))
    return Leaderboard.read(Store(folder))


def read_leaderboard(
    source: Source, registry: Registry | None = None, out: Path | None = None
) -> Leaderboard:
    """Reads the leaderboard of a benchmark that was run; writes its tables if they are out of date.

    Args:
        source: the benchmark, or a folder with results and no benchmark.toml.
        registry: where metrics come from.
        out: results folder; beside the benchmark file unless given.

    Raises:
        StoreError: nothing was run.
    """
    store = Store(out or results_folder(source))
    leaderboard = open_leaderboard(store.folder)
    refresh_tables(leaderboard, store, registry or registry_of(source), source)
    return leaderboard


def refresh_tables(
    leaderboard: Leaderboard,
    store: Store,
    registry: Registry,
    source: Source,
    benchmark: Benchmark | None = None,
) -> None:
    """Writes the files of a leaderboard, unless they are known to be what its results give.

    Args:
        leaderboard: as it was read just now.
        store: where it lies.
        registry: where metrics come from.
        source: the benchmark, for the published cells that it names.
        benchmark: as it was read from the source, where that has been done.
    """
    metrics = registry.metrics_of(leaderboard.property_name)
    made_from = (store.folder, metrics, _published_file(source, benchmark), TABLES)
    if holds_submissions(store.folder) or not are_current(*made_from):
        write_tables(leaderboard, store, registry, published_cells(source, benchmark))
        note_current(*made_from)


def published_cells(source: Source, benchmark: Benchmark | None = None) -> pd.DataFrame | None:
    """Reads the published cells that a benchmark names, if it has a file and names any.

    Args:
        source: the benchmark, or a folder with results alone.
        benchmark: as it was read from the source, where that has been done.
    """
    file = _published_file(source, benchmark)
    return None if file is None else read_published(file)


def _published_file(source: Source, benchmark: Benchmark | None = None) -> Path | None:
    if results_alone(source):
        return None
    name = (benchmark or load_benchmark(source)).published
    return None if name is None else home_of(source) / name


def write_tables(
    leaderboard: Leaderboard,
    store: Store,
    registry: Registry,
    published: pd.DataFrame | None = None,
) -> Leaderboard:
    """Writes the files of a leaderboard, and returns it."""
    store.sweep()
    for name, text in render_tables(leaderboard, registry, published).items():
        store.write_text(name, text)
    return leaderboard


def render_tables(
    leaderboard: Leaderboard, registry: Registry, published: pd.DataFrame | None = None
) -> dict[str, str]:
    """Renders a leaderboard's files from its result lines: name → text."""
    return {
        "table.md": render_markdown(
            leaderboard, registry.metrics_of(leaderboard.property_name), published
        ),
        **render_csv(leaderboard),
    }


def render_csv(leaderboard: Leaderboard) -> dict[str, str]:
    """Renders the files that hold every number of a leaderboard: name → text."""
    free = leaderboard.summary("overlap-free").drop(columns="trained_on")  # 0 by definition
    return {
        "table.csv": csv_frame(leaderboard.summary()).to_csv(index=False, float_format="%.6g"),
        "table-overlap-free.csv": csv_frame(free).to_csv(index=False, float_format="%.6g"),
    }


def table(
    leaderboard: Leaderboard, layout: Layout | None = None, registry: Registry | None = None
) -> Pivot:
    """Lays out the cells of a leaderboard as a table; `render` makes text of it.

    Args:
        leaderboard: the leaderboard, as `run` and `read_leaderboard` return it.
        layout: what stands in rows and columns, which metrics, which cells.
        registry: where metrics come from.

    Raises:
        BenchmarkError: the layout names something that there is not.
    """
    metrics = (registry or Registry()).metrics_of(leaderboard.property_name)
    return pivot(leaderboard, metrics, layout)


def compare(
    a: Source,
    b: Source,
    *,
    metric: str | None = None,
    only_a: Mapping[str, str] | None = None,
    only_b: Mapping[str, str] | None = None,
    subset: str = "all",
    registry: Registry | None = None,
) -> Comparison:
    """Compares the cells that two leaderboards have in common, paired by run.

    Args:
        a: a benchmark, or a folder with results.
        b: another, or the same.
        metric: to compare; a's first unless given.
        only_a: of a only cells with these values, by column; such columns are not matched.
        only_b: of b, likewise.
        subset: which test rows count: `all` or `overlap-free`.
        registry: where metrics come from.

    Raises:
        BenchmarkError: nothing can be compared.
        StoreError: there are no results.
    """
    from harness.report import comparison

    one = comparison.Side.read(Store(results_folder(a)), only_a)
    other = comparison.Side.read(Store(results_folder(b)), only_b)
    name = one.leaderboard.check_metric(metric or one.leaderboard.metrics[0])
    metrics = (registry or registry_of(a, b)).metrics_of(one.leaderboard.property_name)
    return comparison.compare(one, other, metrics[name], subset)


def draw(
    kind: str,
    sources: Sequence[Source],
    layout: Layout | None = None,
    registry: Registry | None = None,
    out: Path | None = None,
    sheet: Sheet | None = None,
) -> Figure:
    """Draws a figure of a leaderboard; a notebook shows it.

    Args:
        kind: one of `FIGURES`.
        sources: the benchmark; several for `learning`.
        layout: which cells, and for some figures where.
        registry: where metrics come from.
        out: results folder of a single benchmark; beside its file unless given.
        sheet: what the figure is made for; a screen unless given.

    Raises:
        BenchmarkError: no such kind, or there is nothing that it could show.
        StoreError: nothing was run, or what the figure needs is missing.
    """
    from harness.api.costs import read_costs
    from harness.report import figures, store_figures
    from harness.report.cost_figure import draw_costs

    if kind not in FIGURES:
        raise BenchmarkError(f"No figure {kind!r}.{did_you_mean(kind, FIGURES)}")
    if len(sources) != 1 and kind != "learning":
        raise BenchmarkError(
            f"The figure {kind!r} shows one leaderboard; {len(sources)} are given."
        )
    wanted, on = layout or Layout(), sheet or SCREEN
    stores = [Store(out or results_folder(source)) for source in sources]
    leaderboards = [open_leaderboard(store.folder) for store in stores]
    metrics = (registry or registry_of(*sources)).metrics_of(leaderboards[0].property_name)
    if kind == "learning":
        return show_as_written(figures.draw_learning(leaderboards, metrics, wanted, on))
    leaderboard, store = leaderboards[0], stores[0]
    if kind in ("parity", "loss"):
        from_store = {"parity": store_figures.draw_parity, "loss": store_figures.draw_losses}
        return show_as_written(from_store[kind](store, leaderboard, metrics, wanted, on))
    if kind == "cost":
        costs = read_costs(store.folder)
        return show_as_written(draw_costs(leaderboard, metrics, wanted, costs, on))
    from_leaderboard = {
        "heatmap": figures.draw_cells,
        "heads": figures.draw_heads,
        "gain": figures.draw_gains,
    }
    return show_as_written(from_leaderboard[kind](leaderboard, metrics, wanted, on))
