"""How many numbers of a model a stage trains, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from torch import Generator, nn

from harness.planning.adapted_weights import find_adapted
from harness.planning.plugin_modules import build_head, skeleton
from harness.planning.trainable import find_trainable

if TYPE_CHECKING:
    from harness.planning.plan import StageNode


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of one member.

    Attributes:
        trained: those that a stage trains, the factors of low-rank updates among them.
        whole: those that backbone and heads have.
    """

    trained: int
    whole: int


def count_parameters(stages: Iterable[StageNode]) -> dict[str, ParameterCount]:
    """Counts the parameters of stages that train by gradient, by key.

    A model is made once for all stages of it, and of one member, so that this takes a moment.

    Raises:
        HarnessError: a model cannot be made, or a stage does not fit it.
    """
    by_gradient = sorted((s for s in stages if not s.closed_form), key=lambda s: id(s.model))
    return {
        stage.key: _count(stage)
        for _, of_model in groupby(by_gradient, key=lambda s: id(s.model))
        for stage in of_model
    }


def _count(stage: StageNode) -> ParameterCount:
    model = skeleton(stage.model)
    if stage.alongside:
        heads = [build_head(stage.model, [Generator()]) for _ in stage.alongside]
        model = nn.ModuleDict({**model, "alongside": nn.ModuleList(heads)})
    adapted = find_adapted(model, stage.adapters)
    groups = stage.member_trainings[0].groups
    parts = find_trainable(model, stage.freeze, groups, adapted)
    moving = [p.numel() for part in parts for p in part.parameters.values()]
    factors = [own.rank * sum(own.weight.shape[1:]) for own in adapted.values()]
    whole = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return ParameterCount(sum(moving) + sum(factors), whole)
