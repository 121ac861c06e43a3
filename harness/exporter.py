"""From a cell of a leaderboard to a bundle: its weights, what they saw, and how sure they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness import __version__
from harness.bundle import (
    FORMAT,
    BundleRecord,
    CellRecord,
    PartRecord,
    ProbeRecord,
    assemble,
    probe,
    refuse_existing,
    write_bundle,
)
from harness.conformal import LEVELS, coverage, half_width, log_residuals
from harness.crystal import Crystal
from harness.encodings import load_encodings
from harness.errors import BundleError, did_you_mean
from harness.modules import build_backbone
from harness.plan import MemberOf
from harness.prediction import embed
from harness.registry import DISTRIBUTION, ENTRY_POINT_GROUP
from harness.scores import CELL

if TYPE_CHECKING:
    from torch import Tensor

    from harness.bundle import Bundle
    from harness.contracts import Arrays, Floats
    from harness.dataset import Dataset
    from harness.plan import Plan, Scoring, StageNode
    from harness.registry import Registry
    from harness.store import Store

UNIT = "W/(m·K)"
IDENTITY = tuple(column for column in CELL if column != "test_on")
"""What tells the ensembles of a leaderboard apart: cells that differ in the test set share one."""

STORED_TOLERANCE = 1e-3
"""Relative; see `bundle.PROBE_TOLERANCE`."""

PROBES = 8
PROBE_LATTICE = ((0.0, 2.75, 2.75), (2.75, 0.0, 2.75), (2.75, 2.75, 0.0))
"""Rock salt with a = 5.5 Å."""


def parse_cell(text: str) -> dict[str, str]:
    """Reads conditions such as `transfer=pretrained,train_on=Dataset1`.

    Raises:
        BundleError: one is not column=value, or names a column that cells do not have.
    """
    conditions: dict[str, str] = {}
    for part in _outside_brackets(text):
        column, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise BundleError(
                f"CELL {part!r}: expected column=value, as transfer=pretrained,train_on=Dataset1."
            )
        if column not in CELL:
            raise BundleError(f"CELL: there is no column {column!r}.{did_you_mean(column, CELL)}")
        conditions[column] = value
    return conditions


def _outside_brackets(text: str) -> list[str]:
    """Cuts at commas, but for those within brackets: settings are part of a label."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def find_ensemble(
    cells: Sequence[Mapping[str, Any]], conditions: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """Returns the cells that rest on the one ensemble that meets the conditions.

    A label is met by itself, or by the name it begins with where that leaves no doubt.

    Raises:
        BundleError: no ensemble meets them, or several do; they are listed.
    """
    ensembles: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        ensembles.setdefault(tuple(cell[column] for column in IDENTITY), []).append(cell)

    def matching(shortened: bool) -> list[list[Mapping[str, Any]]]:
        return [
            own
            for own in ensembles.values()
            if any(
                all(
                    wanted in _names(cell[column], shortened)
                    for column, wanted in conditions.items()
                )
                for cell in own
            )
        ]

    found = matching(shortened=False) or matching(shortened=True)
    if len(found) == 1:
        return found[0]
    shown = found or list(ensembles.values())
    told = ", ".join(f"{column}={value}" for column, value in conditions.items()) or "nothing"
    count = f"{len(found)} trained ensembles meet" if found else "No trained ensemble meets"
    raise BundleError(
        f"{count} {told}: expected exactly one. {'They' if found else 'There'} are:\n"
        + "\n".join(f"  {line}" for line in _told_apart([own[0] for own in shown]))
    )


def _names(label: str, shortened: bool) -> tuple[str, ...]:
    """What a label may be called: itself, or also without its settings or view."""
    return (label, label.partition("(")[0].partition(" [")[0]) if shortened else (label,)


