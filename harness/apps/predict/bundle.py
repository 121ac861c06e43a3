"""A trained ensemble on disk, ready to predict: `bundle.json` and `bundle.safetensors`.

Loading one runs no code from it: JSON and tensors, nothing else. The model is made by the plugin
that is named, which must be installed, in the version whose code made it. Both files are checked
by their sha256, and the ensemble by what it must predict for a few made-up crystals.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import Field, ValidationError, model_validator

from harness.api.lookup import path_of
from harness.apps.predict.bundle_tensors import check_model_tensors, check_tensors, read_shapes
from harness.apps.predict.conformal import DEFAULT_LEVEL, half_width
from harness.apps.predict.prediction_table import Predictions
from harness.apps.predict.row_encodings import RowEncodings, sort_out
from harness.data.structure_files import StructureRow, is_structure, row_of
from harness.errors import BundleError, DataError, PluginError
from harness.escaping import html_text
from harness.files import new_folder, sweep
from harness.plugin.crystal import Crystal
from harness.plugin.head import FitRows
from harness.plugin.locations import Locations
from harness.plugin.property import THERMAL_CONDUCTIVITY
from harness.plugin.protocol import Scaler
from harness.plugin.settings import Settings
from harness.reading import UNREADABLE, check_regular, parse_json, read_text
from harness.registry.attribution import blaming
from harness.scoring.averages import Weighting, bounded_std

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

    from harness.apps.predict.applicability import Neighbourhood
    from harness.apps.predict.ensemble import Ensemble, Stack
    from harness.plugin.arrays import Arrays, Floats
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry

Found = TypeVar("Found")

RECORD_FILE = "bundle.json"
TENSOR_FILE = "bundle.safetensors"
FORMAT = 2
PROBE_TOLERANCE = 1e-3
"""Relative. float32 on another processor differs by 1e-5 or so, other code or weights by more."""

AGAIN = "Copy it again from where it was whole, or make it again with `harness export`."


class PartRecord(Settings):
    """Where the backbone or the head comes from.

    Attributes:
        name: as in a benchmark file.
        settings: all of them.
        plugin: whose it is.
        version: of the distribution that brings the plugin.
        code: names what computes it; empty for built-in ones of revision 1, see `Registry.code_of`.
    """

    name: str
    settings: Mapping[str, Any]
    plugin: str
    version: str
    code: str


class StackRecord(Settings):
    """Models of one stage: same backbone, same head, same settings of both.

    Attributes:
        stage: key of the last stage of its chain.
        chain: titles of all its stages, first to last.
        backbone, head: the model.
        cutoff_angstrom: the longest bond the backbone sees.
        runs: run numbers, one per member; one that averages several models may stand there again.
        training: settings that each member was trained by, in the last stage; none in closed form.
        scalers: offset, mean and std of each member; see `harness.plugin.Scaler`.
        seeds: of heads in closed form.
    """

    stage: str
    chain: tuple[str, ...]
    backbone: PartRecord
    head: PartRecord
    cutoff_angstrom: float | None
    runs: Annotated[tuple[int, ...], Field(min_length=1)]
    training: tuple[Mapping[str, Any] | None, ...]
    scalers: tuple[tuple[float | None, float, float], ...]
    seeds: tuple[int, ...]

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        for name in ("training", "scalers", "seeds"):
            if len(getattr(self, name)) != len(self.runs):
                raise ValueError(f"{name} must be one for each of {len(self.runs)} members")
        if not all(std > 0 for _, _, std in self.scalers):
            raise ValueError("the std of a scaler must be positive")
        return self


class CellRecord(Settings):
    """How the ensemble scored on one test set.

    Attributes:
        cell: the columns that name it in the leaderboard.
        rows: test rows, summed over runs.
        metrics: by name: mean, std (ddof 1) over the runs; none where a run failed.
        coverage: by level: share of test rows within the run's interval of that level.
        independent: whether no test row is among the rows that the same run is calibrated on or
            had its settings chosen by.
    """

    cell: Mapping[str, str]
    rows: int
    metrics: Mapping[str, tuple[float | None, float | None]]
    coverage: Mapping[str, float | None]
    independent: bool


class ProbeRecord(Settings):
    """A made-up crystal, and what every run says of it; `kappa` is called so whatever it is."""

    lattice: tuple[tuple[float, float, float], ...]
    species: tuple[str, ...]
    frac_coords: tuple[tuple[float, float, float], ...]
    kappa: tuple[float, ...]

    @model_validator(mode="after")
    def _check_crystal(self) -> Self:
        if len(self.species) != len(self.frac_coords) or not self.species:
            raise ValueError("species and frac_coords must be as many, and some")
        return self

    @property
    def crystal(self) -> Crystal:
        """The crystal."""
        return Crystal(np.array(self.lattice), self.species, np.array(self.frac_coords))


class BundleRecord(Settings):
    """What `bundle.json` holds.

    Attributes:
        format: of bundles.
        harness: version that wrote it.
        leaderboard: the benchmark it was trained by.
        stacks: the models. Tensors of the n-th are named `n.…`, n counted from zero.
        runs: run numbers.
        sources: per run, the models whose mean on the property's scale it predicts: positions,
            counted through the members of all stacks.
        weighting: how they count in that mean.
        interval: whether its residuals are on the property's scale, and it is of one width; or
            scaled by the stds of the runs, and it is as wide as they are unsure of a crystal.
        cells: the test sets it was scored on.
        property_name: what is predicted.
        unit: of it.
        datasets: by name, of every dataset trained on: its digest, and how many rows.
        elements: those of the training rows of all members and stages.
        formulas: reduced formulas of the training rows of all members and stages.
        formulas_sha256: their fingerprint: of the sorted formulas, one per line.
        calibration_rows: validation rows behind the interval, summed over runs.
        probes: what must come out after loading.
        tensors_sha256: of the other file.
    """

    format: int
    harness: str
    leaderboard: str
    stacks: tuple[StackRecord, ...] = Field(min_length=1)
    runs: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    cells: tuple[CellRecord, ...]
    # Not mentioned where it is what it was before there were others: bundles keep their digest.
    property_name: str = Field(
        default=THERMAL_CONDUCTIVITY, exclude_if=lambda name: name == THERMAL_CONDUCTIVITY
    )
    weighting: Weighting = Field(default="equal", exclude_if=lambda own: own == "equal")
    interval: Literal["constant", "scaled"] = Field(
        default="constant", exclude_if=lambda own: own == "constant"
    )
    unit: str
    datasets: Mapping[str, tuple[str, int]]
    elements: tuple[str, ...]
    formulas: tuple[str, ...]
    formulas_sha256: str
    calibration_rows: Annotated[int, Field(ge=0)]
    probes: tuple[ProbeRecord, ...]
    tensors_sha256: str

    @model_validator(mode="after")
    def _check_runs(self) -> Self:
        members = sum(len(stack.runs) for stack in self.stacks)
        if not self.runs or len(self.sources) != len(self.runs):
            raise ValueError("sources must be of every run, and of some")
        if not all(own and set(own) <= set(range(members)) for own in self.sources):
            raise ValueError(f"sources must be positions among {members} members")
        if any(len(probe.kappa) != len(self.runs) for probe in self.probes):
            raise ValueError("every probe must have one kappa for each run")
        return self

    @property
    def digest(self) -> str:
        """sha256 of all of it, the digest of the tensors included: names the bundle."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return sha256(content.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained ensemble. `load_bundle` makes one; `predict` is what it is for.

    Attributes:
        record: what is known about it.
        ensemble: the models, and the runs they make up.
        neighbourhood: the training rows of each model, for the distance from them.
        residuals: of the calibration rows, ascending; see `conformal` and `BundleRecord.interval`.
    """

    record: BundleRecord
    ensemble: Ensemble
    neighbourhood: Neighbourhood
    residuals: Floats

    def __repr__(self) -> str:
        """One line, as a notebook's lists show it."""
        one, unit = self.record.cells[0].cell, f" in {self.record.unit}" if self.record.unit else ""
        model = f"{one['backbone']} + {one['head']}, {one['transfer']} on {one['train_on']}"
        return f"<Bundle {model}: {self.property.symbol}{unit}, {len(self.record.runs)} runs>"

    def _repr_html_(self) -> str:
        """What a notebook shows: its scores."""
        import pandas as pd

        rows = [
            {
                "tested on": one.cell["test_on"],
                "rows": one.rows,
                **{
                    name: "failed" if mean is None else f"{mean:.2f}"
                    for name, (mean, _) in one.metrics.items()
                },
            }
            for one in self.record.cells
        ]
        told = f"{self!r}".strip("<>")
        return f"<p><b>{html_text(told)}</b></p>{pd.DataFrame(rows).to_html(index=False)}"

    @property
    def property(self) -> PropertySpec:
        """What it predicts."""
        return self.ensemble.property

    @cached_property
    def _formulas(self) -> frozenset[str]:
        return frozenset(self.record.formulas)

    @cached_property
    def _elements(self) -> frozenset[str]:
        return frozenset(self.record.elements)

    def predict(self, structures: Sequence[Any], level: float = DEFAULT_LEVEL) -> pd.DataFrame:
        """Predicts structures.

        Args:
            structures: crystals of the harness, structures of pymatgen, atoms of ASE, or rows of
                `read_structures`; may be mixed.
            level: of the interval.

        Returns:
            One row per structure, in order, columns as in `prediction_table`.

        Raises:
            DataError: something is no structure; or it is one, and no list of them.
        """
        frame: pd.DataFrame = self.table(rows_of(structures), level).to_pandas()
        return frame

    def table(
        self,
        rows: Sequence[StructureRow],
        level: float = DEFAULT_LEVEL,
        shared: RowEncodings | None = None,
    ) -> pa.Table:
        """Predicts rows, those that could not be read included; see `predict` and `judge`."""
        judged = self.judge(rows, shared)
        width: float | Floats = half_width(self.residuals, level)
        if self.record.interval == "scaled":
            width = width * bounded_std(judged.stds).mean(axis=0)
        return judged.table(width, self._formulas)

    def judge(
        self, rows: Sequence[StructureRow], shared: RowEncodings | None = None
    ) -> Predictions:
        """Predicts with every run, and says where that is not to be trusted, or impossible.

        Args:
            rows: as they were read.
            shared: their encodings, where other bundles are asked about them too.
        """
        reasons = [row.reason for row in rows]
        encodings = self._encode(rows, shared or RowEncodings(rows), reasons)
        values, stds = np.full((2, len(self.record.runs), len(rows)), np.nan)
        distance = np.full(len(rows), np.nan)
        for numbers, found in sort_out(encodings, self.ensemble.predict, reasons):
            values[:, numbers], stds[:, numbers], embeddings = found
            distance[numbers] = self.neighbourhood.distances(embeddings)
        for number in encodings:
            if not reasons[number] and not np.isfinite(values[:, number]).all():
                bad = int((~np.isfinite(values[:, number])).sum())
                reasons[number] = f"the prediction of {bad} of {len(values)} runs is not finite"
        warnings = ["" for _ in rows]
        for number, encoding in encodings.items():
            crystal = rows[number].crystal
            if crystal is not None and not reasons[number]:
                doubts = [*rows[number].remarks, *self._warn(crystal, encoding, distance[number])]
                warnings[number] = "; ".join(doubts)
        return Predictions(self.property, rows, values, stds, distance, warnings, reasons)

    def _encode(
        self, rows: Sequence[StructureRow], shared: RowEncodings, reasons: list[str]
    ) -> dict[int, list[Arrays]]:
        """Encodes the crystals once for each encoder, by the number of their row."""
        crystals = {n: row.crystal for n, row in enumerate(rows) if row.crystal is not None}
        encodings: dict[int, list[Arrays]] = {number: [] for number in crystals}
        for encoder in self.ensemble.encoders:
            name = encoder.model.backbone_ref.name
            for number, crystal in crystals.items():
                if unknown := set(crystal.species) - encoder.backbone.elements:
                    reasons[number] = f"{name} does not know {', '.join(sorted(unknown))}"
            for number, encoding in shared.encode(encoder, name, reasons).items():
                encodings[number].append(encoding)
        return {number: e for number, e in encodings.items() if not reasons[number]}

    def _warn(self, crystal: Crystal, encodings: Sequence[Arrays], distance: float) -> list[str]:
        from harness.apps.predict.applicability import FAR

        found = []
        if unseen := sorted(set(crystal.species) - self._elements):
            found.append(f"not in the training data: {', '.join(unseen)}")
        isolated: dict[float | None, int] = {}
        for encoder, encoding in zip(self.ensemble.encoders, encodings, strict=True):
            isolated[encoder.backbone.cutoff_angstrom] = encoder.backbone.count_isolated(encoding)
        for cutoff, lonely in isolated.items():
            if lonely:
                atoms = "1 atom" if lonely == 1 else f"{lonely} atoms"
                found.append(f"{atoms} without a neighbour within {cutoff:g} Å")
        if distance > FAR:
            found.append(f"far from the training data: {distance:.2f}")
        return found


