"""All parameters of a stack in one buffer, one row per member, and the Adam that moves its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from harness.errors import PluginError

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
        self.values = torch.zeros(members, ends[-1], device=device)
        self.gradients = torch.zeros_like(self.values)
        self._slots = []
        for parameter, start, width in zip(self.parameters, starts, widths, strict=True):
            place = self.values[:, start : start + width].view(parameter.shape)
            place.copy_(parameter.detach())
            parameter.data = place
            self._slots.append(self.gradients[:, start : start + width].view(parameter.shape))

    def differentiate(self, loss: Tensor) -> None:
        """Writes the gradients of a scalar into `gradients`."""
        # Copying what autograd returns is cheaper than letting it accumulate into these views.
        found = torch.autograd.grad(loss, self.parameters, materialize_grads=True)
        for slot, gradient in zip(self._slots, found, strict=True):
            slot.copy_(gradient)

    def release(self) -> None:
        """Gives every parameter storage of its own again."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)


class StackedAdam:
    """Adam (Kingma & Ba 2015, L2 penalty as in `torch.optim.Adam`) with a clock for every member.

    Args:
        flat: the parameters and gradients.
        weight_decay: L2 penalty, per unit of weight.

    Attributes:
        first: running mean of the gradient, `members × size`.
        second: running mean of its square.
        clocks: updates made so far, `members`.
    """

    def __init__(self, flat: FlatParameters, weight_decay: float) -> None:
        self.first = torch.zeros_like(flat.values)
        self.second = torch.zeros_like(flat.values)
        self.clocks = torch.zeros(len(flat.values), device=flat.values.device)
        self._gradients = flat.gradients
        self._rows = [nn.Parameter(row) for row in flat.values]
        self._optimizer = torch.optim.Adam(self._rows, weight_decay=weight_decay, fused=True)
        for member, row in enumerate(self._rows):
            # Handed over rather than left to Adam, so that they lie in one buffer each.
            self._optimizer.state[row] = {
                "step": self.clocks[member],
                "exp_avg": self.first[member],
                "exp_avg_sq": self.second[member],
            }

    def step(self, moving: Sequence[bool], lr: float) -> None:
        """Moves the members marked in `moving`; of the others nothing changes, clock included."""
        for row, gradient, moves in zip(self._rows, self._gradients, moving, strict=True):
            row.grad = gradient if moves else None
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
