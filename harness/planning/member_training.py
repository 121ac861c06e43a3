"""How one member of a stack is trained; members that share a stack may differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.planning.training_settings import Loss, TrainingSettings
from harness.plugin.transfer import ParameterGroup


@dataclass(frozen=True)
class MemberTraining:
    """How one member is trained.

    Attributes:
        training: its settings; the members of a stack have one batch size.
        groups: parameters that are trained differently from the others; the members of a stack
            have groups of the same prefixes.
        alongside: weight of the loss of each dataset that is fitted at the same time.
        alongside_losses: the loss of each; none where it is that of the settings.
    """

    training: TrainingSettings
    groups: tuple[ParameterGroup, ...] = ()
    alongside: tuple[float, ...] = ()
    alongside_losses: tuple[Loss | None, ...] = ()

    def loss_of(self, number: int) -> Loss:
        """Returns the loss of one of the datasets that are fitted: 0 is the stage's own."""
        own = self.alongside_losses[number - 1] if number and self.alongside_losses else None
        loss = own or self.training.loss
        assert loss is not None, "the planner gives every stage a loss"
        return loss


def batch_size_of(member_trainings: Sequence[MemberTraining]) -> int:
    """Returns the batch size that the members of a stack share."""
    (size,) = {member_training.training.batch_size for member_training in member_trainings}
    return size
