"""Carries out a plan: trains what is missing, scores what is not scored, and tells observers."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError, StoreError
from harness.planning.encoder import encodings_of
from harness.planning.ledger import test_columns, tuning_ledger
from harness.planning.plan import MemberOf, facts_of_run, one_or_all
from harness.planning.stacks import keys_of, stacks_of
from harness.plugin.events import CellFinished
from harness.registry.attribution import blaming
from harness.results.records import Failure, ResultLine
from harness.results.row_tables import file_of_rows
from harness.results.store import SPREAD_COLUMNS, ScoredCell
from harness.scoring.averages import Predicted, combine
from harness.scoring.scores import SUBSETS, jsonable, measure, score_run, score_stored
from harness.training.environment import threads_wanted, use_threads
from harness.training.prediction import resolve_device
from harness.training.stage_builder import StageBuilder
from harness.training.stage_predictor import StagePredictor
from harness.training.stage_trainer import StageTrainer
from harness.training.tally import Tally

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.planning.plan import Plan, Scoring, StageNode
    from harness.planning.stacks import Stack
    from harness.plugin.arrays import Floats, Indices
    from harness.registry.property_metrics import PropertyMetric
    from harness.registry.registry import Registry
    from harness.results.records import StageRecord
    from harness.results.store import Store
    from harness.training.run_context import RunContext

RECORDS_AT_HAND = 64
"""Records of stages that are kept in memory: those of the cells of one chain, and of some more."""

WRITING_SECONDS = 1.0
"""After so long the scored cells of a stage are written, with the next one that is scored: a kill
costs that much work, and the cell that it was at."""


def execute(context: RunContext) -> None:
    """Runs every stage and scoring of a plan that is not on disk yet.

    May be called by several processes at once: each stage is taken by one of them. What fails is
    noted in the store, and costs only what is made of it.

    Raises:
        KeyboardInterrupt: it was to stop; what is complete is on disk.
        HarnessError: no write permission, no such device, ….
    """
    PlanExecutor(context).execute()


def pending_stages(plan: Plan, store: Store) -> list[StageNode]:
    """Returns the stages with an unscored cell, and those that they start from, in order."""
    scored = store.scored()
    needed: set[str] = set()
    for scoring in plan.scorings:
        if not set(scoring.runs) <= scored.get(scoring.key, set()):
            needed |= {stage.key for stage in scoring.chain}
    return [stage for stage in plan.stages if stage.key in needed]


def scored_by_one(plan: Plan) -> dict[str, list[Scoring]]:
    """Returns by key of a stage the cells that it alone predicts."""
    found: dict[str, list[Scoring]] = {}
    for scoring in plan.scorings:
        if len(scoring.stages) == 1:
            found.setdefault(scoring.stages[0].key, []).append(scoring)
    return found


def metrics_of(plan: Plan, registry: Registry) -> dict[str, PropertyMetric]:
    """Returns the metrics of a plan's benchmark, by name."""
    known = registry.metrics_of(plan.property.name)
    return {name: known[name] for name in plan.benchmark.metrics or ()}


def encode_first(plan: Plan, stages: Sequence[StageNode]) -> None:
    """Encodes what some stages and their cells need, so that no two processes do it at once."""
    keys = {node.key for node in stages}
    needed = [(node.model, dataset) for node in stages for dataset in node.datasets]
    needed += [(n.model, s.dataset) for s in plan.scorings for n in s.stages if n.key in keys]
    unique = {(*encodings_of(model), data.digest): (model, data) for model, data in needed}
    for model, dataset in unique.values():
        with suppress(Exception):  # it is met again, and told, by the stage
            plan.encoder.encode(model, dataset)


def complete_metrics(plan: Plan, store: Store, registry: Registry) -> None:
    """Scores stored rows by metrics that the benchmark has gained since they were predicted."""
    metrics = metrics_of(plan, registry)
    keys = {scoring.key for scoring in plan.scorings}
    mended = []
    for line in store.read_results():
        if line.key in keys and not metrics.keys() <= line.scores["all"].keys():
            scores = score_stored(metrics, store.read_predictions(line.key), line.run)
            mended.append(line.model_copy(update={"scores": jsonable(scores)}))
    if mended:
        store.replace_results(mended)


