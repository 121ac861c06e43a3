"""The trainer: fits all members of one stack at once, and predicts with them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint import CheckpointFile
from harness.errors import BenchmarkError, DataError, did_you_mean
from harness.flat_parameters import FlatParameters, StackedAdam
from harness.losses import Decoder, Targets, member_losses
from harness.prediction import padded, predict, resolve_device
from harness.progress import EpochReport, FitResult, Progress
from harness.seeds import derive_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.contracts import Floats, Indices, MetricSpec, Pool, Scaler
    from harness.training_settings import TrainingSettings

    Bools = NDArray[np.bool_]

__all__ = ["EpochReport", "FitResult", "StackData", "fit", "predict", "resolve_device"]


@dataclass(frozen=True, eq=False)
class StackData:
    """What the members of a stack are fitted to. Positions are positions in the pool.

    Attributes:
        pool: the encoded crystals.
        train: training positions of each member; their numbers may differ.
        validation: validation positions of each member.
        labels: κ in W/(m·K), `members × pool`; never read where a member has no row.
        scalers: one per member.
        seeds: one per member, for the order of its rows.
    """

    pool: Pool
    train: Sequence[Indices]
    validation: Sequence[Indices]
    labels: Floats
    scalers: Sequence[Scaler]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        """Checks that the parts fit together.

        Raises:
            DataError: they do not, or a member has no training or no validation row.
        """
        members = len(self.seeds)
        lengths = {len(self.train), len(self.validation), len(self.labels), len(self.scalers)}
        if lengths != {members} or self.labels.shape[1] != len(self.pool):
            raise DataError(
                f"A stack of {members} members needs rows, labels and a scaler for each of them, "
                f"and one label per crystal of the pool ({len(self.pool)}); got labels of shape "
                f"{self.labels.shape}."
            )
        for role in ("train", "validation"):
            for member, rows in enumerate(getattr(self, role)):
                if len(rows) == 0:
                    raise DataError(
                        f"Member {member + 1} of the stack has no {role} row: the dataset is too "
                        "small for this split. Use more rows or another protocol."
                    )


def fit(
    backbone: nn.Module,
    head: nn.Module,
    data: StackData,
    settings: TrainingSettings,
    *,
    selection: MetricSpec,
    device: torch.device,
    freeze: Sequence[str] = (),
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
        checkpoint: file from which to go on, and to write to at the end of epochs. It stays when
            the fit has ended: the caller drops it once the weights are safe.
        checkpoint_seconds: shortest time between two writes.
        identity: names what the outcome depends on besides the other arguments (initial weights,
            data); a checkpoint with another one is ignored with a warning.
        on_epoch: called after every epoch.

    Raises:
        BenchmarkError: `freeze` matches no parameter, or all of them.
        PluginError: a parameter does not begin with the members axis.
    """
    model = nn.ModuleDict({"backbone": backbone, "head": head}).to(device)
    trainable = _trainable(model, freeze)
    frozen = [p for n, p in model.named_parameters() if p.requires_grad and n not in trainable]
    for parameter in frozen:
        parameter.requires_grad_(False)
    flat = FlatParameters(trainable, len(data.seeds))
    file = CheckpointFile(
        checkpoint, _digest(identity, data, settings, selection, trainable), checkpoint_seconds
    )
    trainer = _Trainer(model, flat, data, settings, selection, device)
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
        data: StackData,
        settings: TrainingSettings,
        selection: MetricSpec,
        device: torch.device,
    ) -> None:
        self.members = len(data.seeds)
        self.model, self.flat, self.data = model, flat, data
        self.settings, self.selection, self.device = settings, selection, device
        self.decoder = Decoder.of(data.scalers, device)
        with np.errstate(invalid="ignore", divide="ignore"):
            encoded = [s.encode(k) for s, k in zip(data.scalers, data.labels, strict=True)]
        self.scaled_labels = np.stack(encoded)
        self.adam = StackedAdam(flat, settings.weight_decay)
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
        for batch, targets, sizes in self._steps(training):
            loss, finite = self._step(batch, targets, sizes > 0, lr)
            losses += np.where(finite, loss * sizes, 0.0)
            rows += np.where(finite, sizes, 0)
            for member in np.flatnonzero((sizes > 0) & ~finite):
                progress.skipped[member] += 1
        with np.errstate(invalid="ignore"):
            progress.history["train_loss"].append((losses / rows).tolist())
        progress.history["lr"].append(lr)
        progress.member_epochs += len(training)
        progress.epoch += 1

    def _steps(self, training: Sequence[int]) -> Iterator[tuple[Any, Targets, Indices]]:
        """Yields batch, targets and the number of rows per member, for each step of an epoch."""
        rows = self._epoch_rows(training)
        kappa, scaled = (
            torch.as_tensor(
                np.take_along_axis(labels, rows.clip(min=0), axis=1),
                dtype=torch.float32,
                device=self.device,
            )
            for labels in (self.data.labels, self.scaled_labels)
        )
        used = torch.as_tensor(rows >= 0, device=self.device)
        size = self.settings.batch_size
        for start in range(0, rows.shape[1], size):
            part = slice(start, start + size)
            batch = self.data.pool.batch(np.ascontiguousarray(rows[:, part]))
            targets = Targets(kappa[:, part], scaled[:, part], used[:, part])
            yield batch, targets, (rows[:, part] >= 0).sum(axis=1)

    def _epoch_rows(self, training: Sequence[int]) -> Indices:
        """Every member's rows in this epoch's order, padded to full batches of the longest.

        The order depends on the member's seed and the epoch alone, so that nothing needs saving
        and no member depends on another. Full batches keep shapes, and with them the last bit of
        every matrix product, the same whatever the neighbours' lengths.
        """
        orders = []
        for member, (rows, seed) in enumerate(zip(self.data.train, self.data.seeds, strict=True)):
            generator = np.random.default_rng(derive_seed(seed, "shuffle", self.progress.epoch))
            orders.append(generator.permutation(rows) if member in training else rows[:0])
        size = self.settings.batch_size
        return padded(orders, -(-max(len(order) for order in orders) // size) * size)

    def _step(
        self, batch: Any, targets: Targets, present: Bools, lr: float
    ) -> tuple[Floats, Bools]:
        """Makes one update; returns each member's loss, and whether it was updated."""
        output = self.model["head"](self.model["backbone"](batch))
        losses = member_losses(self.settings.loss, output, targets, self.decoder)
        self.flat.differentiate(losses.sum())  # members share no weight: gradients do not mix
        norms = torch.linalg.vector_norm(self.flat.gradients, dim=1)
        if self.settings.clip_norm is not None:
            shorten = (self.settings.clip_norm / norms).clamp(max=1.0)
            self.flat.gradients.mul_(shorten.unsqueeze(1))
        # One transfer per step. A norm that overflows would leave infinity in Adam's moments.
        loss, norm = torch.stack([losses.detach(), norms]).cpu().double().numpy()
        moving = present & np.isfinite(loss) & np.isfinite(norm)
        self.adam.step(moving.tolist(), lr)
        return loss, moving

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


def _trainable(model: nn.Module, freeze: Sequence[str]) -> dict[str, nn.Parameter]:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for prefix in freeze:
        if not any(_under(name, prefix) for name in named):
            parts = {name.rpartition(".")[0] for name in named} | {"backbone", "head"}
            raise BenchmarkError(
                f"freeze = {prefix!r} matches no trainable parameter.{did_you_mean(prefix, parts)}"
            )
    kept = {n: p for n, p in named.items() if not any(_under(n, prefix) for prefix in freeze)}
    if not kept:
        raise BenchmarkError(
            f"freeze = {list(freeze)} leaves no parameter to train: freeze less in this stage."
        )
    return kept


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _digest(
    identity: str,
    data: StackData,
    settings: TrainingSettings,
    selection: MetricSpec,
    trainable: Mapping[str, nn.Parameter],
) -> str:
    """Names a fit: what a checkpoint must have been made by to be of use to it."""
    shapes = {name: list(parameter.shape) for name, parameter in trainable.items()}
    scalers = [astuple(scaler) for scaler in data.scalers]
    settled = [identity, settings.model_dump(), selection.name, list(data.seeds), scalers, shapes]
    named = sha256(json.dumps(settled).encode())
    for array in (*data.train, *data.validation, data.labels):
        named.update(np.ascontiguousarray(array).tobytes())
    return named.hexdigest()
