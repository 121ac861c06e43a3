"""Verification of a leaderboard: every number again, from the rows; every digest; the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from harness.check.committees import compare_committees
from harness.check.known_rows import RowFindings, other_rows
from harness.errors import HarnessError, StoreError
from harness.planning.benchmark import flatten
from harness.planning.ledger import COLUMNS, stage_ledger, test_rows
from harness.planning.plan import facts_of_run, one_or_all
from harness.results.records import SETTINGS_OF_SOME, DatasetFacts, as_stored, title_of
from harness.results.role_report import conflicts
from harness.results.store import TRIALS_FILE
from harness.scoring.scores import SUBSETS, same_score, score_stored
from harness.tuning.rank_check import check_ranks

if TYPE_CHECKING:
    import pandas as pd

    from harness.check.recomputation import Recomputed
    from harness.planning.benchmark import Benchmark
    from harness.planning.chosen_settings import Chosen
    from harness.planning.plan import Plan, Scoring, StageNode
    from harness.registry.property_metrics import PropertyMetric
    from harness.results.records import (
        PlanFile,
        PlannedCell,
        PlannedDataset,
        Record,
        ResultLine,
        StageRecord,
    )
    from harness.results.store import Store

Content = TypeVar("Content")

WITH_PUBLISHED_CELLS = "table.md"
ABSENT = "nothing"
"""Stands, in a difference, for a field that is not there."""


SCORES = "all scores from the stored predictions"
"""The first level; `Again` says what the next ones make."""


@dataclass(frozen=True)
class Again:
    """Results that are made again.

    Attributes:
        what: they are.
        make: makes and compares them.
        possible: how many there are in a plan.
    """

    what: str
    make: Callable[[Plan], Recomputed]
    possible: Callable[[Plan], int]


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        checked: how many of each thing were checked.
        differences: one line each; empty where everything agrees.
        unchecked: what could not be checked here, and why.
        not_kept: what results are passed on without, so that there was nothing to check.
        compared: keys of the cells whose rows, labels and splits were compared with the data.
        level: how deep the check went, in a sentence.
    """

    checked: Mapping[str, int]
    differences: tuple[str, ...]
    unchecked: tuple[str, ...]
    not_kept: tuple[str, ...]
    compared: tuple[str, ...] = ()
    level: str = ""

    @property
    def verdict(self) -> str:
        """The findings in one sentence."""
        if self.differences:
            number = len(self.differences)
            return "1 difference." if number == 1 else f"{number} differences."
        if self.unchecked:
            number = len(self.unchecked) + len(self.not_kept)
            things = "1 thing was" if number == 1 else f"{number} things were"
            return f"What could be checked agrees; {things} not."
        return "Everything that is kept agrees." if self.not_kept else "Everything agrees."


def verify(
    store: Store,
    metrics: Mapping[str, PropertyMetric],
    render: Callable[[], Mapping[str, str]],
    replan: Callable[[], tuple[Plan, PlanFile]],
    compare_rows: Callable[[], RowFindings],
    benchmark: Benchmark,
    declared: Benchmark | None,
    again: Sequence[Again] = (),
) -> Verification:
    """Recomputes a leaderboard and compares.

    Args:
        store: the results.
        metrics: by name, as registered.
        render: makes the table files anew from the result lines: name → text.
        replan: lays out the stored benchmark again from the data found here, and says what
            `plan.json` holds of it; an error of it means that data, weights or plugins are missing,
            and what depends on them stays unchecked.
        compare_rows: compares rows with the data that are here; asked where `replan` fails.
        benchmark: as it was run.
        declared: what its file says; none where there is no file.
        again: what else to make again of the plan, by what it makes: see `recomputation`.

    Raises:
        StoreError: there are no results, or `plan.json` or `results.jsonl` is damaged.
    """
    check = _Check(store, metrics)
    check.benchmark(benchmark, declared)
    check.choices(benchmark.chosen)
    check.tables(render, declared)
    planned = None
    try:
        planned, expected = replan()
    except HarnessError as problem:
        rows = compare_rows()
        reason = str(problem).splitlines()[0]
        check.differences += rows.differences
        if compared := rows.compared:
            check.unchecked += [f"settings: {reason}", *rows.unchecked]
        else:
            check.unchecked.append(f"data, settings and splits: {reason}")
    else:
        check.plan(expected)
        check.rows(planned)
        check.committees(planned)
        compared = tuple(check.cells)
    check.results(planned)
    check.scores()
    check.extra()
    check.stages(planned)
    check.ledgers()
    reached = [SCORES, *(check.made_again(planned, one) for one in again)]
    return Verification(
        check.checked,
        tuple(check.differences),
        tuple(check.unchecked),
        tuple(check.not_kept),
        compared,
        f"{'; '.join(reached)}.",
    )


