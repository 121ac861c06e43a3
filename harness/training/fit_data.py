"""What a stack is fitted to: rows, labels, scalers and seeds, and the order rows are taken in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import nn

from harness.errors import DataError
from harness.plugin.seeds import derive_seed
from harness.training.losses import Decoder, Targets
from harness.training.prediction import padded

if TYPE_CHECKING:
    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.backbone import Pool
    from harness.plugin.protocol import Scaler


@dataclass(frozen=True, eq=False)
class TaskData:
    """One dataset as the members of a stack see it. Positions are positions in the pool.

    Attributes:
        pool: the encoded crystals.
        train: training positions of each member; their numbers may differ.
        labels: in the property's unit, `members × pool`; never read where a member has no row.
        scalers: one per member.
        seeds: one per member, for the order of its rows.
    """

    pool: Pool
    train: Sequence[Indices]
    labels: Floats
    scalers: Sequence[Scaler]
    seeds: Sequence[int]

    def __post_init__(self) -> None:
        """Checks that the parts fit together.

        Raises:
            DataError: they do not, or a member has no row in a role.
        """
        members = len(self.seeds)
        roles = self._roles()
        lengths = {len(self.labels), len(self.scalers), *map(len, roles.values())}
        if lengths != {members} or self.labels.shape[1] != len(self.pool):
            raise DataError(
                f"A stack of {members} members needs rows, labels and a scaler for each of them, "
                f"and one label per crystal of the pool ({len(self.pool)}); got labels of shape "
                f"{self.labels.shape}."
            )
        for role, rows in roles.items():
            for member, own in enumerate(rows):
                if len(own) == 0:
                    raise DataError(
                        f"Member {member + 1} of the stack has no {role} row: the dataset is too "
                        "small for this split. Use more rows or another protocol."
                    )

    def _roles(self) -> dict[str, Sequence[Indices]]:
        return {"train": self.train}

    def of_members(self, members: Sequence[int]) -> Self:
        """The same for some of the members."""
        chosen = list(members)
        lists = ("scalers", "seeds", *self._roles())
        parts: dict[str, Any] = {
            name: [getattr(self, name)[member] for member in chosen] for name in lists
        }
        return replace(self, labels=self.labels[chosen], **parts)

    def arrays(self) -> Iterator[Any]:
        """All arrays that a fit depends on."""
        for rows in self._roles().values():
            yield from rows
        yield self.labels


@dataclass(frozen=True, eq=False)
class StackData(TaskData):
    """The dataset that a stage fits, with the rows that choose each member's epoch.

    Attributes:
        validation: validation positions of each member.
    """

    validation: Sequence[Indices]

    def _roles(self) -> dict[str, Sequence[Indices]]:
        return {"train": self.train, "validation": self.validation}


@dataclass(frozen=True, eq=False)
class Alongside:
    """A dataset that a stack is fitted to at the same time.

    Attributes:
        head: its own head; embeddings → scaled targets.
        data: its rows.
    """

    head: nn.Module
    data: TaskData


class Feed:
    """Hands out batches of one dataset with their targets.

    The order of rows depends on the member's seed and the position in training alone, so that
    nothing needs saving and no member depends on another.
    """

    def __init__(self, data: TaskData, batch_size: int, device: torch.device) -> None:
        self.decoder = Decoder.of(data.scalers, device)
        self._data, self._batch_size, self._device = data, batch_size, device
        with np.errstate(invalid="ignore", divide="ignore"):
            encoded = [s.encode(k) for s, k in zip(data.scalers, data.labels, strict=True)]
        self._scaled_labels = np.stack(encoded)

    def one_pass(self, epoch: int, training: Sequence[int]) -> Indices:
        """Every member's rows in an epoch's order, padded to full batches of the longest.

        Full batches keep shapes, and with them the last bit of every matrix product, the same
        whatever the neighbours' lengths.

        Args:
            epoch: from 0.
            training: members that still train; the others get no rows.
        """
        orders = [
            self._permutation(member, epoch) if member in training else rows[:0]
            for member, rows in enumerate(self._data.train)
        ]
        size = self._batch_size
        return padded(orders, -(-max(len(order) for order in orders) // size) * size)

    def beside(self, other: Indices, epoch: int, steps: Sequence[int]) -> Indices:
        """A full batch of every member's rows for each step that it makes with another dataset.

        Its passes over these rows follow one another, each in an order of its own, across epochs.

        Args:
            other: the other dataset's rows of this epoch, `members × steps · batch`.
            epoch: from 0.
            steps: steps that each member makes in a whole epoch.
        """
        rows = np.full_like(other, -1)
        for member, own in enumerate(steps):
            if (other[member] < 0).all():
                continue
            length = own * self._batch_size
            size = len(self._data.train[member])
            first, last = epoch * length // size, ((epoch + 1) * length - 1) // size
            passes = [self._permutation(member, number) for number in range(first, last + 1)]
            start = epoch * length - first * size
            rows[member, :length] = np.concatenate(passes)[start : start + length]
        return rows

    def _permutation(self, member: int, number: int) -> Indices:
        seed = derive_seed(self._data.seeds[member], "shuffle", number)
        return np.random.default_rng(seed).permutation(self._data.train[member])

    def batches(self, rows: Indices) -> Iterator[tuple[Any, Targets]]:
        """Yields a batch of the pool and its targets for every step.

        Args:
            rows: `members × steps · batch` positions; −1 marks empty places.
        """
        labels, scaled = (
            torch.as_tensor(
                np.take_along_axis(values, rows.clip(min=0), axis=1),
                dtype=torch.float32,
                device=self._device,
            )
            for values in (self._data.labels, self._scaled_labels)
        )
        used = torch.as_tensor(rows >= 0, device=self._device)
        for start in range(0, rows.shape[1], self._batch_size):
            part = slice(start, start + self._batch_size)
            batch = self._data.pool.batch(np.ascontiguousarray(rows[:, part]))
            yield batch, Targets(labels[:, part], scaled[:, part], used[:, part])
