"""Low-rank updates of weights that stay: their factors, gradients, and sums with the weights.

The model knows nothing of them: its weights always hold the sum W₀ + s·L·R, so that layers which
read `weight` in ways of their own, predictions, and artefacts need no change. The gradients of the
factors follow from that of the sum, G: s·G·Rᵀ and s·Lᵀ·G.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.planning.adapted_weights import AdaptedWeight
from harness.plugin.seeds import derive_seed


class LowRankUpdates:
    """The updates of a stack's weights (LoRA; Hu et al., arXiv 2106.09685).

    Args:
        adapted: the weights, by name; what they hold now is W₀.
        seeds: one per member, from which its factors are drawn.

    Attributes:
        parameters: the factors, by name, those of one weight after the other; members axis first.
        start: W₀ of every weight, by name.
    """

    def __init__(self, adapted: Mapping[str, AdaptedWeight], seeds: Sequence[int]) -> None:
        self._adapted = list(adapted.values())
        self.start = {name: own.weight.detach().clone() for name, own in adapted.items()}
        self.parameters: dict[str, nn.Parameter] = {}
        for name, own in adapted.items():
            self.parameters |= _factors(name, own, seeds)

    @property
    def weights(self) -> list[Tensor]:
        """The weights whose gradients `gradients` takes, in order."""
        return [own.weight for own in self._adapted]

    def gradients(self, of_weights: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Returns the gradient of every factor, given that of every weight; none where none."""
        found: list[Tensor | None] = []
        for own, (left, right), gradient in zip(
            self._adapted, self._pairs(), of_weights, strict=True
        ):
            if gradient is None:
                found += [None, None]
            else:
                found.append(torch.bmm(gradient, right.transpose(1, 2)).mul_(own.scale))
                found.append(torch.bmm(left.transpose(1, 2), gradient).mul_(own.scale))
        return found

    @torch.no_grad()
    def write(self) -> None:
        """Makes every weight the sum of what it was at the start and its update."""
        for own, start, (left, right) in zip(
            self._adapted, self.start.values(), self._pairs(), strict=True
        ):
            torch.baddbmm(start, left, right, alpha=own.scale, out=own.weight.data)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        factors = [parameter.detach() for parameter in self.parameters.values()]
        return list(zip(factors[::2], factors[1::2], strict=True))


def _factors(name: str, own: AdaptedWeight, seeds: Sequence[int]) -> dict[str, nn.Parameter]:
    """Draws the factors of one weight: at the inputs as a linear layer does, at the outputs 0."""
    _, rows, columns = own.weight.shape
    shapes = {"left": (rows, own.rank), "right": (own.rank, columns)}
    drawn, width = ("right", columns) if own.outputs_first else ("left", rows)
    factors = {}
    for side, shape in shapes.items():
        values = torch.zeros(len(seeds), *shape)
        if side == drawn:
            for member, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
                values[member] = (2 * torch.rand(shape, generator=generator) - 1) * width**-0.5
        factors[f"{name}.{side}"] = nn.Parameter(values.to(own.weight.device))
    return factors
