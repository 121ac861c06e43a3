"""Verification of a leaderboard: every number again, from the rows; every digest; the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError
from harness.ledger import COLUMNS, conflicts, stage_ledger, test_rows
from harness.scores import SUBSETS, score_run
from harness.store import PLAN_FILE

if TYPE_CHECKING:
    import pandas as pd

    from harness.contracts import MetricSpec
    from harness.plan import Plan, Scoring
    from harness.store import Store

RELATIVE_TOLERANCE = 1e-12
"""Scores are recomputed by the same code from the same rows: they agree to rounding."""

ROW = ["run", "part", "id"]


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        checked: how many of each thing were checked.
        differences: one line each; empty where everything agrees.
        unchecked: what could not be checked here, and why.
    """

    checked: Mapping[str, int]
    differences: tuple[str, ...]
    unchecked: tuple[str, ...]


def verify(
    store: Store,
    metrics: Mapping[str, MetricSpec],
    tables: Mapping[str, str],
    replan: Callable[[], Plan],
) -> Verification:
    """Recomputes a leaderboard and compares.

    Args:
        store: the results.
        metrics: by name, as registered.
        tables: the rendered files, made anew from the result lines: name → text.
        replan: lays out the stored benchmark again from the data found here; an error of it means
            that data or weights are missing, and what depends on them stays unchecked.

    Raises:
        StoreError: there are no results.
    """
    check = _Check(store, metrics)
    check.tables(tables)
    check.scores()
    check.artefacts()
    check.ledgers()
    try:
        planned = replan()
    except HarnessError as problem:
        check.unchecked.append(f"data, settings and splits: {str(problem).splitlines()[0]}")
    else:
        check.plan(planned)
    return Verification(check.checked, tuple(check.differences), tuple(check.unchecked))