def rows_of(structures: Iterable[Any]) -> list[StructureRow]:
    """Returns structures of several libraries as rows, called by their number unless they say so.

    Raises:
        DataError: something is no structure; or it is one, and no list of them.
    """
    if is_structure(structures):
        raise DataError("Expected a list of structures, and got one: write predict([structure]).")
    return [row_of(thing, str(number)) for number, thing in enumerate(structures)]


# --- writing ----------------------------------------------------------------------------------


def write_bundle(folder: Path, record: BundleRecord, tensors: Mapping[str, Tensor]) -> BundleRecord:
    """Writes a bundle: all of it or nothing.

    Returns:
        The record with the digest of the tensors.

    Raises:
        BundleError: the folder is there already, or cannot be made.
    """
    from safetensors.torch import save

    refuse_existing(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(folder) as draft:
            (draft / TENSOR_FILE).write_bytes(save(dict(tensors)))
            digest = sha256((draft / TENSOR_FILE).read_bytes()).hexdigest()
            record = record.model_copy(update={"tensors_sha256": digest})
            content = {**record.model_dump(mode="json"), "digest": record.digest}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (draft / RECORD_FILE).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise BundleError(f"Cannot write the bundle {folder}: {problem.strerror}.") from problem
    return record


def refuse_existing(folder: Path) -> None:
    """Sees that a bundle can be written there.

    Raises:
        BundleError: something is there already.
    """
    sweep(folder.parent)
    if folder.exists():
        raise BundleError(f"{folder} is there already: name another folder with -o, or remove it.")


# --- reading ----------------------------------------------------------------------------------


def read_record(folder: Path) -> BundleRecord:
    """Reads what is known about a bundle, and checks both of its files by their digests.

    Raises:
        BundleError: it is none, was changed or damaged, or is of another format.
    """
    path = folder / RECORD_FILE
    try:
        content = parse_json(read_text(path, strict=True))
        stated, written = content.pop("digest"), content["format"]
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is no bundle: it has no {RECORD_FILE}. `harness export` makes bundles."
        ) from None
    except (*UNREADABLE, KeyError, AttributeError, TypeError) as problem:
        raise BundleError(f"{path} is damaged: {problem!r}. {AGAIN}") from None
    if written != FORMAT:
        raise BundleError(
            f"{path} is a bundle of format {written!r}, and this harness reads format {FORMAT}: "
            "use the version of the harness that wrote it, or make it again."
        )
    record, digest = _validated(path, content)
    if digest != stated:
        raise BundleError(f"{path} was changed since it was written. {AGAIN}")
    _check_tensor_file(folder / TENSOR_FILE, record)
    return record


