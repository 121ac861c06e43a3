"""What a benchmark's data holds and shares, known before anything is trained.

The audit reads a plan: the same rows, splits and weights that a run would use. It answers how large
and how varied each dataset is, which materials datasets have in common, what pretrained weights
have seen, and how many test rows are left to each cell once materials seen in training are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.check.structure_comparison import NearComparison, StructureComparison
from harness.drawing.heat_map import draw_heatmap, save_figure
from harness.errors import StoreError
from harness.escaping import csv_frame

if TYPE_CHECKING:
    import pandas as pd

    from harness.data.dataset import Dataset
    from harness.planning.plan import Plan

LEVELS = ("id", "formula", "structure", "near structure")
"""Levels at which two rows may be the same: id as written, reduced formula, matching structure, and
matching structure with up to one atom in eight replaced."""

NOT_DECLARED = "not declared"


@dataclass(frozen=True)
class Audit:
    """The findings, as pandas frames.

    Attributes:
        title: of the benchmark.
        datasets: one row per dataset: `dataset`, its `property`, `symbol` and `unit`, `rows`,
            `formulas`, `twins` (rows whose formula another row of the dataset has), `min`, `median`
            and `max` of its values, `elements`, `unusable`.
        overlap: one row per `level` (see `LEVELS`), `dataset` and `other`: `rows` of the dataset,
            how many of them have a counterpart in the other (`shared`), and the `share`. Of a
            dataset with itself, a counterpart is another row.
        weights: one row per `backbone`, `transfer` and `train_on` whose chain starts from
            pretrained `weights`, with the data these have `seen`.
        cells: one row per cell: its identity, `n_all` and `n_overlap_free` (test rows, mean over
            runs), `fewest` (overlap-free test rows of the poorest run), and `lost` (share).
    """

    title: str
    datasets: pd.DataFrame
    overlap: pd.DataFrame
    weights: pd.DataFrame
    cells: pd.DataFrame

    def matrix(self, level: str, values: str = "shared") -> pd.DataFrame:
        """One level of the overlap as a square frame: dataset × other."""
        chosen = self.overlap[self.overlap["level"] == level]
        names = list(self.datasets["dataset"])
        square = chosen.pivot(index="dataset", columns="other", values=values)
        return square.loc[names, names]

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Writes the frames as CSV and the overlap by formula as a picture, PNG and SVG.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths = []
            for name in ("datasets", "overlap", "weights", "cells"):
                paths.append(folder / f"audit_{name}.csv")
                csv_frame(getattr(self, name)).to_csv(paths[-1], index=False, float_format="%.6g")
            return (*paths, *self._write_picture(folder))
        except OSError as problem:
            raise StoreError(
                f"Cannot write the audit to {folder}: {problem.strerror}. "
                "Choose another folder with --to, or change its permissions."
            ) from problem

    def _write_picture(self, folder: Path) -> tuple[Path, Path]:
        figure = draw_heatmap(
            self.matrix("formula", "share").to_numpy(dtype=np.float64),
            self.matrix("formula").to_numpy(dtype=np.int64),
            list(self.datasets["dataset"]),
            title="Materials in common, by reduced formula",
            rows="share and number of rows of …",
            columns="… whose formula occurs in",
            note="Diagonal: rows whose formula another row of the same dataset has.",
        )
        return save_figure(figure, folder / "audit_overlap")


def audit_benchmark(plan: Plan) -> Audit:
    """Audits everything that a plan would use. Trains nothing."""
    datasets = _datasets_of(plan)
    return Audit(
        plan.benchmark.title or plan.benchmark.name,
        _describe_datasets(datasets),
        _compare_datasets(datasets),
        _list_weights(plan),
        _count_test_rows(plan),
    )


def _datasets_of(plan: Plan) -> list[Dataset]:
    """Those trained and tested on, then the sources of chains, then the parts of composite ones."""
    named = [*plan.benchmark.train_on, *plan.benchmark.test_on]
    sources = [data.name for stage in plan.stages for data in stage.datasets]
    parts = [part for name in (*named, *sources) for part in plan.loader.parts(name)]
    return [plan.loader[name] for name in dict.fromkeys([*named, *sources, *parts])]


def _describe_datasets(datasets: Sequence[Dataset]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "dataset": dataset.name,
                "property": dataset.property.name,
                "symbol": dataset.property.symbol,
                "unit": dataset.property.unit,
                "rows": len(dataset),
                "formulas": len(set(dataset.formulas)),
                "twins": _count_shared(dataset.formulas, dataset.formulas, itself=True),
                "min": float(dataset.targets.min()),
                "median": float(np.median(dataset.targets)),
                "max": float(dataset.targets.max()),
                "elements": len({el for crystal in dataset.crystals for el in crystal.species}),
                "unusable": len(dataset.problems),
            }
            for dataset in datasets
        ]
    )


# --- overlap ----------------------------------------------------------------------------------


def _compare_datasets(datasets: Sequence[Dataset]) -> pd.DataFrame:
    import pandas as pd

    structures, near = StructureComparison(), NearComparison()
    rows: list[dict[str, Any]] = []
    for dataset in datasets:
        for other in datasets:
            itself = other is dataset
            shared = {
                "id": _count_shared(dataset.ids, other.ids, itself),
                "formula": _count_shared(dataset.formulas, other.formulas, itself),
                "structure": structures.count_shared(dataset, other),
                "near structure": near.count_shared(dataset, other),
            }
            rows += [
                {
                    "level": level,
                    "dataset": dataset.name,
                    "other": other.name,
                    "rows": len(dataset),
                    "shared": shared[level],
                    "share": shared[level] / len(dataset),
                }
                for level in LEVELS
            ]
    return pd.DataFrame(rows).sort_values("level", key=_by_level, kind="stable", ignore_index=True)


def _by_level(levels: pd.Series[str]) -> pd.Series[int]:
    return levels.map(LEVELS.index)


def _count_shared(own: Sequence[str], other: Sequence[str], itself: bool) -> int:
    """Counts entries of `own` that `other` has, beyond the entry itself where both are one."""
    occurrences = Counter(other)
    return sum(occurrences[entry] > itself for entry in own)


# --- weights and cells ------------------------------------------------------------------------


def _list_weights(plan: Plan) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "backbone": scoring.cell.backbone,
            "transfer": scoring.cell.transfer,
            "train_on": scoring.cell.train_on,
            "weights": stage.weights.name,
            "seen": stage.weights.seen or NOT_DECLARED,
        }
        for scoring in plan.scorings
        for stage in scoring.chain
        if stage.weights is not None
    ]
    columns = ["backbone", "transfer", "train_on", "weights", "seen"]
    return pd.DataFrame(rows, columns=columns).drop_duplicates(ignore_index=True)


def _count_test_rows(plan: Plan) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for scoring in plan.scorings:
        tested = np.array([len(own) for own in scoring.rows])
        free = np.array([int(np.sum(~overlap)) for overlap in scoring.overlap])
        rows.append(
            {
                **vars(scoring.cell),
                "n_all": float(tested.mean()),
                "n_overlap_free": float(free.mean()),
                "fewest": int(free.min()),
                "lost": 1.0 - float(free.mean() / tested.mean()),
            }
        )
    return pd.DataFrame(rows)
