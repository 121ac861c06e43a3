"""Several fixed backbones side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.plugin import (
    Backbone,
    BenchmarkError,
    CannotEncode,
    Locations,
    Pool,
    PretrainedWeights,
    WeightsError,
    join_encodings,
    join_weights,
    take_encoding,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.plugin import Arrays, Crystal, Indices, Settings


def make_concat(settings: Settings, parts: Mapping[str, Backbone]) -> Concat:
    """Makes the backbone.

    Raises:
        BenchmarkError: a part is not fixed.
    """
    for label, part in parts.items():
        if not part.fixed:
            raise BenchmarkError(
                f"The backbone 'concat' is made of fixed ones, and {label!r} is trained: take it "
                "out of `of`."
            )
    return Concat(parts)


class Concat(Backbone):
    """Backbones of which nothing is trained, one block of the embedding each.

    Args:
        parts: by label, in order. One that has blocks itself brings these.
    """

    fixed = True

    def __init__(self, parts: Mapping[str, Backbone]) -> None:
        self._parts = tuple(parts.values())
        self.blocks = tuple(
            (f"{label}/{name}" if name else label, width)
            for label, part in parts.items()
            for name, width in part.blocks or (("", part.width),)
        )
        self.width = sum(part.width for part in self._parts)
        self.elements = frozenset.intersection(*(part.elements for part in self._parts))
        self.encoding = f"concat-1 {_digest(self._parts)}"
        self.invariances = frozenset.intersection(*(part.invariances for part in self._parts))
        self.cutoff_angstrom = max(
            (part.cutoff_angstrom for part in self._parts if part.cutoff_angstrom), default=None
        )
        self.refuses = any(part.refuses for part in self._parts)
        self.vouched = all(part.vouched for part in self._parts)

    @property
    def offers_weights(self) -> bool:
        """Whether any of them was trained before."""
        return any(part.offers_weights for part in self._parts)

    def encode(self, crystal: Crystal) -> dict[str, NDArray[Any]]:
        """Returns what each makes of the crystal.

        Raises:
            CannotEncode: one of them refuses it.
        """
        return join_encodings([part.encode(crystal) for part in self._parts])

    def encode_all(
        self, crystals: Sequence[Crystal]
    ) -> Sequence[dict[str, NDArray[Any]] | CannotEncode]:
        """Lets each encode all crystals together."""
        by_part = [part.encode_all(crystals) for part in self._parts]
        return [_joined(of_crystal) for of_crystal in zip(*by_part, strict=True)]

    def count_isolated(self, encoding: Arrays) -> int:
        """Number of atoms without a neighbour, to those that see as far as the cutoff says."""
        return max(
            (
                part.count_isolated(take_encoding(encoding, number))
                for number, part in enumerate(self._parts)
                if part.cutoff_angstrom == self.cutoff_angstrom
            ),
            default=0,
        )

    def pool(self, encodings: Sequence[Arrays], device: torch.device) -> ConcatPool:
        """Lets each pack its own."""
        return ConcatPool(
            [
                part.pool([take_encoding(own, number) for own in encodings], device)
                for number, part in enumerate(self._parts)
            ]
        )

    def build(self, generators: Sequence[torch.Generator]) -> SideBySide:
        """Makes the modules of all of them."""
        return SideBySide([part.build(generators) for part in self._parts])

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Returns the weights of all that were trained, as one.

        Raises:
            WeightsError: none was, or those of one are not where they were looked for.
        """
        trained = [part for part in self._parts if part.offers_weights]
        if not trained:
            raise WeightsError("None of these backbones was trained: there are no weights.")
        return join_weights([part.find_pretrained(locations) for part in trained])


def _digest(parts: Sequence[Backbone]) -> str:
    """Names the encodings of backbones, whose encodings they are included."""
    names = []
    for part in parts:
        code: Any = part.encoder
        names.append(f"{code.__module__}.{code.__qualname__} {part.encoding}")
    return sha256("\n".join(names).encode()).hexdigest()[:32]


def _joined(
    of_parts: Sequence[dict[str, NDArray[Any]] | CannotEncode],
) -> dict[str, NDArray[Any]] | CannotEncode:
    encodings = []
    for encoded in of_parts:
        if isinstance(encoded, CannotEncode):
            return encoded
        encodings.append(encoded)
    return join_encodings(encodings)


class ConcatPool:
    """The packed crystals of several backbones.

    Args:
        pools: of the same crystals.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self._pools = pools

    def __len__(self) -> int:
        return len(self._pools[0])

    def batch(self, rows: Indices) -> list[Any]:
        """Returns the batch of each."""
        return [pool.batch(rows) for pool in self._pools]


class SideBySide(nn.Module):
    """Embeddings of several modules, one after another.

    Args:
        modules: each takes its own batch.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, batches: Sequence[Any]) -> Tensor:
        """Takes one batch for each to `members × batch × width`."""
        found = [part(batch) for part, batch in zip(self.parts, batches, strict=True)]
        return torch.cat(found, dim=-1)
