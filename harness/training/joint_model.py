"""The models of several stages side by side, as one of all their members, and apart again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@torch.no_grad()
def join(whole: nn.Module, parts: Sequence[nn.Module]) -> bool:
    """Puts the weights of models into one of all their members.

    Args:
        whole: is changed.
        parts: of the members in order; what is no parameter is shared by all members.

    Returns:
        Whether that can be; not where the parts differ in what is shared, or where something has a
        members axis that is no parameter.
    """
    shared = [_constants(part) for part in parts]
    for name, constant in _constants(whole).items():
        if not all(torch.equal(shared[0][name], own[name]) for own in shared[1:]):
            return False
        if constant.shape != shared[0][name].shape:
            return False
    whole.load_state_dict(shared[0], strict=False)
    for parameter, *own in _side_by_side(whole, parts):
        torch.cat(own, out=parameter.data)
    return True


@torch.no_grad()
def separate(whole: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Gives the models that were joined what their members' weights have become."""
    for parameter, *own in _side_by_side(whole, parts):
        for part, weights in zip(own, parameter.split([len(one) for one in own]), strict=True):
            part.copy_(weights)


def _side_by_side(whole: nn.Module, parts: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yields every parameter: of the whole, then of each part."""
    for name, parameter in whole.named_parameters():
        yield [parameter, *(part.get_parameter(name) for part in parts)]


def _constants(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model that its members share."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: own for name, own in model.state_dict().items() if name not in parameters}
