"""Which weights of a model get a low-rank update: those of its linear layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from harness.errors import BenchmarkError, did_you_mean
from harness.nn.stack import StackedLinear
from harness.planning.trainable import lies_under
from harness.plugin.transfer import Adapter


@dataclass(frozen=True, eq=False)
class AdaptedWeight:
    """A weight that gets a low-rank update.

    Attributes:
        weight: `members × n_in × n_out`, or `members × n_out × n_in`.
        outputs_first: which of the two.
        rank: of the update; no more than the shorter side.
        scale: of the product of its two factors.
    """

    weight: Tensor
    outputs_first: bool
    rank: int
    scale: float


def find_adapted(model: nn.Module, adapters: Sequence[Adapter]) -> dict[str, AdaptedWeight]:
    """Finds the weights that adapters update, by name.

    Raises:
        BenchmarkError: a prefix matches no weight of a linear layer, a rank is larger than all
            matrices that it is for, or a weight has two adapters.
    """
    linear = dict(_linear_weights(model)) if adapters else {}
    found: dict[str, AdaptedWeight] = {}
    for adapter in adapters:
        for prefix in adapter.prefixes:
            if not any(lies_under(name, [prefix]) for name in linear):
                raise BenchmarkError(
                    f"{adapter}: {prefix!r} matches no trainable weight of a linear layer "
                    "(StackedLinear or, inside Stacked, torch.nn.Linear)."
                    f"{did_you_mean(prefix, linear)}"
                )
        own = {n: layer for n, layer in linear.items() if lies_under(n, adapter.prefixes)}
        if twice := own.keys() & found.keys():
            raise BenchmarkError(
                f"The weight {min(twice)!r} has two adapters in a stage: they must not overlap."
            )
        sides = {name: min(layer.weight.shape[1:]) for name, layer in own.items()}
        if adapter.rank > (longest := max(sides.values())):
            raise BenchmarkError(
                f"{adapter}: the rank {adapter.rank} is larger than every matrix that it is for, "
                f"of which the largest has rank {longest}. Choose a smaller one."
            )
        for name, layer in own.items():
            found[name] = AdaptedWeight(
                layer.weight,
                isinstance(layer, nn.Linear),
                min(adapter.rank, sides[name]),
                adapter.alpha / adapter.rank,
            )
    return found


def _linear_weights(model: nn.Module) -> Iterator[tuple[str, StackedLinear | nn.Linear]]:
    for name, module in model.named_modules():
        if (
            isinstance(module, StackedLinear | nn.Linear)
            and module.weight.dim() == 3  # else it has no members axis
            and module.weight.requires_grad
        ):
            yield f"{name}.weight", module