def _told_apart(cells: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """One line of conditions per cell, of the columns that differ."""
    varying = [c for c in IDENTITY if len({cell[c] for cell in cells}) > 1] or ["train_on"]
    return (",".join(f"{column}={cell[column]}" for column in varying) for cell in cells)


def export(
    planned: Plan,
    store: Store,
    cells: Sequence[Mapping[str, Any]],
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
        BundleError: the weights are missing, or what was planned or predicted does not agree with
            what is stored.
    """
    refuse_existing(folder)
    scorings = _scorings(planned, cells)
    stage = _only_stage(scorings[0])
    if not store.has_stage(stage.key):
        raise BundleError(
            f"The weights of the stage {stage.key} ({stage.title}) are not in {store.folder}: "
            f"results are passed on without. They are made again by\n  {again}"
        )
    datasets = (stage.dataset, *(scoring.dataset for scoring in scorings))
    encoded = {data.name: _encode(planned, stage, data) for data in datasets}
    tensors = _tensors(store, stage, encoded)
    record = _describe(planned, stage, registry)
    bundle = assemble(record, {**tensors, "residuals": torch.zeros(1)}, registry, "cpu")
    kappa = {name: bundle.ensemble.predict(own)[0] for name, own in encoded.items()}
    residuals = np.sort(
        np.concatenate(
            [
                _residuals(stage.dataset, kappa[stage.dataset.name][number], member.validation)
                for number, member in enumerate(stage.members)
            ]
        )
    )
    tensors["residuals"] = torch.from_numpy(residuals)
    found = tuple(_score(store, one, kappa[one.dataset.name], residuals) for one in scorings)
    update = {"cells": found, "calibration_rows": len(residuals), "probes": _probes(bundle)}
    return write_bundle(folder, record.model_copy(update=update), tensors)


def _only_stage(scoring: Scoring) -> StageNode:
    """The stage whose members, run by run, are the ensemble.

    Raises:
        BundleError: it is made of several: its runs differ in more than numbers.
    """
    first = scoring.stages[0]
    places = [[(own.stage.key, own.index) for own in members] for members in scoring.sources]
    if places != [[(first.key, number)] for number in range(len(first.members))]:
        raise BundleError(
            f"The cell {scoring.cell.tuning!r} is made of models of {len(scoring.stages)} stages, "
            "whose runs differ in their settings; a bundle holds one stage. Export the cell of "
            "the default settings, or write settings found by `harness tune` into a benchmark."
        )
    return first


def _scorings(planned: Plan, cells: Sequence[Mapping[str, Any]]) -> list[Scoring]:
    by_key = {scoring.key: scoring for scoring in planned.scorings}
    missing = [cell for cell in cells if cell["key"] not in by_key]
    if missing:
        raise BundleError(
            f"The cell {missing[0]['key']} cannot be laid out again from the data, settings and "
            "plugins found here: `harness verify` says what differs."
        )
    return [by_key[cell["key"]] for cell in cells]


def _encode(planned: Plan, stage: StageNode, dataset: Dataset) -> list[Arrays]:
    folder = planned.locations.cache / "encodings" / stage.model.backbone_code
    return list(load_encodings(stage.model.backbone, dataset.crystals, folder))


def _tensors(
    store: Store, stage: StageNode, encoded: Mapping[str, Sequence[Arrays]]
) -> dict[str, Tensor]:
    """The stage's tensors, and what every member has been trained on: embeddings, and labels."""
    weights = store.weights_path(stage.key)
    stored, record = store.read_stage(stage.key)
    if sha256(weights.read_bytes()).hexdigest() != record["artefact_sha256"]:
        raise BundleError(f"{weights} is not the file that was trained: remove it and train again.")
    tensors = {k: t for k, t in stored.items() if k.startswith(("backbone.", "head."))}
    module = build_backbone(stage.model, [torch.Generator() for _ in stage.members])
    own = {k.removeprefix("backbone."): t for k, t in tensors.items() if k.startswith("backbone.")}
    module.load_state_dict(own)
    cpu = torch.device("cpu")
    pool = stage.model.backbone.pool(encoded[stage.dataset.name], cpu)
    rows = [member.train for member in stage.members]
    for number, embeddings in enumerate(embed(module, pool, rows, device=cpu)):
        single = torch.from_numpy(embeddings.astype(np.float32))
        tensors[f"training.{number}"] = single
        if stage.closed_form:
            member = stage.members[number]
            tensors[f"labels.{number}"] = torch.from_numpy(member.labels[member.train])
    return tensors


def _residuals(dataset: Dataset, kappa: Floats, rows: Any) -> Floats:
    return log_residuals(kappa[rows], dataset.kappa[rows])


def _score(store: Store, scoring: Scoring, kappa: Floats, residuals: Floats) -> CellRecord:
    """How the members did on their test rows; they must predict what is stored."""
    stage, data = _only_stage(scoring), scoring.dataset
    stored = store.read_predictions(scoring.key)
    predicted = np.concatenate([own[rows] for own, rows in zip(kappa, scoring.rows, strict=True)])
    known = stored["prediction"].to_numpy(dtype=np.float64)
    if predicted.shape != known.shape or not np.allclose(
        predicted, known, rtol=STORED_TOLERANCE, equal_nan=True
    ):
        raise BundleError(
            f"{store.weights_path(stage.key)} does not predict what is stored in "
            f"{store.predictions_path(scoring.key)}: weights and results are of different runs. "
            "Train into a folder of its own (`harness run … --out`) and export from there."
        )
    own = zip(kappa, scoring.rows, strict=True)
    tested = np.concatenate([_residuals(data, member, rows) for member, rows in own])
    shared = data is stage.dataset and any(
        np.intersect1d(member.validation, rows).size
        for member, rows in zip(stage.members, scoring.rows, strict=True)
    )
    lines = [line["scores"]["all"] for line in store.read_results() if line["key"] == scoring.key]
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


def _mean_and_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    numbers = np.array([math.nan if value is None else value for value in values])
    std = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    return _number(float(numbers.mean())), _number(std)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _describe(planned: Plan, stage: StageNode, registry: Registry) -> BundleRecord:
    """The record of a bundle, but for what only its predictions tell."""
    members = [MemberOf(stage, number) for number in range(len(stage.members))]
    formulas = sorted(set().union(*(member.trained_groups() for member in members)))
    elements = {
        symbol
        for last in members
        for member in last.line
        for data, rows in member.fitted()
        for row in rows.train
        for symbol in data.crystals[row].species
    }
    model = stage.model
    return BundleRecord(
        format=FORMAT,
        harness=__version__,
        leaderboard=planned.benchmark.name,
        stage=stage.key,
        chain=tuple(node.title for node in stage.chain),
        cells=(),
        backbone=_part(registry, "backbone", model.settings["backbone"]),
        head=_part(registry, "head", model.settings["head"]),
        runs=tuple(member.run for member in stage.members),
        scalers=tuple(
            (member.scaler.offset, member.scaler.mean, member.scaler.std)
            for member in stage.members
        ),
        seeds=tuple(member.init_seed for member in stage.members),
        unit=UNIT,
        datasets={
            data.name: (data.digest, len(data)) for node in stage.chain for data in node.datasets
        },
        elements=tuple(sorted(elements)),
        cutoff_angstrom=model.backbone.cutoff_angstrom,
        formulas=tuple(formulas),
        formulas_sha256=sha256("".join(f"{name}\n" for name in formulas).encode()).hexdigest(),
        calibration_rows=0,
        probes=(),
        tensors_sha256="",
    )


def _part(registry: Registry, kind: str, chosen: tuple[str, Mapping[str, Any]]) -> PartRecord:
    name, settings = chosen
    catalogue = registry.backbones if kind == "backbone" else registry.heads
    plugin = catalogue.owner(name)
    return PartRecord(
        name=name,
        settings=settings,
        plugin=plugin,
        version=_version(registry, plugin),
        code=registry.code_digest(plugin),
    )


def _version(registry: Registry, plugin: str) -> str:
    """Name and version of the distribution that brings a plugin; of a file, that it is one."""
    if plugin in registry.built_in:
        return f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if plugin in (entry.name, f"{entry.name} ({entry.dist.name})" if entry.dist else ""):
            return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    return f"file {Path(plugin).name}"


def _probes(bundle: Bundle) -> tuple[ProbeRecord, ...]:
    """Rock salts of the elements trained on, and what every member says of them."""
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
    )


def command_again(cells: Sequence[Mapping[str, Any]], source: str) -> str:
    """The command that trains the ensemble of some cells again, in a folder of its own."""
    train_on = json.dumps([cells[0]["train_on"]], ensure_ascii=False)
    return (
        f"harness run {source} --out weights/{Path(source).name} --set 'train_on={train_on}'\n"
        f"and exported with --out weights/{Path(source).name} added to the command."
    )