class _Check:
    def __init__(self, store: Store, metrics: Mapping[str, MetricSpec]) -> None:
        self.store = store
        self.metrics = metrics
        self.stored = store.read_json(PLAN_FILE)
        self.cells = {cell["key"]: cell for cell in self.stored["cells"]}
        self.lines = [line for line in store.read_results() if line["key"] in self.cells]
        self.rows = {key: self._read_rows(key) for key in {line["key"] for line in self.lines}}
        self.checked: dict[str, int] = {}
        self.differences: list[str] = []
        self.unchecked: list[str] = []

    def _read_rows(self, key: str) -> pd.DataFrame | None:
        return self.store.read_predictions(key) if self.store.has_predictions(key) else None

    def _count(self, what: str, by: int = 1) -> None:
        self.checked[what] = self.checked.get(what, 0) + by

    def tables(self, tables: Mapping[str, str]) -> None:
        """Compares each table file with one rendered from the result lines."""
        for name, text in tables.items():
            path = self.store.folder / name
            found = path.read_text(encoding="utf-8") if path.is_file() else None
            self._count("tables")
            if found is None:
                self.differences.append(f"{name} is missing")
            elif found != text:
                self.differences.append(f"{name}: {_first_difference(found, text)}")

    def scores(self) -> None:
        """Recomputes every score from the rows, and looks for missing and doubled runs."""
        runs = set(range(1, self.stored["benchmark"]["runs"] + 1))
        names = self.stored["benchmark"]["metrics"]
        metrics = {name: self.metrics[name] for name in names}
        seen: dict[str, list[int]] = {key: [] for key in self.cells}
        for line in self.lines:
            seen[line["key"]].append(line["run"])
            where = f"{_title(line)}, run {line['run']}"
            rows = self.rows[line["key"]]
            if rows is None:
                self.differences.append(f"{where}: its predictions are missing")
                continue
            mine = rows[rows["run"] == line["run"]]
            arrays = (mine[column].to_numpy() for column in ("target", "prediction", "overlap"))
            again = score_run(metrics, *arrays)
            self.differences += [f"{where}: {text}" for text in _unequal(line["scores"], again)]
            self._count("scores", len(metrics) * len(SUBSETS))
        for key, have in seen.items():
            if sorted(have) != sorted(runs):
                what = f"runs {sorted(have)} where {sorted(runs)} are expected"
                self.differences.append(f"{_title(self.cells[key])}: {what}")

    def artefacts(self) -> None:
        """Compares the weights of every stage that are still here with their recorded digest."""
        absent = 0
        for stage in sorted({stage for cell in self.cells.values() for stage in cell["chain"]}):
            folder = self.store.stage_folder(stage)
            if not (folder / "weights.safetensors").is_file():
                absent += 1
                continue
            digest = sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
            self._count("artefacts")
            if digest != self.store.stage_record(stage)["artefact_sha256"]:
                self.differences.append(f"stage {stage}: its weights have another digest")
        if absent:
            self.unchecked.append(f"weights of {absent} stages: not kept here")

    def ledgers(self) -> None:
        """Looks for test rows with another role where the protocol promises that there are none."""
        for key, rows in self.rows.items():
            cell = self.cells[key]
            if rows is None or not cell["leak_free"]:
                continue
            for stage in cell["chain"]:
                self._count("ledgers")
                for _, found in conflicts(self.store.read_ledger(stage), rows).iterrows():
                    self.differences.append(
                        f"{_title(cell)}, run {found['run']}: the test row {found['id']!r} of "
                        f"{found['part']} also has the role {found['role']!r}"
                    )

    def plan(self, planned: Plan) -> None:
        """Compares the data found here, the settings, and every split, label and ledger."""
        found = {
            data.name: data
            for scoring in planned.scorings
            for data in (*(stage.dataset for stage in scoring.stage.chain), scoring.dataset)
        }
        for name, known in self.stored["datasets"].items():
            self._count("datasets")
            data = found.get(name)
            if data is None:
                self.differences.append(f"dataset {name}: no longer in the benchmark")
            elif data.digest != known["digest"]:
                self.differences.append(
                    f"dataset {name}: {len(data)} rows with digest {data.digest[:16]} here, "
                    f"{known['rows']} rows with digest {known['digest'][:16]} in the results"
                )
        keys = {scoring.key for scoring in planned.scorings}
        for key, cell in self.cells.items():
            self._count("cells")
            if key not in keys:
                self.differences.append(
                    f"{_title(cell)}: its key {key} does not follow from data and settings"
                )
        for scoring in planned.scorings:
            self.differences += self._rows_of(scoring)
        for stage in planned.stages:
            if self.store.has_ledger(stage.key):
                expected, stored = stage_ledger(stage), self.store.read_ledger(stage.key)
                if not _same_rows(expected, stored):
                    self.differences.append(f"stage {stage.key}: its ledger is not the plan's")

    def _rows_of(self, scoring: Scoring) -> Iterator[str]:
        rows = self.rows.get(scoring.key)
        if rows is None:
            return
        both = test_rows(scoring).merge(
            rows, on=ROW, how="outer", suffixes=("", "_stored"), indicator=True
        )
        what = {"left_only": "has no prediction", "right_only": "is no test row of this run"}
        changed = (both["target"] != both["target_stored"]) | (
            both["overlap"] != both["overlap_stored"]
        )
        for _, row in both[changed].iterrows():
            found = what.get(row["_merge"], "has another target or overlap than the data")
            title = _title(vars(scoring.cell))
            yield f"{title}, run {row['run']}: the row {row['id']!r} of {row['part']} {found}"


def _title(cell: Mapping[str, Any]) -> str:
    return (
        f"{cell['backbone']}, {cell['head']}, {cell['transfer']}, {cell['protocol']}, "
        f"{cell['train_on']} → {cell['test_on']}"
    )


def _first_difference(found: str, expected: str) -> str:
    pairs = zip(found.splitlines(), expected.splitlines(), strict=False)
    for number, (here, there) in enumerate(pairs, start=1):
        if here != there:
            return f"line {number} is {here!r}, the results give {there!r}"
    return f"{len(found.splitlines())} lines, the results give {len(expected.splitlines())}"


def _unequal(stored: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    for subset in SUBSETS:
        for name, value in again[subset].items():
            known = stored[subset].get(name)
            known = math.nan if known is None else known
            equal = math.isclose(known, value, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-300)
            if not equal and not (math.isnan(known) and not math.isfinite(value)):
                yield f"{name} ({subset} rows) is {known!r}, the predictions give {value!r}"


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    columns: Sequence[str] = COLUMNS
    left, right = (
        frame[list(columns)].astype(str).sort_values(list(columns)).to_numpy()
        for frame in (one, other)
    )
    return left.shape == right.shape and bool(np.all(left == right))


def as_json(found: Verification) -> str:
    """Returns the findings as a JSON document."""
    return json.dumps(
        {
            "checked": dict(found.checked),
            "differences": list(found.differences),
            "unchecked": list(found.unchecked),
        },
        indent=1,
        ensure_ascii=False,
    )
