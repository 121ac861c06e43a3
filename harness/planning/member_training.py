"""How one member of a stack is trained; members that share a stack may differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.planning.training_settings import TrainingSettings
from harness.plugin.transfer import ParameterGroup


@dataclass(frozen=True)
class MemberTraining:
    """How one member is trained.

    Attributes:
        training: its settings; the members of a stack have one batch size.
        groups: parameters that are trained differently from the others; the members of a stack
            have groups of the same prefixes.
        alongside: weight of the loss of each dataset that is fitted at the same time.
    """

    training: TrainingSettings
    groups: tuple[ParameterGroup, ...] = ()
    alongside: tuple[float, ...] = ()


def batch_size_of(member_trainings: Sequence[MemberTraining]) -> int:
    """Returns the batch size that the members of a stack share."""
    (size,) = {member_training.training.batch_size for member_training in member_trainings}
    return size
