"""Makes the modules of a model, and holds what they put out to the shapes of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from harness.registry.plugin_calls import Breach, call

if TYPE_CHECKING:
    from harness.planning.resolved import ResolvedModel


def build_backbone(model: ResolvedModel, generators: Sequence[torch.Generator]) -> nn.Module:
    """Makes the stacked backbone, one member per generator.

    Raises:
        PluginError: what the backbone returned is no module. So does its `forward`, where it does
            not return floating-point numbers, `members × batch × width`.
    """
    action = f"building the backbone {model.backbone_ref.name!r}"
    module: nn.Module = call(model.backbone.build, generators, action=action, returns=nn.Module)
    members, width = len(generators), model.backbone.width

    def check(module: nn.Module, batch: Any, output: Any) -> None:
        shape = _shape(output)
        if len(shape) != 3 or (shape[0], shape[2]) != (members, width) or not _is_real(output):
            _refuse(module, output, f"embeddings, {members} members × batch × width {width}")

    module.register_forward_hook(check)
    return module


def build_head(model: ResolvedModel, generators: Sequence[torch.Generator]) -> nn.Module:
    """Makes a stacked head that is trained by gradient, one member per generator.

    Raises:
        PluginError: what the head returned is no module. So does its `forward`, where it does not
            return floating-point numbers, `members × batch`.
    """
    assert model.head.make is not None
    module: nn.Module = call(
        model.head.make,
        model.head_settings,
        model.backbone.width,
        generators,
        action=f"making the head {model.head_ref.name!r}",
        returns=nn.Module,
    )

    def check(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        members, batch, _ = inputs[0].shape
        if _shape(output) != (members, batch) or not _is_real(output):
            _refuse(module, output, f"scaled targets, {members} members × batch {batch}")

    module.register_forward_hook(check)
    return module


@lru_cache(maxsize=1)
def skeleton(model: ResolvedModel) -> nn.ModuleDict:
    """A model of one member, whose parameters have the names that strategies speak of.

    The last one is kept: a table asks every strategy on every target about one after the other.
    """
    generators = [torch.Generator()]
    head = build_head(model, generators)
    return nn.ModuleDict({"backbone": build_backbone(model, generators), "head": head})


def state_of_members(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], part: str, members: Sequence[int]
) -> dict[str, torch.Tensor]:
    """Returns what belongs to some members of a stack, for a module of so many.

    Args:
        module: of as many members; its parameters are those with a members axis, while its buffers
            belong to all members.
        tensors: of the whole stack.
        part: `backbone` or `head`, with which the names of the part's tensors begin.
        members: positions in the stack.
    """
    prefix = f"{part}."
    whole = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    stacked = {name for name, _ in module.named_parameters()}
    return {k: t[list(members)] if k in stacked else t for k, t in whole.items()}


def _shape(output: Any) -> tuple[int, ...]:
    return tuple(output.shape) if isinstance(output, torch.Tensor) else ()


def _is_real(output: torch.Tensor) -> bool:
    return output.is_floating_point()


def _refuse(module: nn.Module, output: Any, expected: str) -> None:
    name = type(module).__name__
    given = type(output).__name__
    if shape := _shape(output):
        given = f"shape {shape}" if _is_real(output) else f"shape {shape} of {output.dtype}"
    raise Breach(
        module.forward,
        f"{name}.forward must return {expected}, in floating-point numbers, but returned {given}.",
    )
