"""From a cell of a leaderboard to a bundle: its weights, what they saw, and how sure they are."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness import __version__
from harness.apps.predict.bundle import (
    FORMAT,
    BundleRecord,
    CellRecord,
    PartRecord,
    ProbeRecord,
    StackRecord,
    agree,
    assemble,
    probe,
    refuse_existing,
    write_bundle,
)
from harness.apps.predict.conformal import LEVELS, coverage, half_width, residuals_of
from harness.errors import BenchmarkError, BundleError, did_you_mean
from harness.nn.encodings import identity
from harness.planning.labels import LABEL, MODEL, find_labelled, make_labels
from harness.planning.plugin_modules import build_backbone, build_head, state_of_members
from harness.planning.selectors import cut_conditions, is_condition, name_of
from harness.plugin.cell import CELL
from harness.plugin.crystal import Crystal
from harness.registry.entry_points import DISTRIBUTION, plugin_entries
from harness.scoring.averages import bounded_std
from harness.training.prediction import embed

if TYPE_CHECKING:
    from torch import Tensor

    from harness.apps.predict.bundle import Bundle
    from harness.apps.predict.ensemble import Ensemble
    from harness.data.dataset import Dataset
    from harness.planning.plan import MemberOf, Plan, Scoring
    from harness.plugin.arrays import Arrays, Floats, Indices
    from harness.plugin.backbone import Backbone
    from harness.registry.catalog import Catalog
    from harness.registry.registry import Registry
    from harness.results.records import PlannedCell
    from harness.results.store import Store
    from harness.scoring.averages import Weighting

IDENTITY = tuple(column for column in CELL if column != "test_on")
"""What tells the ensembles of a leaderboard apart: cells that differ in the test set share one."""

PROBES = 8
PROBE_LATTICE = ((0.0, 2.75, 2.75), (2.75, 0.0, 2.75), (2.75, 2.75, 0.0))
"""Rock salt with a = 5.5 Å."""


def parse_cell(text: str) -> dict[str, str]:
    """Reads conditions such as `transfer=pretrained,train_on=Dataset1`; none of empty text.

    What comes first may be the label of a configuration, as in `three GPs, train_on=MIX`.

    Raises:
        BundleError: one is not column=value, or names a column that cells do not have.
    """
    conditions: dict[str, str] = {}
    for part in cut_conditions(text) if text.strip() else ():
        if part.strip() and not is_condition(part) and not conditions:
            conditions[LABEL] = part.strip()
            continue
        column, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise BundleError(
                f"CELL {part!r}: expected column=value, as transfer=pretrained,train_on=Dataset1."
            )
        if column not in CELL:
            raise BundleError(f"CELL: there is no column {column!r}.{did_you_mean(column, CELL)}")
        conditions[column] = value
    return conditions


def find_ensemble(
    cells: Sequence[PlannedCell],
    conditions: Mapping[str, str],
    labels: Mapping[str, str] = MappingProxyType({}),
) -> list[PlannedCell]:
    """Returns the cells that rest on the one ensemble that meets the conditions.

    Raises:
        BundleError: no ensemble meets them, or several do; they are listed.
    """
    found = find_ensembles(cells, conditions, labels)
    if len(found) == 1:
        return found[0]
    raise BundleError(
        f"{len(found)} trained ensembles meet {_tell(conditions)}: expected exactly one. "
        f"They are:\n{_list(found)}"
    )


def find_ensembles(
    cells: Sequence[PlannedCell],
    conditions: Mapping[str, str],
    labels: Mapping[str, str] = MappingProxyType({}),
) -> list[list[PlannedCell]]:
    """Returns the cells that rest on each ensemble that meets the conditions.

    What a column holds is met by itself, or by the name it begins with where that leaves no doubt.

    Args:
        cells: of a plan.
        conditions: see `parse_cell`.
        labels: of the benchmark.

    Raises:
        BundleError: no ensemble meets them, or no configuration is called so; all are listed.
    """
    conditions = dict(conditions)
    if label := conditions.pop(LABEL, ""):
        try:
            own = find_labelled(label, make_labels([cell.columns for cell in cells], labels))
        except BenchmarkError as problem:
            raise BundleError(
                f"CELL {label!r}: expected column=value, as transfer=pretrained,train_on=Dataset1, "
                f"or the label of a configuration. {problem}"
            ) from None
        conditions |= dict(zip(MODEL, own, strict=True))
    ensembles: dict[tuple[str, ...], list[PlannedCell]] = {}
    for cell in cells:
        ensembles.setdefault(cell.named(IDENTITY), []).append(cell)

    def matching(shortened: bool) -> list[list[PlannedCell]]:
        return [
            own
            for own in ensembles.values()
            if any(
                all(
                    wanted in _names(getattr(cell, column), shortened)
                    for column, wanted in conditions.items()
                )
                for cell in own
            )
        ]

    if found := matching(shortened=False) or matching(shortened=True):
        return found
    raise BundleError(
        f"No trained ensemble meets {_tell(conditions)}: expected exactly one. "
        f"There are:\n{_list(list(ensembles.values()))}"
    )


def _tell(conditions: Mapping[str, str]) -> str:
    return ", ".join(f"{column}={value}" for column, value in conditions.items()) or "nothing"


def _list(ensembles: Sequence[Sequence[PlannedCell]]) -> str:
    return "\n".join(f"  {line}" for line in _told_apart([own[0] for own in ensembles]))


def _names(label: str, shortened: bool) -> tuple[str, ...]:
    """What a label may be called: itself, or also without its settings, view or trials."""
    return (label, name_of(label)) if shortened else (label,)


def _told_apart(cells: Sequence[PlannedCell]) -> Iterable[str]:
    """One line of conditions per cell, of the columns that differ."""
    rows = [cell.columns for cell in cells]
    varying = [c for c in IDENTITY if len({row[c] for row in rows}) > 1] or ["train_on"]
    return (",".join(f"{column}={row[column]}" for column in varying) for row in rows)


def export(
    planned: Plan,
    store: Store,
    cells: Sequence[PlannedCell],
    registry: Registry,
    folder: Path,
    again: str,
) -> BundleRecord:
    """Writes the ensemble behind some cells as a bundle.

    Args:
        planned: the plan of the benchmark, laid out again.
        store: its results.
        cells: of `plan.json`; see `find_ensemble`.
        registry: whose plugins the model comes from.
        folder: to write.
        again: the command that trains the ensemble again, for the error.

    Raises:
        BundleError: the weights are missing, a run has failed, or what was planned or predicted
            does not agree with what is stored.
    """
    refuse_existing(folder)
    scorings = _scorings(planned, cells)
    draft = _Draft.of(planned, store, scorings, registry, again)
    residuals = np.sort(np.concatenate(draft.calibration))
    tensors = {**draft.tensors, "residuals": torch.from_numpy(residuals)}
    found = tuple(
        _score(store, one, draft.record, draft.predicted[one.dataset.digest], residuals)
        for one in scorings
    )
    update = {"cells": found, "calibration_rows": len(residuals), "probes": _probes(draft.bundle)}
    return write_bundle(folder, draft.record.model_copy(update=update), tensors)


def find_best(
    planned: Plan,
    store: Store,
    ensembles: Sequence[Sequence[PlannedCell]],
    registry: Registry,
    again: Callable[[Sequence[PlannedCell]], str],
) -> Sequence[PlannedCell]:
    """Returns the cells of the ensemble that is nearest to its validation rows.

    Test rows have no say. It goes by the mean over runs of the mean |ŷ − y| on the property's
    scale. An ensemble that has failed, or has no validation rows, takes no part.

    Args:
        planned: the plan of the benchmark, laid out again.
        store: its results.
        ensembles: the cells of each.
        registry: whose plugins the models come from.
        again: the command that trains an ensemble again, for the error.

    Raises:
        BundleError: they have different validation rows, or none that are not test rows too;
            weights are missing.
    """
    compared = {(own[0].train_on, own[0].protocol) for own in ensembles}
    if len(compared) > 1:
        choices = "\n".join(f"  train_on={data},protocol={name}" for data, name in sorted(compared))
        raise BundleError(
            "The best is chosen by validation rows, and only models with the same ones can be "
            f"compared: say which are meant by CELL, as one of\n{choices}"
        )
    if not ensembles[0][0].leak_free:
        raise BundleError(
            f"Under the protocol {ensembles[0][0].protocol} the rows that choose may be test rows, "
            "and a best one chosen by these would look better than it is: name a cell instead."
        )
    complete = [(own, _scorings(planned, own)) for own in _without_failed(store, ensembles)]
    for own, scorings in complete:  # all, before the first of them is asked, which may take long
        _refuse_missing(store, _stacks(_sources(scorings)), again(own))
    scores: list[tuple[float, Sequence[PlannedCell]]] = []
    for own, scorings in complete:
        residuals = _Draft.of(planned, store, scorings, registry, again(own)).residuals
        if all(len(of_run) for of_run in residuals):
            scores.append((float(np.mean([of_run.mean() for of_run in residuals])), own))
    if not scores:
        raise BundleError("None of the ensembles predicts validation rows: name a cell instead.")
    return min(scores, key=lambda pair: pair[0])[1]


@dataclass(frozen=True, eq=False)
class _Draft:
    """An ensemble as it is about to be written.

    Attributes:
        record: but for what only predictions tell.
        tensors: but for the residuals.
        bundle: of both.
        predicted: what each run says of all rows of a dataset, by its digest, runs × rows; and
            what its residuals are divided by for the interval.
        residuals: per run, of its validation rows, on the property's scale.
        calibration: the same, divided so.
    """

    record: BundleRecord
    tensors: Mapping[str, Tensor]
    bundle: Bundle
    predicted: Mapping[str, tuple[Floats, Floats]]
    residuals: Sequence[Floats]
    calibration: Sequence[Floats]

    @classmethod
    def of(
        cls,
        planned: Plan,
        store: Store,
        scorings: Sequence[Scoring],
        registry: Registry,
        again: str,
    ) -> _Draft:
        """Puts an ensemble together; see `export`."""
        sources = _sources(scorings)
        stacks = _stacks(sources)
        _refuse_missing(store, stacks, again)
        _refuse_failed(store, scorings)
        target, encodings = scorings[0].target, _Encodings(planned)
        tensors = {
            f"{number}.{name}": tensor
            for number, stack in enumerate(stacks)
            for name, tensor in _tensors(store, stack, encodings).items()
        }
        record = _describe(planned, sources, scorings[0].weighting, stacks, registry)
        whole = {**tensors, "residuals": torch.zeros(1)}
        bundle = assemble(record, whole, registry, "cpu", planned.locations)
        told = {
            data.digest: bundle.ensemble.predict(encodings.of_ensemble(bundle.ensemble, data))[:2]
            for data in {
                one.digest: one for one in (target, *(s.dataset for s in scorings))
            }.values()
        }
        scaled = all(np.isfinite(stds).all() for _, stds in told.values())
        record = record.model_copy(update={"interval": "scaled" if scaled else "constant"})
        predicted = {
            digest: (values, bounded_std(stds) if scaled else np.ones_like(values))
            for digest, (values, stds) in told.items()
        }
        values, divisors = predicted[target.digest]
        validating = [_validating(members) for members in sources]
        residuals = [
            _residuals(target, own, rows) for own, rows in zip(values, validating, strict=True)
        ]
        divided = zip(residuals, divisors, validating, strict=True)
        calibration = [own / by[rows] for own, by, rows in divided]
        return cls(record, tensors, bundle, predicted, residuals, calibration)


def _refuse_missing(store: Store, stacks: Sequence[Sequence[MemberOf]], again: str) -> None:
    """Refuses an ensemble whose weights are not there."""
    for stage in (stack[0].stage for stack in stacks):
        if not store.has_stage(stage.key):
            raise BundleError(
                f"The weights of the stage {stage.key} ({stage.title}) are not in {store.folder}: "
                f"results are passed on without. They are made again by\n  {again}"
            )


def _refuse_failed(store: Store, scorings: Sequence[Scoring]) -> None:
    """Refuses an ensemble with a run that did not predict all of its test rows."""
    for scoring in scorings:
        if failed := _failed_runs(store, scoring.key):
            cell = scoring.cell
            raise BundleError(
                f"{cell.head}, {cell.transfer}: {cell.train_on} → {cell.test_on} of "
                f"{store.folder}: of run {', '.join(map(str, failed))} some predictions are not "
                "finite, and a "
                "bundle is made of runs that all predict. Mend the settings, and run it again."
            )


def _without_failed(
    store: Store, ensembles: Sequence[Sequence[PlannedCell]]
) -> list[Sequence[PlannedCell]]:
    """Leaves out ensembles with a stage or cell that has failed, or that do not predict all."""
    failed = store.failures().keys()
    return [
        own
        for own in ensembles
        if not any(
            {cell.key, *cell.chain} & failed
            or (store.has_predictions(cell.key) and _failed_runs(store, cell.key))
            for cell in own
        )
    ]


def _failed_runs(store: Store, key: str) -> list[int]:
    """The runs of a cell with predictions that are not finite."""
    rows = store.read_predictions(key)
    return sorted({int(run) for run in rows["run"][~np.isfinite(rows["prediction"])]})


def _sources(scorings: Sequence[Scoring]) -> list[tuple[MemberOf, ...]]:
    """What predicts in every run of an ensemble; a run may be scored on some datasets only."""
    found = {
        run: members
        for scoring in scorings
        for run, members in zip(scoring.runs, scoring.sources, strict=True)
    }
    return [found[run] for run in sorted(found)]


def _stacks(sources: Sequence[Sequence[MemberOf]]) -> list[list[MemberOf]]:
    """The members that an ensemble is made of, each once: by stage, in the order of the stage."""
    stacks: dict[str, dict[int, MemberOf]] = {}
    for member in (own for members in sources for own in members):
        stacks.setdefault(member.stage.key, {})[member.index] = member
    return [[own[index] for index in sorted(own)] for own in stacks.values()]


def _scorings(planned: Plan, cells: Sequence[PlannedCell]) -> list[Scoring]:
    by_key = {scoring.key: scoring for scoring in planned.scorings}
    missing = [cell for cell in cells if cell.key not in by_key]
    if missing:
        raise BundleError(
            f"The cell {missing[0].key} cannot be laid out again from the data, settings and "
            "plugins found here: `harness verify` says what differs."
        )
    return [by_key[cell.key] for cell in cells]


class _Encodings:
    """Encoded datasets, each loaded once for every way in which backbones encode it."""

    def __init__(self, planned: Plan) -> None:
        self._encoder = planned.encoder
        self._models = {identity(stage.model.backbone): stage.model for stage in planned.stages}
        self._loaded: dict[tuple[str, str], list[Arrays]] = {}

    def of(self, backbone: Backbone, dataset: Dataset) -> Sequence[Arrays]:
        """The encodings of all rows."""
        name = identity(backbone)
        key = (name, dataset.digest)
        if key not in self._loaded:
            self._loaded[key] = self._encoder.encode(self._models[name], dataset)
        return self._loaded[key]

    def of_ensemble(self, ensemble: Ensemble, dataset: Dataset) -> list[tuple[Arrays, ...]]:
        """For every row, one encoding per encoder of the ensemble."""
        own = [self.of(encoder.backbone, dataset) for encoder in ensemble.encoders]
        return list(zip(*own, strict=True))


def _tensors(store: Store, stack: Sequence[MemberOf], encodings: _Encodings) -> dict[str, Tensor]:
    """Tensors of members of a stage, and what each was trained on: embeddings, and labels."""
    stage = stack[0].stage
    stored, _ = store.read_stage(stage.key)
    modules = {"backbone": build_backbone(stage.model, [torch.Generator() for _ in stack])}
    if not stage.closed_form:
        modules["head"] = build_head(stage.model, [torch.Generator() for _ in stack])
    tensors: dict[str, Tensor] = {}
    for part, module in modules.items():
        state = state_of_members(module, stored, part, [member.index for member in stack])
        module.load_state_dict(state)
        tensors |= {f"{part}.{name}": tensor for name, tensor in state.items()}
    cpu = torch.device("cpu")
    pool = stage.model.backbone.pool(encodings.of(stage.model.backbone, stage.dataset), cpu)
    rows = [member.rows.train for member in stack]
    for number, embeddings in enumerate(embed(modules["backbone"], pool, rows, device=cpu)):
        tensors[f"training.{number}"] = torch.from_numpy(embeddings.astype(np.float32))
        if stage.closed_form:
            labels = stack[number].rows.labels[rows[number]]
            tensors[f"labels.{number}"] = torch.from_numpy(labels)
    return tensors


def _residuals(dataset: Dataset, values: Floats, rows: Any) -> Floats:
    return residuals_of(values[rows], dataset.targets[rows], dataset.property)


def _score(
    store: Store,
    scoring: Scoring,
    record: BundleRecord,
    told: tuple[Floats, Floats],
    residuals: Floats,
) -> CellRecord:
    """How the runs did on their test rows; they must predict what is stored."""
    data = scoring.dataset
    testing = [record.runs.index(run) for run in scoring.runs]  # of all runs
    values, divisors = (own[testing] for own in told)
    stored = store.read_predictions(scoring.key)
    predicted = np.concatenate([own[rows] for own, rows in zip(values, scoring.rows, strict=True)])
    known = stored["prediction"].to_numpy(dtype=np.float64)
    if not agree(predicted, known, record):
        weights = " and ".join(str(store.weights_path(stage.key)) for stage in scoring.stages)
        raise BundleError(
            f"What is in {weights} does not predict what is stored in {store.folder} for the cell "
            f"{scoring.key}: weights and results are of different runs. "
            "Train into a folder of its own (`harness run … --results`) and export from there."
        )
    tested = np.concatenate(
        [
            _residuals(data, own, rows) / by[rows]
            for own, by, rows in zip(values, divisors, scoring.rows, strict=True)
        ]
    )
    shared = data is scoring.target and any(
        np.intersect1d(rows, seen).size
        for rows, seen in zip(scoring.rows, _looked_at(scoring), strict=True)
    )
    lines = [line.scores["all"] for line in store.read_results() if line.key == scoring.key]
    metrics = {
        name: _mean_and_std([line[name] for line in lines])
        for name in lines[0]
        if name not in ("n", "failed")
    }
    return CellRecord(
        cell=vars(scoring.cell),
        rows=len(tested),
        metrics=metrics,
        coverage={f"{c:g}": _number(coverage(tested, half_width(residuals, c))) for c in LEVELS},
        independent=not shared,
    )


def _looked_at(scoring: Scoring) -> list[Indices]:
    """Per run, the rows of the target that chose epochs or settings, and that calibrate."""
    tuning = scoring.tuning or [np.array([], dtype=np.int64)] * len(scoring.sources)
    pairs = zip(scoring.sources, tuning, strict=True)
    return [np.union1d(_validating(members), own) for members, own in pairs]


def _validating(members: Sequence[MemberOf]) -> Indices:
    """The validation rows of all members that none of them was fitted to."""
    shared = reduce(np.intersect1d, [member.rows.validation for member in members])
    return np.setdiff1d(shared, np.concatenate([member.rows.train for member in members]))


def _mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    numbers = np.array([math.nan if value is None else value for value in values])
    std = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return _number(float(numbers.mean())), _number(std)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _describe(
    planned: Plan,
    sources: Sequence[Sequence[MemberOf]],
    weighting: Weighting,
    stacks: Sequence[Sequence[MemberOf]],
    registry: Registry,
) -> BundleRecord:
    """The record of a bundle, but for what only its predictions tell."""
    models = [member for stack in stacks for member in stack]
    places = {(own.stage.key, own.index): place for place, own in enumerate(models)}
    fitted = [pair for last in models for member in last.line for pair in member.fitted()]
    formulas = sorted({data.formulas[row] for data, rows in fitted for row in rows.train})
    elements = {
        symbol
        for data, rows in fitted
        for row in rows.train
        for symbol in data.crystals[row].species
    }
    return BundleRecord(
        format=FORMAT,
        harness=__version__,
        leaderboard=planned.benchmark.name,
        stacks=tuple(_describe_stack(stack, registry) for stack in stacks),
        runs=tuple(members[0].rows.run for members in sources),
        sources=tuple(
            tuple(places[own.stage.key, own.index] for own in members) for members in sources
        ),
        weighting=weighting,
        cells=(),
        property_name=planned.property.name,
        unit=planned.property.unit,
        datasets={
            data.name: (data.digest, len(data))
            for stack in stacks
            for node in stack[0].stage.chain
            for data in node.datasets
        },
        elements=tuple(sorted(elements)),
        formulas=tuple(formulas),
        formulas_sha256=sha256("".join(f"{name}\n" for name in formulas).encode()).hexdigest(),
        calibration_rows=0,
        probes=(),
        tensors_sha256="",
    )


def _describe_stack(stack: Sequence[MemberOf], registry: Registry) -> StackRecord:
    stage = stack[0].stage
    model, scalers = stage.model, [member.rows.scaler for member in stack]
    backbone = (model.backbone_ref.name, model.backbone_settings)
    return StackRecord(
        stage=stage.key,
        chain=tuple(node.title for node in stage.chain),
        backbone=_part(registry, registry.backbones, backbone, model.backbone_code),
        head=_part(
            registry,
            registry.heads,
            model.settings["head"],
            registry.code_of(registry.heads, model.head_ref.name),
        ),
        cutoff_angstrom=model.backbone.cutoff_angstrom,
        runs=tuple(member.rows.run for member in stack),
        training=tuple(
            None if stage.closed_form else member.member_training.training.model_dump(mode="json")
            for member in stack
        ),
        scalers=tuple((own.offset, own.mean, own.std) for own in scalers),
        seeds=tuple(member.rows.init_seed for member in stack),
    )


def _part(
    registry: Registry, catalog: Catalog[Any], chosen: tuple[str, Mapping[str, Any]], code: str
) -> PartRecord:
    name, settings = chosen
    plugin = catalog.owner(name)
    return PartRecord(
        name=name,
        settings=settings,
        plugin=plugin,
        version=_version(registry, plugin),
        code=code,
    )


def _version(registry: Registry, plugin: str) -> str:
    """Name and version of the distribution that brings a plugin; of a file, that it is one."""
    if plugin in registry.built_in:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    for entry in plugin_entries():
        if plugin in (entry.name, f"{entry.name} ({entry.dist.name})" if entry.dist else ""):
            return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    return f"file {Path(plugin).name}"


def _probes(bundle: Bundle) -> tuple[ProbeRecord, ...]:
    """Rock salts of the elements trained on, and what every run says of them."""
    known = bundle.record.elements
    pairs = [(known[i], known[-1 - i]) for i in range(min(PROBES, len(known)))]
    sites = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    crystals = [Crystal(np.array(PROBE_LATTICE), pair, np.array(sites)) for pair in pairs]
    kappa = probe(bundle, crystals)
    return tuple(
        ProbeRecord(
            lattice=PROBE_LATTICE,
            species=pair,
            frac_coords=sites,
            kappa=tuple(kappa[:, n].tolist()),
        )
        for n, pair in enumerate(pairs)
        if np.isfinite(kappa[:, n]).all()  # the backbone may refuse a crystal
    )


def command_again(cells: Sequence[PlannedCell], source: str, chosen: Path) -> str:
    """The command that trains the ensemble of some cells again, in a folder of its own.

    Args:
        cells: those of the ensemble.
        source: the benchmark.
        chosen: the file in which a search has left what it chose, if it is there.
    """
    out = f"weights/{Path(source).name}"
    if not cells[0].tuned:
        train_on = json.dumps([cells[0].train_on], ensure_ascii=False)
        command = f"harness run {source} --results {out} --set 'train_on={train_on}'"
    else:  # what was chosen must all be in the benchmark
        command = f"harness run {chosen if chosen.is_file() else source} --results {out}"
    return f"{command}\nand exported with --results {out} added to the command."
