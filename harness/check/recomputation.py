"""Results made again: predictions from kept weights, stages trained from the start.

Both go through the executor of plans, in a folder of their own that is removed. What is found is
compared with what is stored; on another processor or with other versions, training drifts apart,
so what was trained elsewhere and differs is told as unchecked, with how far.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import StoreError
from harness.results.records import title_of
from harness.results.store import Store
from harness.training.environment import PACKAGES
from harness.training.plan_executor import PlanExecutor
from harness.training.run_context import RunContext
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.planning.plan import Plan, Scoring, StageNode
    from harness.registry.registry import Registry
    from harness.results.records import StageRecord

TINY = 1e-12
TOLERANCE = 1e-3
"""Relative. float32 on another processor differs by 1e-5 or so, other code or weights by more."""

EXACT = ("best_epoch", "skipped_updates", "member_epochs", "transferred")
"""What a record says of a fit that comes out the same when it is made again."""


@dataclass
class Recomputed:
    """What was made again.

    Attributes:
        done: how many cells or stages.
        differences: one line each.
        unchecked: what differs without being wrong, or could not be made again.
    """

    done: int = 0
    differences: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def recompute_predictions(planned: Plan, store: Store, registry: Registry) -> Recomputed:
    """Predicts the cells whose weights are kept, and compares with the stored rows."""
    found = Recomputed()
    kept = [s for s in planned.scorings if all(store.has_stage(node.key) for node in s.stages)]
    if not kept:
        return found
    with _scratch(store, planned, kept, registry) as context:
        whole = set()
        for key in dict.fromkeys(node.key for scoring in kept for node in scoring.chain):
            try:
                _bring(store, context.store, key)
                whole.add(key)
            except StoreError as problem:
                found.differences.append(str(problem))
        good = [s for s in kept if all(node.key in whole for node in s.chain)]
        PlanExecutor(replace(context, plan=replace(context.plan, scorings=tuple(good)))).execute()
        for scoring in good:
            found.done += 1
            where = f"{title_of(scoring.cell)}: the kept weights"
            found.differences += _other_predictions(store, context.store, scoring, where)
    return found


def retrain(planned: Plan, store: Store, registry: Registry, number: int) -> Recomputed:
    """Trains some stages again, chosen at random, and compares their records and predictions.

    A stage that goes on from another one goes on from its kept weights; where there are none, or
    damaged ones, that one is trained too. One that has shared a stack shares it again.
    """
    found = Recomputed()
    stages = [node for node in planned.stages if store.has_record(node.key)]
    chosen = random.sample(stages, min(number, len(stages)))
    while chosen:
        stack = _stack_again(planned, store, chosen[0])
        together = [node for node in chosen if node in stack]
        chosen = [node for node in chosen if node not in stack]
        scorings = [s for s in planned.scorings if len(s.stages) == 1 and s.stages[0] in together]
        with _scratch(store, planned, scorings, registry) as context:
            _train_again(context, planned, store, stack)
            for node in together:
                found.done += 1
                own = [scoring for scoring in scorings if scoring.stages == (node,)]
                _compare_training(store, context.store, node, own, found)
    return found


def _train_again(
    context: RunContext, planned: Plan, store: Store, stack: Sequence[StageNode]
) -> None:
    """Trains stages side by side, from the kept weights of those that they go on from."""
    for key in dict.fromkeys(one.key for own in stack for one in own.chain[:-1]):
        if store.has_stage(key) and not store.stage_damage(key):
            _bring(store, context.store, key)
    chains = {one.key: one for own in stack for one in own.chain}
    missing = [one for key, one in chains.items() if not context.store.has_stage(key)]
    members = sum(len(own.members) for own in stack) if len(stack) > 1 else None
    again = planned.benchmark.model_copy(update={"stack_members": members})
    plan = replace(context.plan, benchmark=again, stages=tuple(missing))
    PlanExecutor(replace(context, plan=plan)).train(missing)


def _stack_again(planned: Plan, store: Store, node: StageNode) -> list[StageNode]:
    """Returns the stages that a stage was trained side by side with, itself among them.

    It alone where the plan lacks one of them: members then come out the same but for rounding.
    """
    of_key = {own.key: own for own in planned.stages}
    keys = store.stage_record(node.key).stack
    return [of_key[key] for key in keys] if keys and of_key.keys() >= set(keys) else [node]


@contextmanager
def _scratch(
    store: Store, planned: Plan, scorings: Sequence[Scoring], registry: Registry
) -> Iterator[RunContext]:
    """Yields a folder of its own in which some cells of a plan can be made again."""
    with tempfile.TemporaryDirectory(prefix=f"{store.folder.name}-again-") as folder:
        plan = replace(planned, scorings=tuple(scorings))
        yield RunContext(plan, Store.create(Path(folder)), registry, StopSignal())


def _bring(store: Store, other: Store, key: str) -> None:
    """Lends a stage to another folder; one whose weights are not kept stands there without use."""
    other.write_record(key, store.stage_record(key), store.read_ledger(key))
    if store.has_stage(key):
        store.read_stage(key)  # its digest
        other.weights_path(key).symlink_to(store.weights_path(key).resolve())
    else:
        other.weights_path(key).touch()  # it is not trained, since nothing will go on from it


def _compare_training(
    store: Store, again: Store, node: StageNode, scorings: Sequence[Scoring], found: Recomputed
) -> None:
    stored, fresh = store.stage_record(node.key), again.stage_record(node.key)
    where = f"stage {node.key} ({node.title}), trained again"
    if stored.stack != fresh.stack:
        where += " without stages that it has shared a stack with"
    differences = list(_other_record(stored, fresh, where))
    for scoring in scorings:
        of_cell = f"{title_of(scoring.cell)}: {where}, its weights"
        differences += _other_predictions(store, again, scoring, of_cell)
    elsewhere = _other_environment(stored.environment, fresh.environment)
    if differences and elsewhere:
        found.unchecked.append(f"{differences[0]}; it was trained elsewhere: {elsewhere}")
    else:
        found.differences += differences


def _other_record(stored: StageRecord, again: StageRecord, where: str) -> Iterator[str]:
    for name in EXACT:
        here, there = getattr(stored, name), getattr(again, name)
        if here != there:
            yield f"{where}: {name} is {here!r}, again {there!r}"
    histories = [one.history or {} for one in (stored, again)]
    if histories[0].keys() != histories[1].keys():
        yield f"{where}: the history is of {', '.join(histories[0])}"
        return
    for name in histories[0]:
        one, other = (np.array(history[name], dtype=np.float64) for history in histories)
        if one.shape != other.shape:
            yield f"{where}: the history of {name} has {len(one)} epochs, again {len(other)}"
        elif (distance := _distance(one, other)) > TOLERANCE:
            yield f"{where}: the history of {name} differs by up to {distance:.2g} of itself"


def _other_predictions(store: Store, again: Store, scoring: Scoring, where: str) -> Iterator[str]:
    try:
        stored = store.read_predictions(scoring.key)
    except StoreError:
        return  # the check of rows has said so
    fresh = again.read_predictions(scoring.key)
    one, other = (rows["prediction"].to_numpy(dtype=np.float64) for rows in (stored, fresh))
    if one.shape != other.shape:
        yield f"{where} give {len(other)} predictions, stored are {len(one)}"
    elif (distance := _distance(one, other, _least(scoring.dataset))) > TOLERANCE:
        yield f"{where} give other predictions than are stored, by up to {distance:.2g} of these"


def _least(dataset: Dataset) -> float:
    """What differences are relative to at least: on a linear scale values may be next to zero."""
    return TINY if dataset.property.is_log else max(float(dataset.targets.std()), TINY)


def _distance(one: Any, other: Any, least: float = TINY) -> float:
    """The largest relative difference; infinite where only one of two is a finite number."""
    finite = np.isfinite(one)
    if not np.array_equal(finite, np.isfinite(other)):
        return float("inf")
    one, other = one[finite], other[finite]
    return float(np.max(np.abs(one - other) / np.maximum(np.abs(one), least), initial=0.0))


def _other_environment(stored: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Names what may make training come out otherwise; empty where nothing is known to."""
    own, *_ = PACKAGES
    facts = [
        {**one.get("versions", {}), **{k: one.get(k) for k in ("machine", "device", "threads")}}
        for one in (stored, here)
    ]
    names = sorted((facts[0].keys() | facts[1].keys()) - {own})
    return ", ".join(
        f"{name} {facts[0].get(name)} there, {facts[1].get(name)} here"
        for name in names
        if facts[0].get(name) != facts[1].get(name)
    )
