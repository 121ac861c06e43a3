"""The table of predictions: one row per structure, whether it could be predicted or not.

Columns, where `kappa` is what the property calls its column. Values are in the property's unit, κ
at the temperature of the training data.

    id, formula, sites    of the structure; formula and sites are empty where it could not be read
    kappa_mean            mean over the runs of the ensemble, of κ itself, as published; a run is
                          one model or, where it averages several, their mean on the property's
                          scale
    kappa_std             standard deviation over the runs (ddof 1); how far they disagree
    kappa_max             the largest prediction of a run
    low, high             interval, see `conformal`; where it is unbounded, infinite, and on a log
                          scale 0 below

and for a property on a log scale besides

    std_over_mean         kappa_std / kappa_mean
    max_std_over_mean     kappa_max · kappa_std / kappa_mean, the published score of a candidate
    kappa_geometric       mean over the runs of log10 κ, as κ: what the interval is put around; on a
                          linear scale it is put around the mean

and always

    distance              from the training data, see `applicability`
    in_training           whether a training row has the same reduced formula
    applicable            whether nothing stands in `warnings`
    warnings              why the prediction is not to be trusted
    reason                why there is none; then all numbers are empty

Several bundles make one table: `id`, `formula` and `sites` once, then all columns of each bundle in
turn. They begin with what the property calls its column, those too that do not where a bundle is
alone: `kappa_low`, `band_gap_warnings`. Where two bundles predict one property, the bundle's name
comes before that: `mix_kappa_mean`, `mix_kappa_low`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BundleError, DataError, did_you_mean
from harness.escaping import csv_frame
from harness.files import whole_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from harness.data.structure_files import StructureRow
    from harness.plugin.arrays import Floats
    from harness.plugin.property import PropertySpec

SHARED = ("id", "formula", "sites")
"""Columns of the structure, whatever it is that is predicted of it."""

TEXT = ("id", "formula", "warnings", "reason")


def number_columns(spec: PropertySpec) -> tuple[str, ...]:
    """Names of the columns that hold numbers, in order."""
    own = spec.column
    largest = f"{own}_max"
    ratios = ("std_over_mean", largest, "max_std_over_mean", f"{own}_geometric")
    more = ratios if spec.is_log else (largest,)
    return (f"{own}_mean", f"{own}_std", *more, "low", "high", "distance")


def columns_of(spec: PropertySpec) -> tuple[str, ...]:
    """Names of all columns, in order."""
    judgement = ("in_training", "applicable", "warnings", "reason")
    return (*SHARED, *number_columns(spec), *judgement)


@dataclass(frozen=True)
class BundleColumns:
    """What the columns of one bundle are called in a table.

    Attributes:
        name: of the bundle.
        spec: the property that it predicts.
        key: tells its columns from those of other bundles.
        alone: whether the table is of no other bundle.
    """

    name: str
    spec: PropertySpec
    key: str
    alone: bool

    def column(self, own: str) -> str:
        """Returns what a column of a table of this bundle alone is called here."""
        if self.alone or own in SHARED:
            return own
        return f"{self.key}_{own.removeprefix(f'{self.spec.column}_')}"

    def of_property(self, what: str) -> str:
        """Returns the column that is called after the property: its `mean`, `std` or `max`."""
        return self.column(f"{self.spec.column}_{what}")

    @property
    def label(self) -> str:
        """What it predicts, for headings: as "κ", or "mix κ" beside another bundle of κ."""
        own = self.spec.symbol
        return own if self.key == self.spec.column else f"{self.name} {own}"

    @property
    def label_and_unit(self) -> str:
        """Likewise, as "κ in W/(m·K)"."""
        return f"{self.label} in {self.spec.unit}" if self.spec.unit else self.label


def lay_out(bundles: Sequence[tuple[str, PropertySpec]]) -> tuple[BundleColumns, ...]:
    """Lays out the table of some bundles.

    Args:
        bundles: name and property of each, in order.

    Raises:
        BundleError: two columns would be called the same.
    """
    found: list[BundleColumns] = []
    for name, spec in bundles:
        same = [other for other, one in bundles if one == spec]
        key = spec.column if len(same) == 1 else f"{name}_{spec.column}"
        found.append(BundleColumns(name, spec, key, alone=len(bundles) == 1))
    taken: dict[str, BundleColumns] = {}
    for one in found:
        for column in _own_columns(one):
            if column in taken:
                raise BundleError(
                    f"The bundles {taken[column].name!r} and {one.name!r} would both have a column "
                    f"{column!r}: give them names that tell them apart, as "
                    "`--bundle first=FOLDER --bundle second=FOLDER`."
                )
            taken[column] = one
    return tuple(found)


def _own_columns(one: BundleColumns) -> list[str]:
    return [one.column(name) for name in columns_of(one.spec) if name not in SHARED]


def find_columns(layout: Sequence[BundleColumns], name: str) -> BundleColumns:
    """Returns the bundle that is meant.

    Args:
        layout: of a table.
        name: what its columns begin with, its own name, or that of its property.

    Raises:
        BundleError: it is none of them, or could be several.
    """
    by_key = [one for one in layout if one.key == name]
    found = by_key or [one for one in layout if name in (one.name, one.spec.name)]
    if len(found) == 1:
        return found[0]
    keys = [one.key for one in layout]
    what = f"{name!r} may be {' or '.join(one.key for one in found)}" if found else f"{name!r}"
    raise BundleError(
        f"{what}: expected one of {', '.join(keys)}.{'' if found else did_you_mean(name, keys)}"
    )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What an ensemble says of structures, row by row.

    Attributes:
        property: what was predicted.
        rows: as they were read.
        predicted: runs × rows, in its unit; NaN where there is no prediction.
        stds: of these, on its scale; NaN of runs that give none.
        distance: from the training data, one per row; NaN likewise.
        warnings: why a prediction is not to be trusted, one text per row.
        reasons: why there is none, one text per row.
    """

    property: PropertySpec
    rows: Sequence[StructureRow]
    predicted: Floats
    stds: Floats
    distance: Floats
    warnings: Sequence[str]
    reasons: Sequence[str]

    def table(self, half_width: float | Floats, known: Collection[str]) -> pa.Table:
        """Returns the table, columns as `columns_of` the property.

        Args:
            half_width: of the interval, on the property's scale; of all rows, or one per row.
            known: reduced formulas of the training rows.
        """
        import pyarrow as pa

        failed = np.array([bool(reason) for reason in self.reasons], dtype=bool)
        numbers = {
            **summarise(self.predicted, half_width, self.property),
            "distance": self.distance,
        }
        formulas = [row.crystal.formula if row.crystal else None for row in self.rows]
        columns: dict[str, Any] = {
            "id": [row.id for row in self.rows],
            "formula": formulas,
            "sites": [len(row.crystal.species) if row.crystal else None for row in self.rows],
            **{
                name: pa.array(numbers[name], mask=_empty(numbers[name], failed))
                for name in number_columns(self.property)
            },
            "in_training": pa.array([formula in known for formula in formulas], mask=failed),
            "applicable": pa.array([not text for text in self.warnings], mask=failed),
            "warnings": list(self.warnings),
            "reason": list(self.reasons),
        }
        return pa.table(columns, schema=schema(self.property))


