"""Leaderboards, verified from what they are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.leaderboards import published_cells, render_tables
from harness.api.lookup import Source, default_out, load_benchmark, registry_of, results_alone
from harness.api.plans import describe, plan_again, stored_benchmark
from harness.errors import PluginError
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.plugin.locations import Locations
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store

if TYPE_CHECKING:
    from harness.check.verification import Again, Verification
    from harness.results.records import PlanFile


def verify(
    source: Source,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    plugins: Sequence[Path] = (),
    tables: bool = True,
    deep: bool = False,
    retrain: int = 0,
) -> Verification:
    """Recomputes every number of a leaderboard from its rows, and checks digests and ledger.

    Args:
        source: a benchmark, or a folder with results and no benchmark.toml; published cells and
            what benchmark.toml says are then not compared.
        out: results folder; beside the benchmark file unless given.
        data_dir: folder with datasets, looked in first.
        weights_dir: folder with published weights, looked in first.
        plugins: Python files to load as plugins besides the installed ones.
        tables: whether table files must be there, and be those of the results.
        deep: whether predictions are made again from the weights that are kept.
        retrain: how many stages, chosen at random, are trained again and compared.

    Raises:
        StoreError: there are no results, or plan.json or results.jsonl is damaged.
    """
    from harness.check import verification
    from harness.check.known_rows import RowFindings, compare_rows

    # A submission is never a benchmark of one's own, whatever lies in its folder.
    registry = registry_of(source, plugins=plugins) if tables else Registry(plugins)
    results = results_alone(source)
    store = Store(out or results or default_out(source))
    benchmark = stored_benchmark(store)
    spec = registry.properties[store.read_plan().property_name]

    def render() -> dict[str, str]:
        if not tables:
            return {}
        return render_tables(Leaderboard.read(store), registry, published_cells(source))

    def replan() -> tuple[Plan, PlanFile]:
        planned = plan_again(store, registry, data_dir, weights_dir)
        return planned, describe(planned, registry)

    def compare() -> RowFindings:
        locations = replace(Locations.of(data_dir, weights_dir), offline=True)
        try:
            with blaming(registry):
                return compare_rows(store, benchmark, registry, locations)
        except PluginError as problem:  # which cannot be asked for its rows here
            return RowFindings((), (), (f"rows: {str(problem).splitlines()[0]}",))

    if not tables:
        declared: Benchmark | None = benchmark  # a submission: there is no other word for it
    else:
        declared = None if results else load_benchmark(source).of_property(spec)
    with blaming(registry):
        return verification.verify(
            store,
            registry.metrics_of(spec.name),
            render,
            replan,
            compare,
            benchmark,
            declared,
            list(_again(store, registry, deep, retrain)),
        )


def _again(store: Store, registry: Registry, deep: bool, retrain: int) -> Iterator[Again]:
    from harness.check import recomputation
    from harness.check.verification import Again

    if deep:
        yield Again(
            "cells predicted again from their weights",
            lambda planned: recomputation.recompute_predictions(planned, store, registry),
            lambda planned: len(planned.scorings),
        )
    if retrain:
        yield Again(
            "stages trained again",
            lambda planned: recomputation.retrain(planned, store, registry, retrain),
            lambda planned: len(planned.stages),
        )
