"""All parameters of a stack in one buffer, one row per member, and the Adam that moves its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.errors import PluginError
from harness.plugin.transfer import ParameterGroup

if TYPE_CHECKING:
    from harness.training.low_rank_updates import LowRankUpdates

_ALIGNMENT = 16
"""Parameters begin at multiples of 64 bytes, so that kernels treat every member's row alike."""


class FlatParameters:
    """Parameters of a stacked module as views of one buffer.

    Args:
        parameters: by name, each with a leading members axis.
        members: its length.

    Attributes:
        values: `members × size`, float32; row k holds every parameter of member k.
        gradients: their gradients, as last gathered.

    Raises:
        PluginError: a parameter has no leading members axis, or is not float32.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], members: int) -> None:
        for name, parameter in parameters.items():
            if parameter.shape[:1] != (members,) or parameter.dtype != torch.float32:
                raise PluginError(
                    f"Parameter {name!r} is {parameter.dtype} of shape {tuple(parameter.shape)}; "
                    f"a stacked module's parameters are float32 and begin with the members axis "
                    f"({members}). Build them with StackedLinear, or wrap the module in Stacked."
                )
        self.parameters = list(parameters.values())
        widths = [parameter[0].numel() for parameter in self.parameters]
        ends = torch.tensor([-(-w // _ALIGNMENT) * _ALIGNMENT for w in widths]).cumsum(0).tolist()
        starts = [0, *ends[:-1]]
        device = self.parameters[0].device
        self._columns = {
            name: slice(start, end)
            for name, start, end in zip(parameters, starts, ends, strict=True)
        }
        self.values = torch.zeros(members, ends[-1], device=device)
        self.gradients = torch.zeros_like(self.values)
        self._slots = []
        for parameter, start, width in zip(self.parameters, starts, widths, strict=True):
            place = self.values[:, start : start + width].view(parameter.shape)
            place.copy_(parameter.detach())
            parameter.data = place
            self._slots.append(self.gradients[:, start : start + width].view(parameter.shape))

    def differentiate(self, loss: Tensor, updates: LowRankUpdates | None = None) -> list[str]:
        """Writes the gradients of a scalar into `gradients`.

        Args:
            loss: the scalar.
            updates: whose factors the last of the parameters are, if any are.

        Returns:
            The names of the parameters that it depends on; the others have no gradient, 0.
        """
        if not loss.requires_grad:
            self.gradients.zero_()
            return []
        # Copying what autograd returns is cheaper than letting it accumulate into these views.
        found: Sequence[Tensor | None]
        if updates is None:
            found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        else:
            own = self.parameters[: -len(updates.parameters)]
            found = torch.autograd.grad(loss, [*own, *updates.weights], allow_unused=True)
            found = [*found[: len(own)], *updates.gradients(found[len(own) :])]
        reached = []
        for name, slot, gradient in zip(self._columns, self._slots, found, strict=True):
            if gradient is None:
                slot.zero_()
            else:
                slot.copy_(gradient)
                reached.append(name)
        return reached

    def columns(self, names: Iterable[str]) -> slice:
        """The part of the buffer that holds these parameters, which were given in one run."""
        own = [self._columns[name] for name in names]
        return slice(own[0].start, own[-1].stop)

    def release(self) -> None:
        """Gives every parameter storage of its own again."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Segment:
    """Columns of the buffer whose parameters are trained alike.

    Attributes:
        columns: of the buffer.
        groups: one per member, of the same parameters.
    """

    columns: slice
    groups: Sequence[ParameterGroup]


class StackedAdam:
    """Adam (Kingma & Ba 2015, L2 penalty as in `torch.optim.Adam`), a clock for every member.

    Args:
        flat: the parameters and gradients; its values now are those that `pull` pulls towards.
        weight_decay: L2 penalty, per unit of weight; one per member.
        segments: together all columns of the buffer; one for everything unless given.

    Attributes:
        first: running mean of the gradient, `members × size`.
        second: running mean of its square.
        clocks: updates made so far, `members × segments`.
        start: the values that `pull` pulls towards, `members × size`.
    """

    def __init__(
        self,
        flat: FlatParameters,
        weight_decay: Sequence[float],
        segments: Sequence[Segment] = (),
    ) -> None:
        members, size = flat.values.shape
        everything = Segment(slice(0, size), [ParameterGroup(())] * members)
        self._segments = segments or (everything,)
        self.first = torch.zeros_like(flat.values)
        self.second = torch.zeros_like(flat.values)
        self.clocks = torch.zeros(members, len(self._segments), device=flat.values.device)
        self._flat = flat
        pulls = any(group.pull for segment in self._segments for group in segment.groups)
        self.start = flat.values.clone() if pulls else flat.values
        rows = {
            (number, member): nn.Parameter(flat.values[member, segment.columns])
            for number, segment in enumerate(self._segments)
            for member in range(members)
        }
        self._optimizer = torch.optim.Adam(
            [
                {"params": [row], "weight_decay": weight_decay[member]}
                for (_, member), row in rows.items()
            ],
            fused=True,
        )
        for (number, member), row in rows.items():
            columns = self._segments[number].columns
            # Handed over rather than left to Adam, so that they lie in one buffer each.
            self._optimizer.state[row] = {
                "step": self.clocks[member, number],
                "exp_avg": self.first[member, columns],
                "exp_avg_sq": self.second[member, columns],
            }
        self._rows = list(zip(rows.items(), self._optimizer.param_groups, strict=True))

    def rest(self, done: Sequence[float]) -> None:
        """Clears the gradients of parameters that are still asleep.

        Args:
            done: share of each member's epochs that is finished.
        """
        for segment in self._segments:
            for member, group in enumerate(segment.groups):
                if done[member] < group.asleep_for:
                    self._flat.gradients[member, segment.columns] = 0.0

    def step(
        self, moving: Sequence[bool], lr: Sequence[float], done: Sequence[float] | None = None
    ) -> None:
        """Moves the members marked in `moving`; of the others nothing changes, clock included.

        Args:
            moving: one per member.
            lr: learning rate of each member, before the factors of groups.
            done: share of each member's epochs that is finished, which says what is still asleep;
                nothing is unless given.
        """
        for ((number, member), row), adam in self._rows:
            segment = self._segments[number]
            group = segment.groups[member]
            gradient = self._flat.gradients[member, segment.columns]
            awake = done is None or done[member] >= group.asleep_for
            if group.pull and awake:
                away = (self._flat.values[member] - self.start[member])[segment.columns]
                gradient.add_(away, alpha=group.pull)
            row.grad = gradient if moving[member] and awake else None
            adam["lr"] = lr[member] * group.lr_factor
        self._optimizer.step()
