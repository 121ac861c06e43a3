"""Rows, labels and splits of results, compared with the data, whatever their models are called.

Which rows a run trains on and is scored on depends on a dataset, the protocol and the seed alone.
So where a plan cannot be laid out again, as for a backbone that is not installed here, this much
is compared of every cell whose datasets and protocol are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError
from harness.planning.configurations import resolve_protocol
from harness.planning.ledger import COLUMNS, rows_frame
from harness.planning.planner import known_rows
from harness.planning.splits import Splits, with_validation
from harness.plugin.backbone import datasets_seen
from harness.plugin.protocol import Scaler, Split

if TYPE_CHECKING:
    import pandas as pd

    from harness.data.dataset import Dataset
    from harness.planning.benchmark import Benchmark
    from harness.planning.resolved import ResolvedProtocol
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry
    from harness.results.records import PlannedCell, StageRecord
    from harness.results.store import Store

ROW = ["run", "part", "id"]
MOST_NAMED = 20
"""Rows of a table that are named one by one; the others are counted."""


@dataclass(frozen=True)
class RowFindings:
    """What was found.

    Attributes:
        compared: keys of the cells that could be compared.
        differences: one line each.
        unchecked: what could not be compared, and why.
    """

    compared: tuple[str, ...]
    differences: tuple[str, ...]
    unchecked: tuple[str, ...]


class _Unknown(Exception):
    """Something that the rows of a cell depend on is not known here."""


def compare_rows(
    store: Store, benchmark: Benchmark, registry: Registry, locations: Locations
) -> RowFindings:
    """Compares ids, parts, targets, overlaps, ledgers and numbers of rows with the data.

    Args:
        store: the results.
        benchmark: as it was run.
        registry: where names are looked up.
        locations: where data are looked for.
    """
    check = _RowCheck(store, benchmark, registry, locations)
    compared, differences = [], list(check.sizes())
    unchecked: dict[str, list[str]] = {}
    for cell in check.plan.cells:
        try:
            differences += check.compare(cell)
        except (_Unknown, HarnessError) as problem:
            reason = str(problem).splitlines()[0]
            unchecked.setdefault(reason, []).append(cell.title)
        else:
            compared.append(cell.key)
    lines = [f"rows of {_some(titles)}: {reason}" for reason, titles in unchecked.items()]
    return RowFindings(tuple(compared), tuple(dict.fromkeys(differences)), tuple(lines))


def _some(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{len(titles)} cells ({titles[0]}; …)"


class _RowCheck:
    def __init__(
        self, store: Store, benchmark: Benchmark, registry: Registry, locations: Locations
    ) -> None:
        self.store, self.benchmark, self.registry = store, benchmark, registry
        self.plan = store.read_plan()
        self.loader = known_rows(benchmark, registry, locations, self.plan.limit)
        self.protocols = dict(self._protocols())
        self.data = cache(self._data)
        self.splits = cache(self._splits)
        self.ledger = cache(store.read_ledger)
        self.record = cache(store.stage_record)
        self.ledger_differences = cache(self._ledger_differences)

    # --- what is known here -------------------------------------------------------------------

    def _protocols(self) -> Iterator[tuple[str, ResolvedProtocol]]:
        for ref in self.benchmark.protocols:
            try:
                resolved = resolve_protocol(ref, self.registry)
            except HarnessError:
                continue
            yield resolved.label, resolved

    def _data(self, name: str) -> Dataset:
        """Loads a dataset that the results name, if it is the same one here."""
        known = self.plan.datasets.get(name)
        if known is None:
            raise _Unknown(f"the dataset {name!r} is not in plan.json")
        data = self.loader[name]
        if data.digest != known.digest:
            raise _Unknown(f"the dataset {name!r} has other rows here")
        return data

    def _splits(self, protocol: str) -> Splits:
        if protocol not in self.protocols:
            raise _Unknown(f"the protocol {protocol!r} is not known here")
        rules = self.protocols[protocol].rules
        return Splits(
            self.loader, rules, self.benchmark.seed, self.plan.datasets, self.benchmark.test_on
        )

    # --- comparing ----------------------------------------------------------------------------

    def sizes(self) -> Iterator[str]:
        """Compares the numbers of rows that `plan.json` names."""
        for name, known in self.plan.datasets.items():
            try:
                rows = len(self.data(name))
            except (_Unknown, HarnessError):
                continue  # named with the cells that need it
            if rows != known.rows:
                yield f"dataset {name}: {known.rows} rows in plan.json, the data give {rows}"

    def compare(self, cell: PlannedCell) -> list[str]:
        """Compares all rows of a cell.

        Raises:
            _Unknown, HarnessError: it cannot be done here.
        """
        for name in (cell.train_on, cell.test_on):
            self.data(name)
        splits = self.splits(cell.protocol)
        rules = self.protocols[cell.protocol].rules
        found = []
        if cell.leak_free != rules.leak_free:
            found.append(
                f"{cell.title}: leak_free is {cell.leak_free}, the protocol says otherwise"
            )
        for stage in cell.chain:
            found += self.ledger_differences(stage, cell.protocol, cell.train_on)
        expected = self._test_rows(cell, splits)
        found += other_rows(cell.title, expected, self.store.read_predictions(cell.key))
        if rules.leak_free:
            found += self._twins(cell, splits)
        return found

    def _test_rows(self, cell: PlannedCell, splits: Splits) -> pd.DataFrame:
        """The rows that a cell predicts; columns as `ledger.test_rows`."""
        data = self.data(cell.test_on)
        runs = self.plan.runs_of(cell)
        rows, labels, overlap = [], [], []
        for run in runs:
            test = splits.of(cell.test_on, run).test
            rows.append(test)
            labels.append(splits.labels(cell.test_on, run, self._decoder(cell, splits, run))[test])
            groups = self._trained_groups(cell, run)
            own, pretrained = splits.grouping.of(cell.test_on, run), self._seen_by_weights(cell)
            overlap.append(
                np.array(
                    [own[row] in groups or data.formulas[row] in pretrained for row in test],
                    dtype=bool,
                )
            )
        return rows_frame(data, runs, rows, labels, overlap)

    def _decoder(self, cell: PlannedCell, splits: Splits, run: int) -> Scaler:
        """The scaler that decodes the predictions of a run."""
        rules = self.protocols[cell.protocol].rules
        record = self.record(cell.chain[0] if rules.scaler_stage == "first" else cell.chain[-1])
        if rules.leak_free and record.dataset != cell.train_on:
            # Which rows of a source are left out is for the whole benchmark to say.
            return Scaler(**record.scalers[record.runs.index(run)])  # type: ignore[arg-type]
        self.data(record.dataset)
        return splits.scaler(record.dataset, _split_of(record, record.dataset, splits, run))

    def _trained_groups(self, cell: PlannedCell, run: int) -> set[str]:
        """Groups that a run has seen in training."""
        groups: set[str] = set()
        for stage in cell.chain:
            groups |= self._gradient_groups(stage).get(run, set())
        return groups

    def _seen_by_weights(self, cell: PlannedCell) -> set[str]:
        """Formulas of the data that its pretrained weights have seen, where these are known."""
        seen = datasets_seen(cell.weights[1]) if cell.weights else []
        known = set(seen) & set(self.registry.datasets)
        return {formula for name in known for formula in self.loader.whole[name].formulas}

    def _gradient_groups(self, stage: str) -> dict[int, set[str]]:
        ledger = self.ledger(stage)
        trained = ledger[ledger["role"] == "gradient"]
        return {run: set(rows) for run, rows in _groups_by_run(trained)}

    def _twins(self, cell: PlannedCell, splits: Splits) -> Iterator[str]:
        """Looks for groups of test rows among what the sources of a leak-free cell used."""
        for stage in cell.chain:
            if self.record(stage).dataset == cell.train_on:
                continue
            for run, used in _groups_by_run(self.ledger(stage)):
                groups = splits.grouping.of(cell.test_on, run)
                tested = {groups[row] or "" for row in splits.of(cell.test_on, run).test}
                if both := sorted(tested & set(used)):
                    yield (
                        f"{cell.title}, run {run}: the source stage {stage} uses {both[0]}, "
                        "the group of a test row"
                    )

    # --- ledgers ------------------------------------------------------------------------------

    def _ledger_differences(self, stage: str, protocol: str, target: str) -> list[str]:
        """Compares what a stage says that it used rows for with the splits.

        The stage of the target uses all rows that its split gives; others may leave some out.
        """
        record, ledger, splits = self.record(stage), self.ledger(stage), self.splits(protocol)
        beside = [str(own["dataset"]) for own in record.alongside]
        allowed = [
            line
            for name in (record.dataset, *beside)
            for line in self._roles(name, record, splits, choosing=name == record.dataset)
        ]
        columns = list(COLUMNS)
        have = {tuple(line) for line in ledger[columns].itertuples(index=False)}
        where = f"stage {stage} ({record.title})"
        found = [
            f"{where}, run {run}: the row {name!r} of {part} has no role {role!r} in the data"
            for run, part, name, _, role in sorted(have - set(allowed), key=str)
        ]
        if record.dataset == target:
            own = self._roles(target, record, splits, choosing=record.training is not None)
            needed = {line for line in own if line[-1] != "scaler"}
            found += [
                f"{where}, run {run}: the row {name!r} of {part} lacks its role {role!r}"
                for run, part, name, _, role in sorted(needed - have, key=str)
            ]
        parts = set(self.data(record.dataset).parts)
        for run, rows in zip(record.runs, record.train_rows, strict=True):
            trained = sum(
                line[0] == run and line[1] in parts and line[-1] == "gradient" for line in have
            )
            if trained != rows:
                found.append(f"{where}, run {run}: {rows} train_rows, the ledger has {trained}")
        return shortened(where, found)

    def _roles(
        self, name: str, record: StageRecord, splits: Splits, choosing: bool
    ) -> Iterator[tuple[Any, ...]]:
        """Yields the lines of a ledger that a dataset may have in the runs of a stage."""
        data = self.data(name)
        for run in dict.fromkeys(record.runs):
            split = _split_of(record, name, splits, run)
            groups = splits.grouping.of(name, run)
            roles = {"gradient": split.train, "scaler": splits.scaler_rows(split)}
            if choosing:
                roles["selection"] = split.validation
            for role, rows in roles.items():
                for row in rows:
                    yield run, data.parts[row], data.ids[row], groups[row], role


def _split_of(record: StageRecord, dataset: str, splits: Splits, run: int) -> Split:
    """The rows of a dataset that a run of a stage has, by what they are to it."""
    split = splits.of(dataset, run)
    return with_validation(split) if record.model.get("fit_on") else split


def _groups_by_run(ledger: pd.DataFrame) -> Iterator[tuple[int, list[str]]]:
    for run in ledger["run"].unique().tolist():
        yield run, ledger.loc[ledger["run"] == run, "group"].tolist()


def other_rows(title: str, expected: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
    """Compares stored predictions with the rows that should be there; yields a line each.

    Args:
        title: of the cell.
        expected: columns as `ledger.test_rows`.
        rows: as stored.
    """
    for _, row in rows[rows.duplicated(ROW)].iterrows():
        yield f"{title}, run {row['run']}: the row {row['id']!r} of {row['part']} is there twice"
    both = expected.merge(rows, on=ROW, how="outer", suffixes=("", "_stored"), indicator=True)
    what = {"left_only": "has no prediction", "right_only": "is no test row of this run"}
    changed = (both["target"] != both["target_stored"]) | (
        both["overlap"] != both["overlap_stored"]
    )
    for _, row in both[changed].iterrows():
        found = what.get(row["_merge"], "has another target or overlap than the data")
        yield f"{title}, run {row['run']}: the row {row['id']!r} of {row['part']} {found}"


def shortened(where: str, lines: Sequence[str]) -> list[str]:
    """Returns the first lines; how many more there are, if there are many."""
    more = len(lines) - MOST_NAMED
    return [*lines[:MOST_NAMED], *([f"{where}: and {more} rows more"] if more > 0 else [])]
