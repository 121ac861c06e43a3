"""Which parameters of a model a stage trains, and which of them differently from the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError, did_you_mean
from harness.plugin.transfer import ParameterGroup

if TYPE_CHECKING:
    from torch import nn

EVERYTHING_ELSE = ParameterGroup(())
"""How parameters that are in no group of a stage are trained."""


@dataclass(frozen=True, eq=False)
class Trainable:
    """Parameters that are trained alike."""

    group: ParameterGroup
    parameters: dict[str, nn.Parameter]


def find_trainable(
    model: nn.Module,
    freeze: Sequence[str],
    groups: Sequence[ParameterGroup],
    adapted: Collection[str] = (),
) -> list[Trainable]:
    """Sorts the parameters that a stage trains by how it trains them.

    Args:
        model: with the parts `backbone`, `head` and, for datasets fitted alongside, `alongside`.
        freeze: prefixes of names that stay.
        groups: parameters that are trained differently.
        adapted: names of weights that stay, since a low-rank update of them is trained.

    Returns:
        One entry per group with parameters left to train, those in no group first.

    Raises:
        BenchmarkError: a prefix matches nothing, all is frozen, or a parameter is in two groups.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    asked = {"freeze": freeze, **{str(group): group.prefixes for group in groups}}
    for who, prefixes in asked.items():
        for prefix in prefixes:
            if not any(lies_under(name, [prefix]) for name in named):
                parts = {name.rpartition(".")[0] for name in named} | {"backbone", "head"}
                raise BenchmarkError(
                    f"{who}: {prefix!r} matches no trainable parameter."
                    f"{did_you_mean(prefix, parts)}"
                )
    kept = {
        name: p for name, p in named.items() if not lies_under(name, freeze) and name not in adapted
    }
    if not kept and not adapted:
        raise BenchmarkError(
            f"freeze = {list(freeze)} leaves no parameter to train: freeze less in this stage."
        )
    by_group: dict[ParameterGroup, dict[str, nn.Parameter]] = {EVERYTHING_ELSE: {}}
    for name, parameter in kept.items():
        claims = [group for group in groups if lies_under(name, group.prefixes)]
        if len(claims) > 1:
            raise BenchmarkError(
                f"The parameter {name!r} is in two groups of a stage: {claims[0]} and {claims[1]}. "
                "Groups must not overlap."
            )
        by_group.setdefault(claims[0] if claims else EVERYTHING_ELSE, {})[name] = parameter
    return [Trainable(group, parameters) for group, parameters in by_group.items() if parameters]


def lies_under(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a parameter, or a part of a model, is or lies in what one of the prefixes names.

    Layers, `freeze` and groups use prefixes so: `head.layers.1` is no prefix of `head.layers.10`.
    """
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
