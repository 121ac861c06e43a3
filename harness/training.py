"""The trainer: fits all members of one stack at once, and predicts with them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint import CheckpointFile
from harness.fit_data import Alongside, Feed, StackData, TaskData
from harness.flat_parameters import FlatParameters, Segment, StackedAdam
from harness.losses import Targets, member_losses
from harness.prediction import predict, resolve_device
from harness.progress import EpochReport, FitResult, Progress
from harness.trainable import Trainable, find_trainable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.contracts import Floats, MetricSpec, ParameterGroup
    from harness.training_settings import TrainingSettings

    Bools = NDArray[np.bool_]

__all__ = [
    "Alongside",
    "EpochReport",
    "FitResult",
    "StackData",
    "TaskData",
    "fit",
    "predict",
    "resolve_device",
]

Parts = list[tuple[Any, Targets]]
"""What one step is made of: a batch and its targets for every dataset that is fitted."""


def fit(
    backbone: nn.Module,
    head: nn.Module,
    data: StackData,
    settings: TrainingSettings,
    *,
    selection: MetricSpec,
    device: torch.device,
    freeze: Sequence[str] = (),
    groups: Sequence[ParameterGroup] = (),
    alongside: Sequence[Alongside] = (),
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    identity: str = "",
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> FitResult:
    """Fits a stack and leaves each member's best weights in the modules.

    Members do not depend on one another: not in the order of their rows, not in their moments,
    and not when the loss of one is not finite (its update is then left out and counted).

    Args:
        backbone: batch of the pool → embeddings, `members × batch × width`.
        head: embeddings → scaled targets, `members × batch`.
        data: rows, labels, scalers and seeds.
        settings: how to train.
        selection: the metric on validation rows that chooses each member's epoch.
        device: where to train.
        freeze: prefixes of parameter names (`backbone`, `head.layers.0`, …) that stay.
        groups: parameters that are trained differently from the others.
        alongside: datasets that are fitted at the same time; their heads are trained too.
        checkpoint: file from which to go on, and to write to at the end of epochs. It stays when
            the fit has ended: the caller drops it once the weights are safe.
        checkpoint_seconds: shortest time between two writes.
        identity: names what the outcome depends on besides the other arguments (initial weights,
            data); a checkpoint with another one is ignored with a warning.
        on_epoch: called after every epoch.

    Raises:
        BenchmarkError: `freeze` or a group matches no parameter, or groups overlap, or all is
            frozen.
        PluginError: a parameter does not begin with the members axis.
    """
    model = nn.ModuleDict({"backbone": backbone, "head": head}).to(device)
    if alongside:
        model["alongside"] = nn.ModuleList([task.head for task in alongside]).to(device)
    trainable = find_trainable(model, freeze, groups)
    moving = {name: p for part in trainable for name, p in part.parameters.items()}
    frozen = [p for n, p in model.named_parameters() if p.requires_grad and n not in moving]
    for parameter in frozen:
        parameter.requires_grad_(False)
    flat = FlatParameters(moving, len(data.seeds))
    settled = [identity, settings.model_dump(), selection.name, list(data.seeds)]
    digest = _digest(settled, [data, *(task.data for task in alongside)], trainable)
    file = CheckpointFile(checkpoint, digest, checkpoint_seconds)
    segments = [Segment(flat.columns(part.parameters), part.group) for part in trainable]
    adam = StackedAdam(flat, settings.weight_decay, segments)
    trainer = _Trainer(model, flat, adam, data, alongside, settings, selection, device)
    try:
        trainer.run(file, on_epoch)
    except KeyboardInterrupt:
        file.flush()
        raise
    finally:
        flat.release()
        for parameter in frozen:
            parameter.requires_grad_(True)
    return trainer.progress.result()


class _Trainer:
    def __init__(
        self,
        model: nn.ModuleDict,
        flat: FlatParameters,
        adam: StackedAdam,
        data: StackData,
        alongside: Sequence[Alongside],
        settings: TrainingSettings,
        selection: MetricSpec,
        device: torch.device,
    ) -> None:
        self.members = len(data.seeds)
        self.model, self.flat, self.adam, self.data = model, flat, adam, data
        self.settings, self.selection, self.device = settings, selection, device
        self.heads = [model["head"], *(task.head for task in alongside)]
        self.weights = [1.0, *(task.weight for task in alongside)]
        self.feeds = [
            Feed(task, settings.batch_size, device)
            for task in (data, *(task.data for task in alongside))
        ]
        self.best = flat.values.clone()
        self.progress = Progress.start(self.members)

    def run(self, file: CheckpointFile, on_epoch: Callable[[EpochReport], None] | None) -> None:
        saved = file.read()
        if saved is not None:
            for name, tensor in self._state().items():
                tensor.copy_(saved.tensors[name])
            self.progress = Progress(**saved.progress)
        started = time.perf_counter() - self.progress.seconds
        while self.progress.epoch < self.settings.epochs and (training := self._training()):
            self._train_epoch(training)
            self._select()
            self.progress.seconds = time.perf_counter() - started
            file.offer(self._state(), vars(self.progress))
            if on_epoch is not None:
                on_epoch(self.progress.report())
        self.flat.values.copy_(self.best)

    def _state(self) -> dict[str, Tensor]:
        return {
            "values": self.flat.values,
            "best": self.best,
            "adam.first": self.adam.first,
            "adam.second": self.adam.second,
            "adam.clocks": self.adam.clocks,
        }

    def _training(self) -> list[int]:
        """Members that have not run out of patience."""
        patience, done = self.settings.patience, self.progress.epoch
        best = self.progress.best_epoch
        return [m for m in range(self.members) if patience is None or done - best[m] < patience]

    def _train_epoch(self, training: Sequence[int]) -> None:
        progress = self.progress
        lr = self.settings.lr_at(progress.epoch)
        self.model.train()
        losses, rows = np.zeros(self.members), np.zeros(self.members, dtype=np.int64)
        for parts, sizes in self._steps(training):
            loss, finite = self._step(parts, sizes > 0, lr)
            losses += np.where(finite, loss * sizes, 0.0)
            rows += np.where(finite, sizes, 0)
            for member in np.flatnonzero((sizes > 0) & ~finite):
                progress.skipped[member] += 1
        with np.errstate(invalid="ignore"):
            progress.history["train_loss"].append((losses / rows).tolist())
        progress.history["lr"].append(lr)
        progress.member_epochs += len(training)
        progress.epoch += 1

    def _steps(self, training: Sequence[int]) -> Iterator[tuple[Parts, NDArray[np.int64]]]:
        """Yields the parts of each step of an epoch, and the number of rows per member."""
        epoch, size = self.progress.epoch, self.settings.batch_size
        own, *others = self.feeds
        rows = own.one_pass(epoch, training)
        steps = [-(-len(train) // size) for train in self.data.train]
        streams = [own.batches(rows)]
        streams += [feed.batches(feed.beside(rows, epoch, steps)) for feed in others]
        counts = (rows >= 0).reshape(self.members, -1, size).sum(axis=2).T
        for *parts, sizes in zip(*streams, counts, strict=True):
            yield parts, sizes

    def _step(self, parts: Parts, present: Bools, lr: float) -> tuple[Floats, Bools]:
        """Makes one update; returns each member's loss, and whether it was updated.

        The loss is that of the stage's own dataset; the update follows the weighted sum of all.
        """
        own, total = self._losses(parts)
        self.flat.differentiate(total.sum())  # members share no weight: gradients do not mix
        done = self.progress.epoch / self.settings.epochs
        self.adam.rest(done)
        norms = torch.linalg.vector_norm(self.flat.gradients, dim=1)
        if self.settings.clip_norm is not None:
            shorten = (self.settings.clip_norm / norms).clamp(max=1.0)
            self.flat.gradients.mul_(shorten.unsqueeze(1))
        # One transfer per step. A norm that overflows would leave infinity in Adam's moments.
        loss, whole, norm = torch.stack([own, total, norms]).detach().cpu().double().numpy()
        moving = present & np.isfinite(whole) & np.isfinite(norm)
        self.adam.step(moving.tolist(), lr, done)
        return loss, moving

    def _losses(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """Returns each member's loss on the stage's own dataset, and the weighted sum of all."""
        losses = []
        for head, feed, (batch, targets) in zip(self.heads, self.feeds, parts, strict=True):
            output = head(self.model["backbone"](batch))
            losses.append(member_losses(self.settings.loss, output, targets, feed.decoder))
        total = losses[0]
        for weight, loss in zip(self.weights[1:], losses[1:], strict=True):
            total = total + weight * loss
        return losses[0], total

    def _select(self) -> None:
        """Scores the validation rows and keeps the weights of members that have improved."""
        progress, selection = self.progress, self.selection
        predictions = predict(
            self.model["backbone"],
            self.model["head"],
            self.data.pool,
            self.data.validation,
            self.data.scalers,
            device=self.device,
        )
        scores = []
        improved = []
        for member, prediction in enumerate(predictions):
            labels = self.data.labels[member, self.data.validation[member]]
            finite = bool(np.isfinite(prediction).all())
            score = float(selection.function(labels, prediction)) if finite else math.nan
            best = progress.best_score[member]
            better = score > best if selection.higher_is_better else score < best
            if better or (math.isnan(best) and not math.isnan(score)):
                progress.best_score[member] = score
                progress.best_epoch[member] = progress.epoch
                improved.append(member)
            scores.append(score)
        progress.history["score"].append(scores)
        if improved:
            self.best[improved] = self.flat.values[improved]


def _digest(settled: list[Any], tasks: Sequence[TaskData], trainable: Sequence[Trainable]) -> str:
    """Names a fit: what a checkpoint must have been made by to be of use to it."""
    shapes = [
        [asdict(part.group), {name: list(p.shape) for name, p in part.parameters.items()}]
        for part in trainable
    ]
    scalers = [[astuple(scaler) for scaler in task.scalers] for task in tasks]
    named = sha256(json.dumps([*settled, scalers, shapes]).encode())
    for task in tasks:
        for array in task.arrays():
            named.update(np.ascontiguousarray(array).tobytes())
    return named.hexdigest()
