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

from harness.planning.adapted_weights import find_adapted
from harness.planning.member_training import MemberTraining, batch_size_of
from harness.planning.trainable import EVERYTHING_ELSE, Trainable, find_trainable
from harness.registry.plugin_calls import Breach, using
from harness.scoring.scores import measure
from harness.training.checkpoint import CheckpointFile
from harness.training.fit_data import Alongside, Feed, StackData, TaskData
from harness.training.fit_progress import EpochReport, FitResult, Progress
from harness.training.flat_parameters import FlatParameters, Segment, StackedAdam
from harness.training.losses import Targets, member_losses
from harness.training.low_rank_updates import LowRankUpdates
from harness.training.prediction import predict, resolve_device
from harness.training.stop_signal import StopSignal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.plugin.arrays import Floats
    from harness.plugin.transfer import Adapter, ParameterGroup
    from harness.registry.property_metrics import PropertyMetric

    Bools = NDArray[np.bool_]

__all__ = [
    "Alongside",
    "EpochReport",
    "FitResult",
    "StackData",
    "StackFit",
    "TaskData",
    "fit",
    "predict",
    "resolve_device",
]

CHECKPOINT_FORMAT = 2
"""Of what a fit saves; raised when that changes."""

StepBatches = list[tuple[Any, Targets]]
"""What one step is made of: a batch and its targets for every dataset that is fitted."""


def fit(
    backbone: nn.Module,
    head: nn.Module,
    data: StackData,
    member_training: MemberTraining,
    *,
    selection: PropertyMetric,
    device: torch.device,
    freeze: Sequence[str] = (),
    alongside: Sequence[Alongside] = (),
    adapters: Sequence[Adapter] = (),
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 30.0,
    identity: str = "",
    on_epoch: Callable[[EpochReport], None] | None = None,
    stop: StopSignal | None = None,
) -> FitResult:
    """Fits a stack whose members are all trained alike; see `StackFit`."""
    model = nn.ModuleDict({"backbone": backbone, "head": head})
    if alongside:
        model["alongside"] = nn.ModuleList([task.head for task in alongside])
    stack = StackFit(
        model,
        data,
        [member_training] * len(data.seeds),
        selection=selection,
        device=device,
        freeze=freeze,
        alongside=[task.data for task in alongside],
        adapters=adapters,
    )
    file = CheckpointFile(checkpoint, stack.digest(identity), checkpoint_seconds)
    return stack.run(file, on_epoch, stop)


