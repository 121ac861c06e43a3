"""Published weights for `megnet-dgl`: checked strictly, put into a stack, and verified.

A stack of `Stacked` keeps its parameters under `model.`, and so does the published file:
the names are the same, and no tensor is turned or swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.plugin import PretrainedWeights, WeightsError
from harness_megnet.dgl_model import ShiftedSoftplus
from harness_megnet.reference import ENERGY_MEAN, ENERGY_STD, TOLERANCE, Reference
from harness_megnet.weights import CENTRES, LAST_LAYER, check_centres, check_shapes

Tensors = Mapping[str, Tensor]


def check(state: Tensors, module: nn.Module, path: Path) -> None:
    """Refuses a file that does not hold exactly the tensors of this architecture.

    Raises:
        WeightsError: says which keys are missing, unexpected or of another shape.
    """
    centres = module.get_buffer("model.centres")
    shapes = {name: tuple(p.shape[1:]) for name, p in module.named_parameters()}
    shapes[f"{LAST_LAYER}.weight"] = (1, shapes["model.output_proj.layers.2.bias"][0])
    shapes[f"{LAST_LAYER}.bias"] = (1,)
    shapes[CENTRES] = tuple(centres.shape)
    check_shapes(state, shapes, path)
    check_centres(state, centres, path)


def fill(module: nn.Module, state: Tensors) -> None:
    """Copies checked tensors into every member of a module."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(state[name].expand_as(parameter))


def verify(
    single: nn.Module, state: Tensors, weights: PretrainedWeights, reference: Reference, batch: Any
) -> float:
    """Checks that these weights give the energies of the reference crystals.

    Args:
        single: a stack of one, filled with the weights.
        state: the same weights, for the last layer.
        weights: where they came from.
        reference: crystals whose energies are known for these weights.
        batch: those crystals, in order.

    Returns:
        The largest deviation, in eV/atom.

    Raises:
        WeightsError: an energy is not what the original code computes from the published weights.
    """
    off, report = reference.compare(formation_energy(single, state, batch)[0])
    if off > TOLERANCE:
        raise WeightsError(
            f"{weights.path}: verification failed: {report}. These are not the published weights "
            f"{weights.name!r}, or the file is damaged: fetch it again. (Or cutoff, expansion or "
            "readout were set to other values than the published ones; or it was rewritten for "
            "messages averaged into the source node, which 'megnet' can convert and this cannot.)"
        )
    return off


def formation_energy(module: nn.Module, state: Tensors, batch: Any) -> Tensor:
    """Returns formation energies in eV/atom, `members × batch`.

    Args:
        module: filled with published weights.
        state: the same weights, for the last layer, which the module does not have.
        batch: crystals.
    """
    with torch.no_grad():
        hidden = ShiftedSoftplus()(module(batch))
        output = nn.functional.linear(
            hidden, state[f"{LAST_LAYER}.weight"], state[f"{LAST_LAYER}.bias"]
        )
    return output.squeeze(-1) * ENERGY_STD + ENERGY_MEAN