class PlanExecutor:
    """Carries out stages and scorings of one plan, one after another.

    Args:
        context: with the plan.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.plan, self.store, self.registry = context.plan, context.store, context.registry
        use_threads(threads_wanted())
        device = resolve_device(self.plan.benchmark.device)
        self.stage_builder = StageBuilder(self.plan.encoder, self.store, device)
        self.trainer = StageTrainer(context, self.stage_builder)
        self.metrics = metrics_of(self.plan, self.registry)
        self._scored_by = scored_by_one(self.plan)
        self._at_hand: StagePredictor | None = None
        self._records: dict[str, StageRecord] = {}

    def execute(self) -> None:
        """Runs what is not on disk yet; takes stages that no other process has."""
        self.train(pending_stages(self.plan, self.store), lenient=True)
        for scoring in self.plan.scorings:
            if len(scoring.stages) > 1 and not self._is_lost(scoring):
                with self.store.try_stage(scoring.key) as mine:
                    if mine:
                        self._score([scoring], lenient=True)
        if not pending_stages(self.plan, self.store):
            self.trainer.forget_all()

    def train(self, stages: Sequence[StageNode], *, lenient: bool = False) -> None:
        """Trains stages, each after those it goes on from, and scores what then can be.

        Args:
            stages: each after its parent.
            lenient: note what fails, and go on with what is not made of it.
        """
        tally = Tally(stages)
        pending = stacks_of(self.plan, stages)
        while pending:
            self.context.stop.check()
            if lenient and (failed := self.store.failures()):
                left = (without_failed(stack, failed) for stack in pending)
                pending = [stack for stack in left if stack]
                if not pending:
                    break
            stack = self._take_one(pending, tally, lenient)
            if stack is None:
                time.sleep(0.2)  # other processes hold all stages that could be trained now
            else:
                pending.remove(stack)
                for node in stack:
                    tally.finish(node)

    def _take_one(self, pending: Sequence[Stack], tally: Tally, lenient: bool) -> Stack | None:
        """Carries out the first stack that is ready, and that no other process has."""
        for stack in pending:
            if not is_ready(stack, self.store):
                continue
            with self.store.try_stages(node.key for node in stack) as mine:
                if mine:
                    self._train(stack, tally, lenient)
                    trained = [node.key for node in stack if self.store.has_stage(node.key)]
                    scorings = [one for key in trained for one in self._scored_by.get(key, ())]
                    self._score(scorings, lenient)
                    return stack
        return None

    def _train(self, stack: Stack, tally: Tally, lenient: bool) -> None:
        """Trains what is missing of a stack; each stage alone where that fails."""
        missing = tuple(node for node in stack if not self.store.has_stage(node.key))
        if len(missing) < len(stack) and missing and self._was_cut_off(stack):
            missing = stack
        if len(missing) > 1 and self._train_together(missing, tally):
            return
        for node in missing:
            if self.store.has_stage(node.key):
                continue
            with self._attempt(node.key, lenient):
                if node.closed_form:
                    self._at_hand = self.trainer.fit_in_closed_form(node, tally)
                else:
                    self.trainer.train([node], tally)

    def _was_cut_off(self, stack: Stack) -> bool:
        """Whether what there is of a stack was trained in it, so that the rest is to be, too."""
        done = [node for node in stack if self.store.has_stage(node.key)]
        return all(self.store.stage_record(node.key).stack == keys_of(stack) for node in done)

    def _train_together(self, stack: Stack, tally: Tally) -> bool:
        """Trains stages in one stack; returns whether that has come to its end."""
        try:
            with blaming(self.registry):
                return self.trainer.train(stack, tally)
        except StoreError:
            raise
        except HarnessError as problem:  # whose fault it is shows where each is alone
            self.trainer.forget(stack)
            tell_of_failure(stack, problem)
            return False

    @contextmanager
    def _attempt(self, key: str, lenient: bool) -> Iterator[None]:
        """Notes it if the block fails by a plugin or by its settings; results must be writable."""
        try:
            with blaming(self.registry):
                yield
        except StoreError:
            raise
        except HarnessError as problem:
            if not lenient:
                raise
            told = "".join(traceback.format_exception(problem))
            self.store.append_failure(Failure(key=key, reason=str(problem), traceback=told))

    def _is_lost(self, scoring: Scoring) -> bool:
        """Whether a scoring, or a stage that it needs, has failed."""
        return (
            not self.store.failures()
            .keys()
            .isdisjoint((scoring.key, *(stage.key for stage in scoring.chain)))
        )

    # --- scoring ------------------------------------------------------------------------------

    def _record_of(self, key: str) -> StageRecord:
        """The record of a stage; those that the last scorings asked for are kept at hand."""
        if key not in self._records:
            if len(self._records) == RECORDS_AT_HAND:
                self._records.clear()
            self._records[key] = self.store.stage_record(key)
        return self._records[key]

    def _score(self, scorings: Sequence[Scoring], lenient: bool) -> None:
        """Scores cells whose stages are there, unless they are scored already.

        They are written together, since that costs as much for one as for many; also where it ends
        early.
        """
        scored = self.store.scored()
        waiting: list[tuple[Scoring, ScoredCell]] = []
        due = time.monotonic() + WRITING_SECONDS
        try:
            for scoring in scorings:
                if set(scoring.runs) <= scored.get(scoring.key, set()):
                    continue
                self.context.stop.check()
                with self._attempt(scoring.key, lenient):
                    waiting.append((scoring, self._scored(scoring)))
                if time.monotonic() > due:
                    self._write_scored(waiting)
                    due = time.monotonic() + WRITING_SECONDS
        finally:
            self._write_scored(waiting)

    def _write_scored(self, waiting: list[tuple[Scoring, ScoredCell]]) -> None:
        """Writes scored cells, of which none then waits, and tells observers."""
        written = waiting.copy()
        waiting.clear()
        self.store.write_scored([cell for _, cell in written])
        for scoring, _ in written:
            event = CellFinished(**vars(scoring.cell), runs=len(scoring.runs))
            self.context.tell("cell_finished", event)

    def _scored(self, scoring: Scoring) -> ScoredCell:
        """Predicts and scores a cell."""
        by_stage = {node.key: self._predict(node, scoring) for node in scoring.stages}
        found = [
            combine(
                [by_stage[source.stage.key][source.index] for source in sources],
                self.plan.property,
                scoring.weighting,
            )
            for sources in scoring.sources
        ]
        predictions = [values for values, _ in found]
        spreads = [spread for _, spread in found if spread is not None]
        columns = {**test_columns(scoring), "prediction": np.concatenate(predictions)}
        if spreads:
            columns[SPREAD_COLUMNS[self.plan.property.scale]] = np.concatenate(spreads)
        return ScoredCell(
            scoring.key,
            file_of_rows(scoring.key, columns),
            tuning_ledger(scoring) if scoring.tuning else None,
            self._result_lines(scoring, predictions),
        )

    def _predict(self, node: StageNode, scoring: Scoring) -> dict[int, Predicted]:
        """Returns what members predict for the test rows of their run, by position in a stage."""
        wanted = {
            source.index: rows
            for sources, rows in zip(scoring.sources, scoring.rows, strict=True)
            for source in sources
            if source.stage is node
        }
        if len(scoring.stages) > 1:
            stored = self._stored_predictions(node, scoring.dataset, wanted)
            if wanted.keys() <= stored.keys():
                return stored
        none = np.array([], dtype=np.int64)
        asked = [wanted.get(index, none) for index in range(len(node.members))]
        found = self._predictor(node).predict(scoring.dataset, asked)
        return {
            index: (np.full(len(rows), math.nan), None)
            if self._has_diverged(MemberOf(node, index))
            else found[index]
            for index, rows in wanted.items()
        }

    def _stored_predictions(
        self, node: StageNode, dataset: Dataset, wanted: Mapping[int, Indices]
    ) -> dict[int, Predicted]:
        """Returns what cells that a stage alone predicts hold of the rows wanted of its members.

        A committee is a mean of such: its members are not to predict, nor to be fitted, once more.
        """
        found: dict[int, Predicted] = {}
        scored = self.store.scored()
        for scoring in self._scored_by.get(node.key, ()):
            if scoring.dataset is not dataset or scoring.key not in scored:
                continue
            frame = self.store.read_predictions(scoring.key)
            runs, values = frame["run"].to_numpy(), frame["prediction"].to_numpy()
            column = SPREAD_COLUMNS[self.plan.property.scale]
            spreads = frame[column].to_numpy() if column in frame else None
            for run, sources, rows in zip(scoring.runs, scoring.sources, scoring.rows, strict=True):
                own = [source.index for source in sources]
                if len(own) == 1 and np.array_equal(rows, wanted.get(own[0], ())):
                    spread = None if spreads is None else spreads[runs == run]
                    found[own[0]] = (values[runs == run], spread)
        return found

    def _predictor(self, node: StageNode) -> StagePredictor:
        """The trained stage; the last one that was asked for is kept at hand."""
        if self._at_hand is None or self._at_hand.node is not node:
            model = self.stage_builder.modules(node)
            tensors, _ = self.store.read_stage(node.key)
            model.load_state_dict(tensors)
            self._at_hand = StagePredictor(node, model, self.stage_builder)
        return self._at_hand

    def _has_diverged(self, member: MemberOf) -> bool:
        """Whether a member, or one that it goes on from, holds the weights that it began with.

        No epoch had finite predictions, or no update before the best one had a finite loss.
        """
        for one in member.line:
            record = self._record_of(one.stage.key)
            best = record.of_member("best_epoch", one.index)
            if best is not None:
                losses = (record.history or {}).get("train_loss", [])[:best]
                if all(epoch[one.index] is None for epoch in losses):
                    return True
        return False

    def validate(self, node: StageNode) -> list[float]:
        """Returns every member's score on its validation rows; for heads in closed form."""
        model = self.stage_builder.modules(node)
        self.stage_builder.start_weights(node, model)
        asked = [member.validation for member in node.members]
        found = StagePredictor(node, model, self.stage_builder).predict(node.dataset, asked)
        return [
            measure(node.selection, member.labels[member.validation], values)
            for member, (values, _) in zip(node.members, found, strict=True)
        ]

    def _result_lines(self, scoring: Scoring, predictions: Sequence[Floats]) -> list[ResultLine]:
        records = {stage.key: self._record_of(stage.key) for stage in scoring.stages}
        lines = []
        for number, sources in enumerate(scoring.sources):
            scores = score_run(
                self.metrics, scoring.labels[number], predictions[number], scoring.overlap[number]
            )
            of_members = {
                field: one_or_all([records[s.stage.key].of_member(field, s.index) for s in sources])
                for field in ("best_epoch", "skipped_updates")
            }
            lines.append(
                ResultLine(
                    key=scoring.key,
                    **vars(scoring.cell),
                    run=scoring.runs[number],
                    scores=jsonable({subset: scores[subset] for subset in SUBSETS}),
                    **facts_of_run(sources, scoring.dataset),
                    **of_members,
                )
            )
        return lines


def tell_of_failure(stack: Sequence[StageNode], problem: Exception) -> None:
    """Warns that the stages of a stack are trained one by one."""
    titles = ", ".join(node.title for node in stack)
    warnings.warn(
        f"These stages failed side by side, and are trained one by one: {titles}. "
        f"The reason: {problem}",
        stacklevel=3,
    )


def is_ready(stack: Stack, store: Store) -> bool:
    """Whether all is there that the stages of a stack go on from."""
    return all(node.parent is None or store.has_stage(node.parent.key) for node in stack)


def without_failed(stack: Stack, failed: Container[str]) -> Stack:
    """Returns what of a stack has not failed, and goes on from nothing that has."""
    return tuple(node for node in stack if not any(own.key in failed for own in node.chain))