class StackFit:
    """The training of one stack.

    Members do not depend on one another: not in the order of their rows, not in their moments,
    and not when the loss of one is not finite (its update is then left out and counted).

    Args:
        model: its part `backbone` takes a batch of the pool to embeddings, `members × batch ×
            width`; `head` takes these to scaled targets, `members × batch`; `alongside` holds a
            head for every dataset that is fitted at the same time.
        data: rows, labels, scalers and seeds.
        member_trainings: how each member is trained.
        selection: the metric on validation rows that chooses each member's epoch.
        device: where to train.
        freeze: prefixes of parameter names (`backbone`, `head.layers.0`, …) that stay.
        alongside: datasets that are fitted at the same time.
        adapters: low-rank updates of weights that stay; the model holds the sums.

    Attributes:
        progress: how far it has come.
        trained_parameters: how many numbers of one member are trained.

    Raises:
        BenchmarkError: `freeze`, a group or an adapter matches no parameter, or two overlap, or
            all is frozen.
        PluginError: a parameter does not begin with the members axis. Training raises it too,
            where no gradient reaches the backbone, or the head.
    """

    def __init__(
        self,
        model: nn.ModuleDict,
        data: StackData,
        member_trainings: Sequence[MemberTraining],
        *,
        selection: PropertyMetric,
        device: torch.device,
        freeze: Sequence[str] = (),
        alongside: Sequence[TaskData] = (),
        adapters: Sequence[Adapter] = (),
    ) -> None:
        self.progress = Progress.start(len(data.seeds))
        self._model = model.to(device)
        self._data, self._alongside, self._member_trainings = (
            data,
            alongside,
            list(member_trainings),
        )
        self._selection, self._device, self._freeze = selection, device, freeze
        self._settings = [member_training.training for member_training in member_trainings]
        self._batch_size = batch_size_of(member_trainings)
        self._adapters = adapters
        adapted = find_adapted(model, adapters)
        self._trainable = find_trainable(model, freeze, member_trainings[0].groups, adapted)
        self._updates = LowRankUpdates(adapted, data.seeds) if adapted else None
        if self._updates is not None:
            self._trainable.append(Trainable(EVERYTHING_ELSE, self._updates.parameters))
        moving = {name: p for part in self._trainable for name, p in part.parameters.items()}
        self.trained_parameters = sum(p[0].numel() for p in moving.values())
        self._frozen = [
            p
            for n, p in model.named_parameters()
            if p.requires_grad and n not in moving and n not in adapted
        ]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        self._flat = FlatParameters(moving, len(member_trainings))
        self._adam = StackedAdam(
            self._flat,
            [own.weight_decay for own in self._settings],
            [
                Segment(self._flat.columns(part.parameters), self._groups_like(part.group))
                for part in self._trainable
            ],
        )
        self._reached: set[str] = set()
        self._moving = list(moving)
        self._best = self._flat.values.clone()
        others = model["alongside"].children() if alongside else iter(())
        self._heads = [model["head"], *others]
        self._weights = [
            torch.tensor(own, dtype=torch.float32, device=device)
            for own in zip(
                *(member_training.alongside for member_training in member_trainings), strict=True
            )
        ]
        self._feeds = [Feed(task, self._batch_size, device) for task in (data, *alongside)]

    def _groups_like(self, group: ParameterGroup) -> list[ParameterGroup]:
        """Every member's group of the same parameters."""
        first = self._member_trainings[0].groups
        if group not in first:
            return [group] * len(self._member_trainings)
        return [
            member_training.groups[first.index(group)] for member_training in self._member_trainings
        ]

    def digest(self, identity: str = "") -> str:
        """Names a fit: what a checkpoint must have been made by to be of use to it.

        Args:
            identity: names what the outcome depends on besides what this object knows.
        """
        shapes = [
            {name: list(parameter.shape) for name, parameter in part.parameters.items()}
            for part in self._trainable
        ]
        member_trainings = [
            [
                own.training.model_dump(),
                [asdict(group) for group in own.groups],
                own.alongside,
                own.alongside_losses,
            ]
            for own in self._member_trainings
        ]
        adapters = [asdict(adapter) for adapter in self._adapters]
        tasks = (self._data, *self._alongside)
        scalers = [[astuple(scaler) for scaler in task.scalers] for task in tasks]
        settled = [
            CHECKPOINT_FORMAT,
            identity,
            member_trainings,
            self._selection.name,
            list(self._data.seeds),
            scalers,
            shapes,
            adapters,
        ]
        named = sha256(json.dumps(settled).encode())
        for task in tasks:
            for array in task.arrays():
                named.update(np.ascontiguousarray(array).tobytes())
        return named.hexdigest()

    def run(
        self,
        file: CheckpointFile,
        on_epoch: Callable[[EpochReport], None] | None = None,
        stop: StopSignal | None = None,
    ) -> FitResult:
        """Trains to the end, and leaves each member's best weights in the modules.

        Args:
            file: from which to go on, and to write to at the end of epochs. It stays when the fit
                has ended: the caller drops it once the weights are safe.
            on_epoch: called after every epoch.
            stop: asked at the end of every epoch.

        Raises:
            KeyboardInterrupt: it is to stop; the file holds the epoch that was just finished.
        """
        saved = file.read()
        if saved is not None:
            for name, tensor in self._state().items():
                tensor.copy_(saved.tensors[name])
            self._write_updates()
            self.progress = Progress(**saved.progress)

        def end_epoch(report: EpochReport) -> None:
            file.offer(self._state(), vars(self.progress))
            if on_epoch is not None:
                on_epoch(report)
            if stop is not None and stop.is_set():
                file.write(self._state(), vars(self.progress))
                stop.check()

        try:
            self.train(on_epoch=end_epoch)
            self._flat.values.copy_(self._best)
            self._write_updates()
        finally:
            self._flat.release()
            for parameter in self._frozen:
                parameter.requires_grad_(True)
        return self.progress.result()

    def train(
        self, until: int | None = None, on_epoch: Callable[[EpochReport], None] | None = None
    ) -> bool:
        """Trains all members that are not at their end.

        Args:
            until: number of finished epochs at which to pause.
            on_epoch: called after every epoch.

        Returns:
            Whether a member is left that is not at its end.
        """
        started = time.perf_counter() - self.progress.seconds
        while training := self._training():
            if until is not None and self.progress.epoch >= until:
                return True
            self._train_epoch(training)
            self._select()
            self.progress.seconds = time.perf_counter() - started
            if on_epoch is not None:
                on_epoch(self.progress.report())
        return False

    @property
    def training(self) -> set[int]:
        """Members that are not at their end."""
        return set(self._training())

    def of_members(self, members: Sequence[int], model: nn.ModuleDict) -> StackFit:
        """Goes on with some of the members: a smaller stack, in which they do as they would have.

        Args:
            members: their positions in this stack.
            model: a model of so many members, as it is made; takes over their weights.
        """
        chosen = list(members)
        old: dict[str, Tensor] = dict(self._model.named_parameters())
        if self._updates is not None:
            old |= self._updates.start
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(old[name][chosen])
        smaller = StackFit(
            model,
            self._data.of_members(chosen),
            [self._member_trainings[member] for member in chosen],
            selection=self._selection,
            device=self._device,
            freeze=self._freeze,
            alongside=[task.of_members(chosen) for task in self._alongside],
            adapters=self._adapters,
        )
        smaller._adam.start.copy_(self._adam.start[chosen])
        for name, tensor in smaller._state().items():
            tensor.copy_(self._state()[name][chosen])
        smaller._write_updates()
        smaller.progress = self.progress.of_members(chosen)
        return smaller

    def _write_updates(self) -> None:
        """Brings what low-rank updates have become into the weights of the model."""
        if self._updates is not None:
            self._updates.write()

    def _state(self) -> dict[str, Tensor]:
        return {
            "values": self._flat.values,
            "best": self._best,
            "adam.first": self._adam.first,
            "adam.second": self._adam.second,
            "adam.clocks": self._adam.clocks,
        }

    def _training(self) -> list[int]:
        """Members that are not at their last epoch and have not run out of patience."""
        done, best = self.progress.epoch, self.progress.best_epoch
        return [
            member
            for member, own in enumerate(self._settings)
            if done < own.epochs and (own.patience is None or done - best[member] < own.patience)
        ]

    def _train_epoch(self, training: Sequence[int]) -> None:
        progress = self.progress
        self._model.train()
        for module in self._model.modules():
            begin = getattr(module, "begin_epoch", None)
            if callable(begin):
                with using(begin, f"beginning epoch {progress.epoch + 1}"):
                    begin(progress.epoch)
        members = len(self._member_trainings)
        losses, rows = np.zeros(members), np.zeros(members, dtype=np.int64)
        for parts, sizes in self._steps(training):
            loss, finite = self._step(parts, sizes > 0)
            losses += np.where(finite, loss * sizes, 0.0)
            rows += np.where(finite, sizes, 0)
            for member in np.flatnonzero((sizes > 0) & ~finite):
                progress.skipped[member] += 1
        self._check_reached()
        with np.errstate(invalid="ignore"):
            progress.history["train_loss"].append((losses / rows).tolist())
        for own in training:
            progress.trained[own] += 1
        progress.epoch += 1

    def _check_reached(self) -> None:
        """Sees that the updates of an epoch have moved each part that is to be trained.

        Raises:
            PluginError: no gradient has reached any parameter of one.
        """
        for part in ("backbone", "head"):
            own = [name for name in self._moving if name.startswith(f"{part}.")]
            if own and self._reached.isdisjoint(own):
                raise Breach(
                    self._model[part].forward,
                    f"No gradient reaches the {part}, so that nothing of it would be trained: "
                    "something on the way from its parameters to the predictions cuts them off "
                    "(detach, no_grad, numpy, rounding to whole numbers), or does without them. "
                    f'Mend that, or keep the part as it is by freeze = ["{part}"].',
                )

    def _steps(self, training: Sequence[int]) -> Iterator[tuple[StepBatches, NDArray[np.int64]]]:
        """Yields the parts of each step of an epoch, and the number of rows per member."""
        epoch, size = self.progress.epoch, self._batch_size
        own, *others = self._feeds
        rows = own.one_pass(epoch, training)
        steps = [-(-len(train) // size) for train in self._data.train]
        streams = [own.batches(rows)]
        streams += [feed.batches(feed.beside(rows, epoch, steps)) for feed in others]
        counts = (rows >= 0).reshape(len(steps), -1, size).sum(axis=2).T
        for *parts, sizes in zip(*streams, counts, strict=True):
            yield parts, sizes

    def _step(self, parts: StepBatches, present: Bools) -> tuple[Floats, Bools]:
        """Makes one update; returns each member's loss, and whether it was updated.

        The loss is that of the stage's own dataset; the update follows the weighted sum of all.
        """
        own, total = self._losses(parts)
        # Members share no weight: gradients do not mix.
        self._reached.update(self._flat.differentiate(total.sum(), self._updates))
        epoch = self.progress.epoch
        done = [epoch / own.epochs for own in self._settings]
        self._adam.rest(done)
        norms = torch.linalg.vector_norm(self._flat.gradients, dim=1)
        if any(own.clip_norm is not None for own in self._settings):
            longest = [own.clip_norm or math.inf for own in self._settings]
            shorten = (torch.tensor(longest, device=norms.device) / norms).clamp(max=1.0)
            self._flat.gradients.mul_(shorten.unsqueeze(1))
        # One transfer per step. A norm that overflows would leave infinity in Adam's moments.
        loss, whole, norm = torch.stack([own, total, norms]).detach().cpu().double().numpy()
        moving = present & np.isfinite(whole) & np.isfinite(norm)
        self._adam.step(moving.tolist(), [own.lr_at(epoch) for own in self._settings], done)
        self._write_updates()
        return loss, moving

    def _losses(self, parts: StepBatches) -> tuple[Tensor, Tensor]:
        """Returns each member's loss on the stage's own dataset, and the weighted sum of all."""
        losses = []
        for number, (head, feed, (batch, targets)) in enumerate(
            zip(self._heads, self._feeds, parts, strict=True)
        ):
            kinds = [own.loss_of(number) for own in self._member_trainings]
            output = head(self._model["backbone"](batch))
            losses.append(member_losses(kinds, output, targets, feed.decoder))
        total = losses[0]
        for weights, loss in zip(self._weights, losses[1:], strict=True):
            total = total + weights * loss
        return losses[0], total

    def _select(self) -> None:
        """Scores the validation rows and keeps the weights of members that have improved."""
        progress, selection, data = self.progress, self._selection, self._data
        parts = self._model["backbone"], self._model["head"]
        predictions = predict(*parts, data.pool, data.validation, data.scalers, device=self._device)
        scores = []
        improved = []
        for member, prediction in enumerate(predictions):
            labels = data.labels[member, data.validation[member]]
            score = measure(selection, labels, prediction)
            best = progress.best_score[member]
            better = score > best if selection.higher_is_better else score < best
            if better or (math.isnan(best) and not math.isnan(score)):
                progress.best_score[member] = score
                progress.best_epoch[member] = progress.epoch
                improved.append(member)
            scores.append(score)
        progress.history["score"].append(scores)
        if improved:
            self._best[improved] = self._flat.values[improved]