def schema(spec: PropertySpec) -> pa.Schema:
    """The types of the columns."""
    import pyarrow as pa

    types: dict[str, Any] = {"sites": pa.int32(), "in_training": pa.bool_()}
    types |= {"applicable": pa.bool_(), **dict.fromkeys(TEXT, pa.string())}
    return pa.schema([(name, types.get(name, pa.float64())) for name in columns_of(spec)])


def joint_schema(layout: Sequence[BundleColumns]) -> pa.Schema:
    """The columns of a table of several bundles, and their types."""
    import pyarrow as pa

    shared = schema(layout[0].spec)
    fields = [shared.field(name) for name in SHARED]
    for one in layout:
        own = schema(one.spec)
        fields += [f.with_name(one.column(f.name)) for f in own if f.name not in SHARED]
    return pa.schema(fields)


def join(tables: Sequence[pa.Table], layout: Sequence[BundleColumns]) -> pa.Table:
    """Puts the tables of bundles, of the same rows, side by side."""
    import pyarrow as pa

    columns = [tables[0].column(name) for name in SHARED]
    for table in tables:
        columns += [table.column(name) for name in table.column_names if name not in SHARED]
    return pa.table(columns, schema=joint_schema(layout))


def summarise(values: Floats, half_width: float | Floats, spec: PropertySpec) -> dict[str, Floats]:
    """What the runs say together; see the columns above.

    Args:
        values: runs × rows, in the property's unit.
        half_width: of the interval, on the property's scale, of all rows or one per row; may be
            infinite.
        spec: the property.
    """
    own = spec.column
    with np.errstate(all="ignore"):
        mean, largest = values.mean(axis=0), values.max(axis=0)
        std = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1], np.nan)
        middle = spec.mean(values)
        if spec.is_log:
            low, high = (middle * 10 ** (sign * half_width) for sign in (-1.0, 1.0))
        else:
            low, high = middle - half_width, middle + half_width
        return {
            f"{own}_mean": mean,
            f"{own}_std": std,
            "std_over_mean": std / mean,
            f"{own}_max": largest,
            "max_std_over_mean": largest * std / mean,
            f"{own}_geometric": middle,
            "low": low,
            "high": np.where(np.isfinite(middle), high, math.nan),
        }


def _empty(values: Floats, failed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(failed | np.isnan(values))


# --- files ------------------------------------------------------------------------------------

SUFFIXES = (".csv", ".json", ".parquet")


def check_writable(path: Path) -> None:
    """Sees, before anything is predicted, that a table can be written there.

    Raises:
        DataError: its suffix is none of `SUFFIXES`, or its folder is not there.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: a table is written as one of {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise DataError(f"The folder {path.parent} does not exist: make it, or write elsewhere.")


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Writes a table, whole or not at all, as its suffix says.

    Raises:
        DataError: it cannot be written.
    """
    try:
        with whole_file(path) as staging:
            if path.suffix == ".csv":
                csv_frame(frame).to_csv(staging, index=False)
            elif path.suffix == ".json":
                text = frame.to_json(
                    orient="records", indent=1, force_ascii=False, double_precision=15
                )
                staging.write_text(text + "\n", encoding="utf-8")
            else:
                frame.to_parquet(staging, index=False)
    except OSError as problem:
        raise DataError(f"Cannot write {path}: {problem.strerror}.") from problem
