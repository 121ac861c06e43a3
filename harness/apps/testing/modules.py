"""Parts that the cases of stacked modules need: seeds, a small head, rows of numbers as a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.nn.stack import StackedLinear
from harness.plugin.seeds import derive_seed

if TYPE_CHECKING:
    from harness.plugin.arrays import Indices

CPU = torch.device("cpu")


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Returns one generator per member."""
    return [torch.Generator().manual_seed(derive_seed(seed, "member")) for seed in seeds]


class SmallHead(nn.Module):
    """One hidden layer of 32, tanh."""

    def __init__(self, width: int, seeds: Sequence[int]) -> None:
        super().__init__()
        of_members = generators(seeds)
        self.hidden = StackedLinear(of_members, width, 32)
        self.last = StackedLinear(of_members, 32, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Takes `members × batch × width` to `members × batch`."""
        return torch.squeeze(self.last(torch.tanh(self.hidden(embeddings))), -1)


class RowPool:
    """Rows of numbers in place of encoded crystals.

    Args:
        rows: `rows × width`.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Indices) -> Tensor:
        """Returns `members × batch × width`; zeros in empty places."""
        index = torch.as_tensor(rows)
        return self._rows[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that training moves."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of everything that is saved."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def changed(before: Mapping[str, Tensor], module: nn.Module) -> list[str]:
    """Names of the tensors that differ from a copy, by a single bit even."""
    return [
        name
        for name, tensor in module.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