def _validated(path: Path, content: Any) -> tuple[BundleRecord, str]:
    """Returns the record and its digest; that takes going through all of it, settings included."""
    try:
        record = BundleRecord.model_validate(content)
        digest = record.digest
    except ValidationError as problem:
        error = problem.errors()[0]
        where = ".".join(map(str, error["loc"])) or "the whole"
        raise BundleError(f"{path} is damaged at {where!r}: {error['msg']}. {AGAIN}") from None
    except (ValueError, RecursionError):  # settings may be anything
        raise BundleError(f"{path} is damaged: it is nested too deeply. {AGAIN}") from None
    return record, digest


def _check_tensor_file(path: Path, record: BundleRecord) -> None:
    """Holds the tensors to their digest, and to what the record says of them."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if digest != record.tensors_sha256:
            raise BundleError(f"{path} was changed since it was written. {AGAIN}")
        members = [len(stack.runs) for stack in record.stacks]
        check_tensors(read_shapes(path), members, record.calibration_rows)
    except OSError as problem:
        raise BundleError(f"{path}: {problem.strerror or problem}. {AGAIN}") from None
    except ValueError as problem:
        raise BundleError(f"{path} is damaged: {problem}. {AGAIN}") from None


def load_bundle(
    folder: Path | str,
    *,
    property_name: str | None = None,
    device: str = "cpu",
    plugins: Sequence[Path | str] = (),
    weights_dir: Path | str | None = None,
) -> Bundle:
    """Loads a bundle, and sees that it predicts what it must.

    Args:
        folder: what `harness export` wrote.
        property_name: what it is to predict, as `thermal-conductivity`; any property if not given.
        device: `cpu`, `cuda`, or `auto`.
        plugins: Python files to load as plugins besides the installed ones.
        weights_dir: folder with files of weights that its model is made from, looked in first.

    Raises:
        BundleError: see `read_record`; it is of another property; or it does not predict what it
            did when it was written.
        PluginError: a plugin it needs is missing, or has other code; the property is unknown.
        WeightsError: a file of weights is missing.
    """
    from harness.registry.registry import Registry

    record = read_record(Path(folder))
    registry = Registry([Path(plugin) for plugin in plugins])
    if property_name is not None:
        check_properties({str(folder): record}, [property_name], registry)
    locations = Locations.of(weights_dir=path_of(weights_dir))
    return open_bundle(Path(folder), record, registry, device, locations)


def open_bundle(
    folder: Path, record: BundleRecord, registry: Registry, device: str, locations: Locations
) -> Bundle:
    """Loads the rest of a bundle whose record was read; see `load_bundle`.

    Args:
        folder: of the bundle.
        record: as it was read.
        registry: with the plugins that it needs.
        device: `cpu`, `cuda`, or `auto`.
        locations: where weights are looked for that a setting of its model names.
    """
    with blaming(registry):
        bundle = assemble(record, _read_tensors(folder), registry, device, locations)
        _check_probes(bundle, folder)
    return bundle


def check_properties(
    records: Mapping[str, BundleRecord], wanted: Sequence[str], registry: Registry
) -> None:
    """Sees that bundles predict the properties that are asked for, all of them and no others.

    Args:
        records: by where they lie.
        wanted: names of properties; none for any.
        registry: of the properties.

    Raises:
        BundleError: a bundle is of another property; or none is of one that is asked for.
        PluginError: a property is unknown.
    """
    asked = [registry.properties[name] for name in wanted]
    told = " or ".join(f"{spec.title} ({spec.name})" for spec in asked)
    for folder, record in records.items():
        spec = registry.properties[record.property_name]
        if asked and spec not in asked:
            raise BundleError(
                f"The bundle {folder} predicts {spec.title} ({spec.name}), not {told}: "
                "name a bundle that was trained on that, or ask for what this one predicts."
            )
    found = {record.property_name for record in records.values()}
    for spec in asked:
        if spec.name not in found:
            raise BundleError(
                f"None of the bundles predicts {spec.title} ({spec.name}): "
                f"they are of {', '.join(sorted(found))}."
            )


def assemble(
    record: BundleRecord,
    tensors: Mapping[str, Tensor],
    registry: Registry,
    device: str,
    locations: Locations,
) -> Bundle:
    """Makes an ensemble of what a bundle holds, unchecked; see `open_bundle`."""
    from harness.apps.predict.applicability import Neighbourhood
    from harness.apps.predict.ensemble import Ensemble
    from harness.training.prediction import resolve_device

    spec = registry.properties[record.property_name]
    if record.unit != spec.unit:
        raise BundleError(
            f"The bundle predicts {spec.title} in {record.unit}, which is in {spec.unit} here: use "
            "the plugin that it was trained with, or train and export again."
        )
    stacks, training = [], []
    for number, one in enumerate(record.stacks):
        prefix = f"{number}."
        of_stack = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        rows = [of_stack[f"training.{member}"].numpy() for member in range(len(one.runs))]
        stacks.append(_assemble_stack(one, of_stack, rows, registry, spec, locations))
        training += rows
    return Bundle(
        record,
        Ensemble.of_stacks(stacks, record.sources, record.weighting, spec, resolve_device(device)),
        Neighbourhood.of(training),
        tensors["residuals"].numpy(),
    )


def _assemble_stack(
    record: StackRecord,
    tensors: Mapping[str, Tensor],
    training: Sequence[NDArray[np.float32]],
    registry: Registry,
    spec: PropertySpec,
    locations: Locations,
) -> Stack:
    from harness.apps.predict.ensemble import Stack
    from harness.planning.component_ref import ComponentRef
    from harness.planning.configurations import code_of_backbone, resolve_model

    backbone, head = (
        _as_chosen(part, ComponentRef.model_validate) for part in (record.backbone, record.head)
    )
    _check_plugin(record.backbone, "backbone", lambda: code_of_backbone(backbone, registry))
    _check_plugin(record.head, "head", lambda: registry.code_of(registry.heads, head.name))
    model = resolve_model(backbone, head, registry, locations)
    check_model_tensors(tensors, model.backbone.width, labels=model.head.fit is not None)
    scalers = [Scaler(*numbers) for numbers in record.scalers]
    fits = None
    if model.head.fit is not None:
        fits = [
            FitRows(
                rows.astype(np.float64),
                tensors[f"labels.{member}"].numpy(),
                scaler,
                spec,
                seed,
                model.backbone.blocks,
            )
            for member, (rows, scaler, seed) in enumerate(
                zip(training, scalers, record.seeds, strict=True)
            )
        ]
    return Stack(model, tensors, scalers, fits)


def _as_chosen(part: PartRecord, validate: Callable[[Mapping[str, Any]], Found]) -> Found:
    try:
        return validate({**part.settings, "name": part.name})
    except ValidationError as problem:
        raise BundleError(
            f"The bundle has no settings of {part.name!r}: {problem.errors()[0]['msg']}. {AGAIN}"
        ) from None


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / TENSOR_FILE)


def _check_plugin(part: PartRecord, kind: str, code_of: Callable[[], str]) -> None:
    needed = f"the {kind} {part.name!r} of the plugin {part.plugin!r}, version {part.version}"
    try:
        code = code_of()
    except PluginError as problem:
        raise PluginError(
            f"The bundle needs {needed}. Install it, or name its file with --plugin. {problem}"
        ) from None
    if code != part.code:
        raise PluginError(
            f"The bundle needs {needed}, and its code here is another one than that which the "
            "bundle was trained by. Install that version, or train and export again."
        )


def _check_probes(bundle: Bundle, folder: Path) -> None:
    probes = bundle.record.probes
    predicted = probe(bundle, [one.crystal for one in probes])
    wanted = np.array([one.kappa for one in probes]).T.reshape(predicted.shape)
    if not agree(predicted, wanted, bundle.record):
        raise BundleError(
            f"The bundle {folder} does not predict what it did when it was written, by version "
            f"{bundle.record.harness} of the harness: install that version, or export it again."
        )


def agree(predicted: Floats, wanted: Floats, record: BundleRecord) -> bool:
    """Whether predictions are what they must be, but for what processors make of float32.

    On a linear scale a value may be next to zero, so what differs counts there by the width of the
    training targets too.
    """
    widths = [std for stack in record.stacks for offset, _, std in stack.scalers if offset is None]
    least = max(1e-8, PROBE_TOLERANCE * min(widths, default=0.0))
    return predicted.shape == wanted.shape and np.allclose(
        predicted, wanted, rtol=PROBE_TOLERANCE, atol=least, equal_nan=True
    )


def probe(bundle: Bundle, crystals: Sequence[Crystal]) -> Floats:
    """Returns what every run says of crystals, in the property's unit, runs × crystals."""
    rows = [StructureRow(str(number), crystal) for number, crystal in enumerate(crystals)]
    return bundle.judge(rows).predicted
