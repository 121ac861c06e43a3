"""Lays out the plan of a benchmark: every configuration's stages, and its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.dataset_loader import DatasetLoader
from harness.errors import BenchmarkError, HarnessError
from harness.planning.benchmark import Benchmark, Committee
from harness.planning.chosen_settings import Chosen
from harness.planning.configurations import (
    configure,
    configure_baselines,
    known_models,
    reconfigure,
    resolve,
    resolve_model,
    resolve_protocol,
)
from harness.planning.encoder import Encoder
from harness.planning.labels import find_labelled, make_labels
from harness.planning.ledger import check_plan
from harness.planning.plan import MemberOf, Plan, Scoring, StageNode, array_digest, digest_of
from harness.planning.resolved import Configuration, ResolvedModel, ResolvedProtocol
from harness.planning.stage_planner import Assigned, StagePlanner
from harness.plugin.backbone import datasets_seen
from harness.plugin.cell import CELL, COMMITTEE, DEFAULT, Cell
from harness.plugin.property import NEEDED
from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.locations import Locations
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry
    from harness.remote.executor_session import ExecutorSession
    from harness.scoring.averages import Weighting


def plan(
    benchmark: Benchmark,
    registry: Registry,
    locations: Locations,
    *,
    limit: int | None = None,
    strict_data: bool = False,
    jobs: int | None = None,
    elsewhere: ExecutorSession | None = None,
) -> Plan:
    """Resolves every name, loads and splits the datasets, and lays out stages and scorings.

    Crystals are encoded by those backbones that may refuse some: these are no rows.

    Args:
        benchmark: what is asked.
        registry: where names are looked up.
        locations: where data, weights and caches are looked for.
        limit: keep at most that many rows of each dataset.
        strict_data: refuse datasets with unusable rows.
        jobs: processes that may encode crystals, at most; as many as there are cores unless given.
        elsewhere: what encodes crystals in the place of processes.

    Raises:
        HarnessError: an unknown name, missing data or weights, or a split that cannot be made.
        LeakError: a protocol that promises to be leak-free is not.
    """
    spec = property_of(benchmark, registry)
    benchmark = benchmark.of_property(spec)
    _check_names(benchmark, registry, spec)
    parts, targets = resolve(benchmark, registry, locations), benchmark.train_on
    models = (*(entry.model for entry in parts.models), *parts.baselines)
    _check_heads(models, spec)
    known = [(model.backbone_ref.name, model.backbone.elements) for model in models]
    encoder = make_encoder(registry, locations, jobs, elsewhere)
    loader = DatasetLoader(
        registry, locations, limit, dict.fromkeys(known), encoder.screen(models), strict_data
    )
    configurations, left_out = configure(parts, targets, locations)
    _check_choosing(benchmark, configurations)
    found = (*configure_baselines(parts.baselines, targets), *configurations)
    if not found:
        named = ", ".join(f"{transfer} on {target}" for transfer, target in left_out)
        raise BenchmarkError(
            f"The benchmark has no cells: its transfers make no sense for its targets and models "
            f"({named}). Name another transfer or target."
        )
    resolved = Plan(
        benchmark,
        spec,
        loader,
        encoder,
        locations,
        parts.protocols,
        found,
        stages=(),
        scorings=(),
        not_applicable=left_out,
        limit=limit,
    )
    return _Planner(resolved, registry).plan()


def plan_baselines(
    benchmark: Benchmark, registry: Registry, locations: Locations, limit: int | None = None
) -> Plan:
    """Lays out the baselines in closed form alone, whatever else the benchmark names.

    Raises:
        HarnessError: a dataset, protocol or metric is unknown, or data are missing.
    """
    spec = property_of(benchmark, registry)
    alone = benchmark.of_property(spec).model_copy(update={"tuning": None, "chosen": ()})
    models = []
    for own in alone.baselines or ():
        with suppress(HarnessError):  # it is not installed here
            models.append(resolve_model(own.backbone, own.head, registry, locations))
    found = configure_baselines([m for m in models if m.head.fit is not None], alone.train_on)
    encoder = make_encoder(registry, locations)
    resolved = Plan(
        alone,
        spec,
        known_rows(alone, registry, locations, limit),
        encoder,
        locations,
        tuple(resolve_protocol(ref, registry) for ref in alone.protocols),
        tuple(found),
        stages=(),
        scorings=(),
        not_applicable=(),
        limit=limit,
    )
    return _Planner(resolved, registry).plan()


def known_rows(
    benchmark: Benchmark, registry: Registry, locations: Locations, limit: int | None = None
) -> DatasetLoader:
    """Returns the datasets with the rows that all backbones which are installed here can encode."""
    models = known_models(benchmark, registry, locations)
    return DatasetLoader(
        registry,
        locations,
        limit,
        dict.fromkeys((model.backbone_ref.name, model.backbone.elements) for model in models),
        make_encoder(registry, locations).screen(models),
    )


def make_encoder(
    registry: Registry,
    locations: Locations,
    jobs: int | None = None,
    elsewhere: ExecutorSession | None = None,
) -> Encoder:
    """Makes what encodes crystals, and tells observers of it."""
    return Encoder(locations.cache, jobs, partial(registry.tell, "encoding_progressed"), elsewhere)


def plan_chosen(planned: Plan, benchmark: Benchmark, registry: Registry) -> Plan:
    """Lays out a plan again when a search has chosen settings; looks up no other name once more.

    Args:
        planned: of the benchmark as it was.
        benchmark: the same with `chosen`.
        registry: for the plugins whose settings were chosen.

    Raises:
        BenchmarkError: the choice is not complete, or of something that the plan does not hold.
    """
    chosen = benchmark.of_property(planned.property)
    _check_choosing(chosen, [one for one in planned.configurations if one.transfer is not None])
    return _Planner(replace(planned, benchmark=chosen), registry).plan()


def property_of(benchmark: Benchmark, registry: Registry) -> PropertySpec:
    """Returns the property of a benchmark: that of all datasets it trains and tests on.

    Raises:
        PluginError: a dataset or its property is unknown.
        BenchmarkError: the datasets are of several properties.
    """
    names = dict.fromkeys((*benchmark.train_on, *benchmark.test_on))
    of = {name: registry.datasets[name].read_card().property for name in names}
    if len(set(of.values())) > 1:
        told = ", ".join(f"{name} of {spec}" for name, spec in of.items())
        raise BenchmarkError(
            "train_on and test_on: one table is of one property, but these are datasets of "
            f"several: {told}. Leave all but one out, or name the others as sources of a transfer."
        )
    return registry.properties[next(iter(of.values()))]


def _check_heads(models: Sequence[ResolvedModel], spec: PropertySpec) -> None:
    for model in models:
        if not spec.satisfies(needs := model.head.needs):
            raise BenchmarkError(
                f"The head {model.head_ref.name!r} needs {NEEDED[needs]}, and makes no sense for "
                f"{spec.title}. Use another head."
            )


def _check_choosing(benchmark: Benchmark, configurations: Sequence[Configuration]) -> None:
    """Refuses to choose settings by rows that a head is fitted on."""
    for one in configurations:
        if one.model.fits_validation and (benchmark.tuning or benchmark.chosen):
            raise BenchmarkError(
                f"The head {one.model.head_ref.label!r} is fitted on validation rows, by which the "
                "settings of this benchmark are chosen. Take its fit_on out, or do not tune."
            )


def _check_names(benchmark: Benchmark, registry: Registry, spec: PropertySpec) -> None:
    trained = (name for model in benchmark.models for name in model.training_on)
    for name in (*benchmark.train_on, *benchmark.test_on, *benchmark.training_on, *trained):
        registry.datasets[name]
    metrics, names = registry.metrics_of(spec.name), benchmark.metrics or ()
    for name in names:
        metrics[name]
    if len(set(names)) < len(names):
        raise BenchmarkError(f"metrics: a name stands twice in {', '.join(names)}.")


Name = tuple[str, str, str, str, str]
"""Backbone, head, transfer, protocol and training set of cells; see `Cell`."""


class _Planner:
    """Lays out stages and scorings.

    Args:
        resolved: the plan without them.
        registry: for metrics, and the settings that a search has chosen.
    """

    def __init__(self, resolved: Plan, registry: Registry) -> None:
        self.resolved = resolved
        self.registry = registry
        self.benchmark, self.loader = resolved.benchmark, resolved.loader
        self.stages: dict[str, StageNode] = {}

    def plan(self) -> Plan:
        scorings: list[Scoring] = []
        run_names: dict[str, tuple[str, ...]] = {}
        chosen = _by_configuration(self.benchmark.chosen)
        for protocol in self.resolved.protocols:
            planner = StagePlanner(
                self.benchmark,
                self.loader,
                self.registry,
                self.resolved.locations,
                protocol,
                self.stages,
                self.resolved.datasets,
            )
            if names := self._name_runs(planner):
                run_names[protocol.label] = names
            rows: dict[Name, list[tuple[MemberOf, ...]]] = {}
            for one in self.resolved.configurations:
                members = planner.members([Assigned(run, one) for run in self.runs])
                rows[_name(one, protocol)] = [(member,) for member in members]
                scorings += self._scorings(
                    rows[_name(one, protocol)], _name(one, protocol), DEFAULT, (), planner
                )
                if settings := chosen.pop(_key(one, protocol), None):
                    scorings += self._tuned(settings, one, planner)
            for name, sources, weighting in self._committees(rows, protocol):
                scorings += self._scorings(sources, name, DEFAULT, (), planner, weighting)
        _refuse_unknown(chosen)
        _check_cells(scorings)
        laid_out = replace(
            self.resolved,
            stages=tuple(self.stages.values()),
            scorings=tuple(scorings),
            run_names=run_names,
        )
        check_plan(laid_out)
        return laid_out

    def _committees(
        self, rows: Mapping[Name, Sequence[tuple[MemberOf, ...]]], protocol: ResolvedProtocol
    ) -> Iterator[tuple[Name, list[tuple[MemberOf, ...]], Weighting]]:
        """Yields the rows of committees: on each dataset that all of their members are trained on.

        Args:
            rows: of configurations under a protocol, per run the members that predict.
            protocol: which.

        Raises:
            BenchmarkError: a member is not called so, two are one and the same, or one cannot
                say how sure it is where that counts.
        """
        named = [dict(zip(CELL, (*name[:3], DEFAULT, *name[3:]), strict=False)) for name in rows]
        labels = make_labels(named, self.benchmark.labels)
        for committee in self.benchmark.committees:
            found = [find_labelled(text, labels) for text in committee.of]
            places = [(backbone, head, transfer) for backbone, head, transfer, *_ in found]
            if len(set(found)) < len(found):
                raise BenchmarkError(
                    f"committees: {committee.label!r} names one configuration twice."
                )
            for target in self.benchmark.train_on:
                names = [(*place, protocol.label, target) for place in places]
                if all(name in rows for name in names):
                    runs = zip(*(rows[name] for name in names), strict=True)
                    sources = [tuple(chain.from_iterable(of_run)) for of_run in runs]
                    if committee.weighting == "precision":
                        _check_stds(sources[0], committee)
                    name = (COMMITTEE, committee.label, COMMITTEE, protocol.label, target)
                    yield name, sources, committee.weighting

    def _name_runs(self, planner: StagePlanner) -> tuple[str, ...]:
        """Asks a protocol whether it can make so many runs, and what each of them tests."""
        rules = planner.protocol.rules
        names: tuple[str, ...] = tuple(
            call(
                rules.name_runs,
                len(self.runs),
                planner.splits.grouping.rows,
                action=f"naming {len(self.runs)} runs",
                returns=Sequence,
            )
        )
        if names and len(names) != len(self.runs):
            raise Breach(
                rules.name_runs,
                f"{type(rules).__qualname__}.name_runs gave {len(names)} names for "
                f"{len(self.runs)} runs: expected one each, or none.",
            )
        return names

    @property
    def runs(self) -> range:
        return range(1, self.benchmark.runs + 1)

    def _tuned(
        self, settings: Sequence[Chosen], one: Configuration, planner: StagePlanner
    ) -> list[Scoring]:
        """Cells of settings that a search has chosen: the best ones, and several averaged."""
        _check_complete(settings, self.runs)
        locations = self.resolved.locations
        assigned = [
            Assigned(chosen.run, reconfigure(one, chosen.setting, self.registry, locations))
            for chosen in settings
        ]
        by_run: dict[int, list[MemberOf]] = {run: [] for run in self.runs}
        for chosen, member in zip(settings, planner.members(assigned), strict=True):
            by_run[chosen.run].append(member)
        chose = [planner.splits.of(one.target, run).validation for run in self.runs]
        if settings[0].selection == "shared":
            chose = [np.unique(np.concatenate(chose))] * len(chose)
        trials = min(chosen.trials for chosen in settings)
        several = max(chosen.rank for chosen in settings)
        rows: dict[str, list[tuple[MemberOf, ...]]] = {
            f"tuned, {trials} trials": [(members[0],) for members in by_run.values()]
        }
        if several > 1:
            rows[f"mean of the best {several} of {trials} trials"] = [
                tuple(members) for members in by_run.values()
            ]
        return [
            scoring
            for label, sources in rows.items()
            for scoring in self._scorings(
                sources, _name(one, planner.protocol), label, chose, planner
            )
        ]

    def _seen_by_weights(self, member: MemberOf) -> set[str]:
        """Groups of the pre-training data, where the weights name a dataset that is registered."""
        weights = (before.stage.weights for before in member.line)
        seen = {name for started in weights if started for name in datasets_seen(started.seen)}
        names = seen & set(self.registry.datasets)
        return {formula for name in names for formula in self.loader.whole[name].formulas}

    def _scorings(
        self,
        sources: Sequence[tuple[MemberOf, ...]],
        name: Name,
        tuning: str,
        chose: Sequence[Indices],
        planner: StagePlanner,
        weighting: Weighting = "equal",
    ) -> list[Scoring]:
        """Cells of one row of a table.

        Args:
            sources: per run, the members that predict.
            name: what its cells are called, before what they are tested on.
            tuning: how its settings were found.
            chose: per run, the rows of the target that settings were chosen by.
            planner: of the protocol.
            weighting: how the members of a run count.
        """
        splits, protocol = planner.splits, planner.protocol
        identity = name if tuning == DEFAULT else (*name, tuning)
        known = [[member.trained_groups() for member in members] for members in sources]
        spec = self.resolved.property.name
        seen: list[set[str | None]] = [
            set().union(*(groups.get(spec, set()) for groups in of_members)) for of_members in known
        ]
        pretrained: list[set[str]] = [
            set().union(*(self._seen_by_weights(member) for member in members))
            for members in sources
        ]
        scorings = []
        for test_on in self.benchmark.test_on:
            dataset = self.loader[test_on]
            rows, labels, overlap, groups_of = [], [], [], []
            crystals_seen: set[str] = set()
            tests = splits.tests(test_on, [members[0].rows.run for members in sources])
            for number, test in tests.items():
                first = sources[number][0].rows
                groups = splits.grouping.of(test_on, first.run)
                rows.append(test)
                groups_of.append(groups)
                scalers = dict.fromkeys(member.rows.scaler for member in sources[number])
                seen_labels = [splits.labels(test_on, first.run, own)[test] for own in scalers]
                _check_labels(seen_labels, name)
                labels.append(seen_labels[0])
                overlap.append(
                    np.array(
                        [
                            groups[row] in seen[number]
                            or dataset.formulas[row] in pretrained[number]
                            for row in test
                        ]
                    )
                )
                tested = {groups[row] for row in test}
                crystals_seen |= {
                    other
                    for of_member in known[number]
                    for other, trained in of_member.items()
                    if other != spec and not tested.isdisjoint(trained)
                }
            scored = tuple(sources[number] for number in tests)
            content = [
                _names_of(scored),
                dataset.digest,
                [array_digest(a) for a in (*rows, *labels, *overlap)],
                *([] if weighting == "equal" else [weighting]),
            ]
            scorings.append(
                Scoring(
                    digest_of([*identity, test_on, content]),
                    Cell(*name[:3], tuning, *name[3:], test_on),
                    protocol,
                    scored,
                    tuple(chose[number] for number in tests) if chose else (),
                    dataset,
                    tuple(groups_of),
                    tuple(rows),
                    tuple(labels),
                    tuple(overlap),
                    tuple(sorted(crystals_seen)),
                    weighting,
                )
            )
        return scorings


def _check_stds(members: Sequence[MemberOf], committee: Committee) -> None:
    """Refuses networks in a committee by precision: they give one value for a row, and no std."""
    if networks := [one.stage.title for one in members if not one.stage.closed_form]:
        raise BenchmarkError(
            f"The committee {committee.label!r} weighs its members by their own standard "
            f"deviations, and {networks[0]!r} has a network as head, which gives none. Leave it "
            'out, or take weighting = "equal".'
        )


def _check_labels(seen: Sequence[Floats], name: Name) -> None:
    """Refuses a mean of models that a protocol lets see different labels of one row."""
    if not all(np.array_equal(labels, seen[0]) for labels in seen):
        raise BenchmarkError(
            f"The committee {name[1]!r}: under {name[3]}, what a row's label is depends on the "
            "model, and the mean of several has none to be scored against."
        )


def _name(one: Configuration, protocol: ResolvedProtocol) -> Name:
    """What the cells of a configuration are called, before what they are tested on."""
    return (
        one.model.backbone_ref.label,
        one.model.head_ref.label,
        one.transfer_label,
        protocol.label,
        one.target,
    )


def _names_of(sources: Sequence[tuple[MemberOf, ...]]) -> Any:
    """The members that predict; for those of one whole stage, in order, its key."""
    stages = {members[0].stage.key for members in sources}
    places = [[member.index for member in members] for members in sources]
    if len(stages) == 1 and places == [[index] for index in range(len(sources))]:
        return stages.pop()
    return [[[member.stage.key, member.index] for member in members] for members in sources]


def _check_cells(scorings: Sequence[Scoring]) -> None:
    """Refuses two cells of one name, whose runs a table could not tell apart."""
    cells: set[Cell] = set()
    for scoring in scorings:
        if scoring.cell in cells:
            named = ", ".join(f"{key} {value!r}" for key, value in vars(scoring.cell).items())
            raise BenchmarkError(
                f"Two entries of the benchmark make the same cell: {named}. "
                "Take one out, or let their settings differ."
            )
        cells.add(scoring.cell)


def _by_configuration(settings: Sequence[Chosen]) -> dict[tuple[str, ...], list[Chosen]]:
    by_name: dict[tuple[str, ...], list[Chosen]] = {}
    for chosen in sorted(settings, key=lambda chosen: (chosen.run, chosen.rank)):
        refs = (chosen.backbone, chosen.head, chosen.transfer, chosen.protocol)
        name = (*(ref.label for ref in refs), chosen.train_on)
        by_name.setdefault(name, []).append(chosen)
    return by_name


def _key(one: Configuration, protocol: ResolvedProtocol) -> tuple[str, ...]:
    """What `Chosen` calls a configuration: a protocol by its settings, not by its view."""
    backbone, head, transfer, _, target = _name(one, protocol)
    return (backbone, head, transfer, protocol.ref.label, target)


def _check_complete(settings: Sequence[Chosen], runs: Sequence[int]) -> None:
    """Refuses settings that are not there for every run, or there twice."""
    ranks = range(1, max(chosen.rank for chosen in settings) + 1)
    given = [(chosen.run, chosen.rank) for chosen in settings]
    expected = [(run, rank) for run in runs for rank in ranks]
    if given != expected:
        odd = sorted(set(expected) ^ set(given)) or given
        raise BenchmarkError(
            f"chosen: the settings for {settings[0].train_on!r} must be given once for every run "
            f"and rank; missing, not asked for, or given twice: run {odd[0][0]}, rank {odd[0][1]}. "
            "Run `harness tune` again, or let `runs` be as it was then."
        )


def _refuse_unknown(settings: Mapping[tuple[str, ...], Sequence[Chosen]]) -> None:
    for name in settings:
        raise BenchmarkError(
            f"chosen: there is no configuration {' | '.join(name)} in this benchmark that could "
            "be tuned: take the entry out, or add what it names."
        )
