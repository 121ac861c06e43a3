"""Trains stages, one alone or several that share a stack, and writes what comes of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from harness.files import discard
from harness.planning.ledger import stage_ledger
from harness.planning.stacks import OF_STACK, checkpoint_key, keys_of
from harness.plugin.events import EpochFinished, StageFinished, StageStarted
from harness.results.records import StageFacts, as_stored
from harness.scoring.scores import jsonable
from harness.training.checkpoint import CheckpointFile
from harness.training.environment import environment, peak_memory_mb
from harness.training.joint_model import separate
from harness.training.stage_builder import tensors_of
from harness.training.stage_predictor import StagePredictor

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from harness.planning.plan import StageNode
    from harness.training.fit_progress import EpochReport, FitResult
    from harness.training.run_context import RunContext
    from harness.training.stack_fit import StackFit
    from harness.training.stage_builder import StageBuilder
    from harness.training.tally import Tally

CHECKPOINT_SECONDS = 30.0
"""Shortest time between two checkpoints of a stack: what a kill costs at most, and an epoch."""


class StageTrainer:
    """Trains stages of a plan into a store.

    Args:
        context: with the store, and who hears of it.
        stage_builder: makes models and data.
    """

    def __init__(self, context: RunContext, stage_builder: StageBuilder) -> None:
        self._context, self._store, self._builder = context, context.store, stage_builder

    def fit_in_closed_form(self, node: StageNode, tally: Tally) -> StagePredictor:
        """Fits the heads of a stage, and writes it.

        Returns:
            The stage, with its heads fitted.
        """
        self._tell_start(node, tally)
        started = time.perf_counter()
        model = self._builder.modules(node)
        transferred = self._builder.start_weights(node, model)
        predictor = StagePredictor(node, model, self._builder)
        predictor.fit()
        facts = self._facts(node, transferred, seconds=time.perf_counter() - started)
        self._write(node, model, facts, tally)
        return predictor

    def train(self, stack: Sequence[StageNode], tally: Tally) -> bool:
        """Trains stages that share a stack by gradient, and writes those that are not there.

        Args:
            stack: the stages.
            tally: counts them.

        Returns:
            Whether it could; not where the models of the stages cannot stand side by side.
        """
        models = [self._builder.modules(node) for node in stack]
        transferred = [
            self._builder.start_weights(node, model)
            for node, model in zip(stack, models, strict=True)
        ]
        whole = self._builder.joint_model(stack, models)
        if whole is None:
            return False
        missing = [node for node in stack if not self._store.has_stage(node.key)]
        for node in missing:
            self._tell_start(node, tally, beside=len(stack) - 1)
        fit = self._builder.stack_fit(stack, whole)
        results = self._run(stack, fit, missing, tally)
        if len(stack) > 1:
            separate(whole, models)
        for node, model, start, result in zip(stack, models, transferred, results, strict=True):
            if node in missing:
                facts = self._facts(
                    node,
                    start,
                    result,
                    seconds=result.seconds,
                    trained_parameters=fit.trained_parameters,
                    stack=keys_of(stack),
                )
                self._write(node, model, facts, tally)
        self.forget(stack)
        return True

    def forget_all(self) -> None:
        """Drops what is left of stacks, where nothing is to be trained any more."""
        of_any = self._store.checkpoint_path(f"{OF_STACK}*")
        for path in of_any.parent.glob(of_any.name):
            discard(path)

    def forget(self, stack: Sequence[StageNode]) -> None:
        """Drops the checkpoint of a stack."""
        self._checkpoint_of(stack).unlink(missing_ok=True)

    def _checkpoint_of(self, stack: Sequence[StageNode]) -> Path:
        return self._store.checkpoint_path(checkpoint_key(stack))

    def _run(
        self,
        stack: Sequence[StageNode],
        fit: StackFit,
        missing: Sequence[StageNode],
        tally: Tally,
    ) -> list[FitResult]:
        """Trains a stack to its end; returns what comes of each stage of it.

        Args:
            stack: the stages.
            fit: of all of them.
            missing: those that observers hear of.
            tally: counts them.
        """
        ends = accumulate(len(node.members) for node in stack)
        places = [
            range(end - len(node.members), end) for node, end in zip(stack, ends, strict=True)
        ]

        def tell(report: EpochReport) -> None:
            for node, own in zip(stack, places, strict=True):
                last = max(fit.progress.trained[member] for member in own)
                if node not in missing or report.epoch > last:
                    continue  # it is done, or has come to its end, and others have not
                event = EpochFinished(
                    node.key,
                    node.title,
                    report.epoch,
                    node.epochs,
                    node.selection.name,
                    tuple(report.score[member] for member in own),
                    tuple(report.skipped[member] for member in own),
                    tally.reach(node, report.epoch / node.epochs),
                )
                self._context.tell("epoch_finished", event)

        identity = fit.digest("+".join(node.key for node in stack))
        file = CheckpointFile(self._checkpoint_of(stack), identity, CHECKPOINT_SECONDS)
        fit.run(file, tell, self._context.stop)
        return [fit.progress.of_stage(own) for own in places]

    def _tell_start(self, node: StageNode, tally: Tally, beside: int = 0) -> None:
        model = f"{node.model.backbone_ref.label} + {node.model.head_ref.label}"
        counted = (len(node.members), node.epochs, tally.done, tally.total)
        event = StageStarted(node.key, node.title, *counted, model, beside=beside)
        self._context.tell("stage_started", event)

    def _write(
        self, node: StageNode, model: nn.ModuleDict, facts: StageFacts, tally: Tally
    ) -> None:
        self._store.write_stage(node.key, tensors_of(model), facts, stage_ledger(node))
        tally.finish(node)
        counted = (facts.seconds, tally.done, tally.total)
        self._context.tell("stage_finished", StageFinished(node.key, node.title, *counted))

    def _facts(
        self,
        node: StageNode,
        transferred: Mapping[str, Any],
        result: FitResult | None = None,
        **facts: Any,
    ) -> StageFacts:
        """What the record of a stage says."""
        return StageFacts(
            **as_stored(node.facts()),
            transferred=dict(transferred),
            best_epoch=list(result.best_epoch) if result else None,
            skipped_updates=list(result.skipped) if result else None,
            history=jsonable(result.history) if result else None,
            member_epochs=result.member_epochs if result else 0,
            peak_memory_mb=peak_memory_mb(),
            environment=self._environment,
            **facts,
        )

    @cached_property
    def _environment(self) -> dict[str, Any]:
        """What this process runs on: the same for all its stages, and 0.1 s to find out."""
        return environment(self._builder.device)