class _Check:
    def __init__(self, store: Store, metrics: Mapping[str, PropertyMetric]) -> None:
        self.store = store
        self.metrics = metrics
        self.stored = store.read_plan()
        self.cells = {cell.key: cell for cell in self.stored.cells}
        lines = store.read_results()
        self.lines = [line for line in lines if line.key in self.cells]
        self.strange = [line for line in lines if line.key not in self.cells]
        self.checked: dict[str, int] = {}
        self.differences: list[str] = []
        self.unchecked: list[str] = []
        self.not_kept: list[str] = []
        self.predictions = cache(self._reader(store.read_predictions))
        self.ledger = cache(self._reader(store.read_ledger))
        self.tuning_ledger = cache(self._reader(store.read_tuning_ledger))
        self.record = cache(self._reader(store.stage_record))

    def _reader(self, read: Callable[[str], Content]) -> Callable[[str], Content | None]:
        """Reads one file of the results; one that is missing or damaged is a difference, once."""

        def go(key: str) -> Content | None:
            try:
                return read(key)
            except StoreError as problem:
                if str(problem) not in self.differences:  # one file may hold much
                    self.differences.append(str(problem))
                return None

        return go

    def _count(self, what: str, by: int = 1) -> None:
        self.checked[what] = self.checked.get(what, 0) + by

    def _compare(self, where: str, found: Record, expected: Mapping[str, Any], source: str) -> None:
        for name, value in expected.items():
            here = getattr(found, name)
            if here != value:
                self.differences.append(f"{where}: {name} is {here!r}, {source} {value!r}")

    # --- plan.json and the tables -------------------------------------------------------------

    def benchmark(self, benchmark: Benchmark, declared: Benchmark | None) -> None:
        """Compares the benchmark as it was run with its file, key by key.

        What the file says of the results, as `finding`, may have been written afterwards.
        """
        if declared is None:
            self.unchecked.append("benchmark.toml: the results lie here without it")
            return
        said = set(SETTINGS_OF_SOME)
        run, file = (
            flatten(one.model_dump(mode="json", exclude=said)) for one in (benchmark, declared)
        )
        if declared.tuning is not None:  # what it chose is no part of the file
            file["chosen"] = run["chosen"]
        for name in dict.fromkeys((*file, *run)):
            self._count("settings")
            here, there = file.get(name, ABSENT), run.get(name, ABSENT)
            if here != there:
                self.differences.append(
                    f"benchmark.toml: {name} is {here!r}, the results were made with {there!r}"
                )

    def choices(self, chosen: Sequence[Chosen]) -> None:
        """Compares what a search has chosen with the trials that it is said to be the best of."""
        import pandas as pd

        path = self.store.folder / TRIALS_FILE
        if chosen and not path.is_file():
            self.not_kept.append("trials of the search: not kept here")
        elif chosen:
            self._count("choices", len(chosen))
            try:
                self.differences += check_ranks(chosen, pd.read_csv(path), self.metrics)
            except (LookupError, TypeError, ValueError) as problem:
                self.differences.append(f"{path.name} is no table of trials: {problem!r}")

    def tables(self, render: Callable[[], Mapping[str, str]], declared: Benchmark | None) -> None:
        """Compares each table file with one rendered from the result lines."""
        try:
            tables = render()
        except HarnessError as problem:  # the file of published cells is not here
            self.unchecked.append(f"tables: {str(problem).splitlines()[0]}")
            return
        except (LookupError, TypeError, ValueError, ArithmeticError) as problem:
            # a field of some line is not what it should be; `results` says which
            self.differences.append(f"the results do not make a table: {problem!r}")
            return
        for name, text in tables.items():
            if name == WITH_PUBLISHED_CELLS and not declared and self._names_published_cells():
                self.unchecked.append(f"{name}: it shows published cells, named in benchmark.toml")
                continue
            path = self.store.folder / name
            found = path.read_text(encoding="utf-8") if path.is_file() else None
            self._count("tables")
            if found is None:
                self.differences.append(f"{name} is missing")
            elif found != text:
                self.differences.append(f"{name}: {_first_difference(found, text)}")

    def _names_published_cells(self) -> bool:
        return self.stored.benchmark.get("published") is not None

    def plan(self, expected: PlanFile) -> None:
        """Compares the datasets and cells of `plan.json` with those that follow from the data."""
        self._datasets(expected.datasets)
        self._cells({cell.key: cell for cell in expected.cells})
        self._plugin_files(expected.plugins)
        facts = {name: getattr(expected, name) for name in ("not_applicable", "protocols")}
        self._compare("plan.json", self.stored, facts, "the settings give")
        rows = {name: data.rows for name, data in expected.datasets.items()}
        if (here := self.stored.benchmark.get("rows", ABSENT)) != rows:
            self.differences.append(f"plan.json: rows is {here!r}, the data give {rows!r}")

    def _plugin_files(self, expected: Mapping[str, str]) -> None:
        """Compares the plugin files that are loaded with those that the results were made with."""
        for name, digest in self.stored.plugins.items():
            if (here := expected.get(name)) is None:
                self.unchecked.append(f"plugin file {name}: it is not loaded here")
            elif here != digest:
                self.differences.append(
                    f"plugin file {name}: its digest is {here} here, {digest} in the results"
                )

    def _datasets(self, expected: Mapping[str, PlannedDataset]) -> None:
        for name in dict.fromkeys((*self.stored.datasets, *expected)):
            self._count("datasets")
            known, data = self.stored.datasets.get(name), expected.get(name)
            if data is None:
                self.differences.append(f"dataset {name}: no longer in the benchmark")
            elif known is None:
                self.differences.append(f"dataset {name}: missing in plan.json")
            elif data.digest != known.digest:
                self.differences.append(
                    f"dataset {name}: {data.rows} rows with digest {data.digest[:16]} here, "
                    f"{known.rows} rows with digest {known.digest[:16]} in the results"
                )
            else:
                self._compare(f"dataset {name}", known, dict(data), "the data give")

    def _cells(self, expected: Mapping[str, PlannedCell]) -> None:
        for key in dict.fromkeys((*self.cells, *expected)):
            self._count("cells")
            cell, planned = self.cells.get(key), expected.get(key)
            if planned is None:
                title = self.cells[key].title
                self.differences.append(
                    f"{title}: its key {key} does not follow from data and settings"
                )
            elif cell is None:
                self.differences.append(f"{planned.title}: this cell is missing in plan.json")
            else:
                self._compare(planned.title, cell, dict(planned), "the settings give")

    # --- result lines and predictions ---------------------------------------------------------

    def results(self, planned: Plan | None) -> None:
        """Compares what every result line says besides its scores; finds missing and extra runs."""
        scorings = {scoring.key: scoring for scoring in planned.scorings} if planned else {}
        for key, cell in self.cells.items():
            lines = [line for line in self.lines if line.key == key]
            have, runs = sorted(line.run for line in lines), list(self.stored.runs_of(cell))
            if have != runs:
                what = f"runs {have} where {runs} are expected"
                self.differences.append(f"{cell.title}: {what}")
            for line in lines:
                where = f"results.jsonl: {cell.title}, run {line.run}"
                self._count("results")
                rest = self._planned_of(line, scorings.get(key)) or self._stored_of(line, cell)
                self._compare(where, line, self._known_of(line, cell) | rest, "expected")

    def _known_of(self, line: ResultLine, cell: PlannedCell) -> dict[str, Any]:
        """What the cell and the records of its stages say of a line."""
        sources = cell.sources_of(line.run)
        known: dict[str, Any] = dict(cell.columns)
        known["stage"] = one_or_all([stage for stage, _ in sources])
        found = [(self.record(stage), index) for stage, index in sources]
        records = [(record, index) for record, index in found if record is not None]
        if len(records) == len(sources):
            for field in ("best_epoch", "skipped_updates"):
                known[field] = one_or_all([r.of_member(field, index) for r, index in records])
        return known

    def _planned_of(self, line: ResultLine, scoring: Scoring | None) -> dict[str, Any]:
        if scoring is None or line.run not in scoring.runs:
            return {}
        sources = scoring.sources[scoring.runs.index(line.run)]
        facts = facts_of_run(sources, scoring.dataset)
        datasets = {name: DatasetFacts(**own) for name, own in facts["datasets"].items()}
        return facts | {"datasets": datasets}

    def _stored_of(self, line: ResultLine, cell: PlannedCell) -> dict[str, Any]:
        """What stands in place of the plan where data are missing: other files of the results."""
        known = self.stored.datasets
        names = dict.fromkeys((*line.datasets, cell.train_on, cell.test_on))
        expected: dict[str, Any] = {
            "datasets": {name: known[name].facts if name in known else None for name in names}
        }
        (stage, index), *_ = cell.sources_of(line.run)
        if (record := self.record(stage)) is not None:
            expected["train_rows"] = record.of_member("train_rows", index)
        return expected

    def scores(self) -> None:
        """Recomputes every score from the rows."""
        metrics = {name: self.metrics[name] for name in self.stored.metrics}
        for line in self.lines:
            rows = self.predictions(line.key)
            if rows is None:
                continue
            where = f"{self.cells[line.key].title}, run {line.run}"
            again = score_stored(metrics, rows, line.run)
            self.differences += [f"{where}: {text}" for text in _unequal(line.scores, again)]
            self._count("scores", len(metrics) * len(SUBSETS))

    def extra(self) -> None:
        """Finds what belongs to nothing: lines of no cell, fields of no record."""
        for key in dict.fromkeys(line.key for line in self.strange):
            own = [line for line in self.strange if line.key == key]
            said = (
                f"results.jsonl: {own[0].title}: {len(own)} of its lines are of {key}, which is "
                "no cell of the plan"
            )
            # With their rows they are of an earlier plan in this folder; no table shows them.
            found = self.unchecked if self.store.has_predictions(key) else self.differences
            found.append(said)
        for place in self.store.unread(self.stored.stages):
            self.differences.append(f"{place} is nothing that a record holds")

    def made_again(self, planned: Plan | None, again: Again) -> str:
        """Makes results again and compares; returns what was made."""
        if planned is None:
            return f"none of {again.what}: there is no plan without the data"
        found = again.make(planned)
        self._count(again.what, found.done)
        self.differences += [one for one in found.differences if one not in self.differences]
        self.unchecked += found.unchecked
        return f"{found.done} of {again.possible(planned)} {again.what}"

    def rows(self, planned: Plan) -> None:
        """Compares which rows were predicted, their labels and overlaps, with the splits."""
        have = {line.key for line in self.lines}
        for scoring in planned.scorings:
            if scoring.key in have and (rows := self.predictions(scoring.key)) is not None:
                expected = test_rows(scoring)
                self.differences += other_rows(title_of(scoring.cell), expected, rows)

    def committees(self, planned: Plan) -> None:
        """Compares what committees predict with the mean of their members."""
        for scoring, run, agrees in compare_committees(planned, self.predictions):
            self._count("committees")
            if not agrees:
                self.differences.append(
                    f"{title_of(scoring.cell)}, run {run}: its predictions are not the mean of "
                    "those of its members"
                )

    # --- stages -------------------------------------------------------------------------------

    def stages(self, planned: Plan | None) -> None:
        """Compares weights, where they are here, with their digest; records and ledgers."""
        nodes = {node.key: node for node in planned.stages} if planned else {}
        absent = 0
        for stage in self.stored.stages:
            record = self.record(stage)
            absent += not self.store.has_stage(stage)
            if record is None:
                continue
            self._count("stages")
            if self.store.has_stage(stage):
                self._weights(stage, record)
            if stage in nodes and planned:
                self._stage(nodes[stage], record)
            else:
                self._stage_data(stage, record)
        if absent:
            self.not_kept.append(f"weights of {absent} stages: not kept here")

    def _weights(self, stage: str, record: StageRecord) -> None:
        digest = sha256(self.store.weights_path(stage).read_bytes()).hexdigest()
        self._count("artefacts")
        if digest != record.artefact_sha256:
            self.differences.append(f"stage {stage}: its weights have another digest")

    def _stage(self, node: StageNode, record: StageRecord) -> None:
        where = f"stage {node.key} ({node.title})"
        self._compare(where, record, as_stored(node.facts()), "the plan gives")
        self._compare(where, record, self._fit(node, record), "its history gives")
        ledger = self.ledger(node.key)
        if ledger is not None and not _same_rows(stage_ledger(node), ledger):
            self.differences.append(f"stage {node.key}: its ledger is not the plan's")

    def _fit(self, node: StageNode, record: StageRecord) -> dict[str, Any]:
        """What follows from the validation scores of every epoch, where they are recorded."""
        scores = (record.history or {}).get("score")
        if not scores or not all(isinstance(own, list) for own in scores):
            return {}
        trainings = [own.training for own in node.member_trainings]
        if any(len(own) != len(trainings) for own in scores):
            return {}
        best_is_highest = node.selection.higher_is_better
        columns = [[own[member] for own in scores] for member in range(len(trainings))]
        return {"best_epoch": [_best_epoch(own, best_is_highest) for own in columns]}

    def _stage_data(self, stage: str, record: StageRecord) -> None:
        """Compares a record with the datasets of `plan.json`, where there is no plan to ask."""
        known = self.stored.datasets.get(record.dataset)
        expected = {f"dataset_{field}": getattr(known, field, None) for field in ("digest", "rows")}
        self._compare(f"stage {stage}", record, expected, "plan.json has")

    def ledgers(self) -> None:
        """Looks for test rows with another role where the protocol promises that there are none."""
        for key in dict.fromkeys(line.key for line in self.lines):
            cell, rows = self.cells[key], self.predictions(key)
            if rows is None or not cell.leak_free:
                continue
            ledgers = [self.ledger(stage) for stage in cell.chain]
            if cell.tuned:
                ledgers.append(self.tuning_ledger(key))
            for ledger in ledgers:
                if ledger is None:
                    continue
                self._count("ledgers")
                for _, found in conflicts(ledger, rows).iterrows():
                    self.differences.append(
                        f"{cell.title}, run {found['run']}: the test row {found['id']!r} of "
                        f"{found['part']} also has the role {found['role']!r}"
                    )


