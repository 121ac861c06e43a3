"""Plans: laid out, described as `plan.json` holds them, laid out again from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.lookup import Source, load_benchmark, registry_of
from harness.planning.benchmark import Benchmark, check_settings
from harness.planning.plan import Plan, Scoring
from harness.planning.planner import plan
from harness.plugin.backbone import join_weights
from harness.plugin.cell import COMMITTEE, DEFAULT
from harness.plugin.locations import Locations
from harness.redaction import redacted
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.results.records import (
    PlanFile,
    PlannedCell,
    PlannedDataset,
    Problem,
    ProtocolFacts,
    Sources,
)
from harness.results.store import PLAN_FILE, Store
from harness.scoring.statistics import RANDOM_SPLITS

if TYPE_CHECKING:
    from harness.planning.parameter_counts import ParameterCount
    from harness.remote.executor_session import ExecutorSession


def prepare(
    source: Source,
    *,
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
    weights_dir: Path | None = None,
    limit: int | None = None,
    strict_data: bool = False,
    registry: Registry | None = None,
    jobs: int | None = None,
    elsewhere: ExecutorSession | None = None,
) -> Plan:
    """Reads a benchmark and lays out what it would do, without training anything."""
    registry = registry or registry_of(source, run=True)
    with blaming(registry):
        return plan(
            load_benchmark(source, overrides),
            registry,
            Locations.of(data_dir, weights_dir),
            limit=limit,
            strict_data=strict_data,
            jobs=jobs,
            elsewhere=elsewhere,
        )


def parameter_counts(planned: Plan, registry: Registry) -> Mapping[str, ParameterCount]:
    """Counts what each stage trains by gradient, by key; see `count_parameters`."""
    from harness.planning.parameter_counts import count_parameters

    with blaming(registry):
        return count_parameters(planned.stages)


def describe(planned: Plan, registry: Registry) -> PlanFile:
    """What `plan.json` holds: the benchmark as run, its datasets, and the cells it consists of.

    Args:
        planned: the plan.
        registry: with which it was laid out; the plugin files it has loaded are noted too.
    """
    datasets = {
        data.name: data
        for scoring in planned.scorings
        for stage in scoring.chain
        for data in (*stage.datasets, scoring.dataset)
    }
    return PlanFile(
        benchmark={
            **json.loads(
                redacted(planned.benchmark.model_dump_json(exclude=planned.benchmark.unset))
            ),
            "limit": planned.limit,
            "rows": {name: len(data) for name, data in datasets.items()},
        },
        datasets={
            name: PlannedDataset(
                digest=data.digest,
                rows=len(data),
                property=data.property.name,
                problems=tuple(
                    Problem(row=own.row, id=own.id, reason=own.reason) for own in data.problems
                ),
            )
            for name, data in datasets.items()
        },
        not_applicable=planned.not_applicable,
        plugins=registry.digests(),
        cells=tuple(
            PlannedCell(
                key=scoring.key,
                **vars(scoring.cell),
                leak_free=scoring.protocol.rules.leak_free,
                weights=_weights_of(scoring),
                chain=tuple(stage.key for stage in scoring.chain),
                sources=_sources_of(scoring),
                crystals_seen=scoring.crystals_seen,
                runs=() if len(scoring.runs) == planned.benchmark.runs else scoring.runs,
            )
            for scoring in planned.scorings
        ),
        protocols={
            protocol.label: ProtocolFacts(
                resampling=protocol.rules.resampling,
                runs=planned.run_names.get(protocol.label, ()),
            )
            for protocol in planned.protocols
            if protocol.rules.resampling != RANDOM_SPLITS or protocol.label in planned.run_names
        },
    )


def _sources_of(scoring: Scoring) -> tuple[Sources, ...]:
    """What predicts, run by run; none where it is the last stage, member by member."""
    if scoring.cell.tuning == DEFAULT and scoring.cell.transfer != COMMITTEE:
        return ()
    return tuple(
        tuple((own.stage.key, own.index) for own in members) for members in scoring.sources
    )


def _weights_of(scoring: Scoring) -> tuple[str, str] | None:
    """Names of the pretrained weights that its chains start from, and of what they have seen."""
    begun = [member.line[0].stage.weights for member in scoring.sources[0]]
    if not (weights := [own for own in begun if own]):
        return None
    joined = join_weights(weights)
    return joined.name, joined.seen


def stored_benchmark(store: Store) -> Benchmark:
    """Returns the benchmark as it was run, from `plan.json`."""
    settings = store.read_plan().settings
    benchmark: Benchmark = check_settings(Benchmark, settings, str(store.folder / PLAN_FILE))
    return benchmark


def plan_again(
    store: Store, registry: Registry, data_dir: Path | None, weights_dir: Path | None
) -> Plan:
    """Lays out the stored benchmark again, from the data found here."""
    locations = replace(Locations.of(data_dir, weights_dir), offline=True)
    limit = store.read_plan().limit
    with blaming(registry):
        return plan(stored_benchmark(store), registry, locations, limit=limit)