def _first_difference(found: str, expected: str) -> str:
    pairs = zip(found.splitlines(), expected.splitlines(), strict=False)
    for number, (here, there) in enumerate(pairs, start=1):
        if here != there:
            return f"line {number} is {here!r}, the results give {there!r}"
    return f"{len(found.splitlines())} lines, the results give {len(expected.splitlines())}"


def _best_epoch(scores: Sequence[float | None], best_is_highest: bool) -> int:
    """The first epoch (1, 2, …) with the best score; 0 where none has a number."""
    numbers = [(s if best_is_highest else -s, -n) for n, s in enumerate(scores, 1) if s is not None]
    return -max(numbers)[1] if numbers else 0


def _unequal(stored: Any, again: Mapping[str, Any]) -> Iterator[str]:
    known = flatten(stored) if isinstance(stored, Mapping) else {}
    for subset in SUBSETS:
        for name, value in again[subset].items():
            here = known.get(f"{subset}.{name}", ABSENT)
            if not same_score(here, value):
                yield f"{name} ({subset} rows) is {here!r}, the predictions give {value!r}"
    expected = {f"{subset}.{name}" for subset in SUBSETS for name in again[subset]}
    for place in known.keys() - expected:
        subset, _, name = place.partition(".")
        yield f"{name} ({subset} rows) is {known[place]!r}, and no metric of the benchmark"


def _same_rows(expected: pd.DataFrame, stored: pd.DataFrame) -> bool:
    left, right = (
        frame[list(COLUMNS)].astype(str).sort_values(list(COLUMNS)).to_numpy()
        for frame in (expected, stored)
    )
    return left.shape == right.shape and bool(np.all(left == right))


def as_json(found: Verification) -> str:
    """Returns the findings as a JSON document."""
    return json.dumps(asdict(found), indent=1, ensure_ascii=False)
