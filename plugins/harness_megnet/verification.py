"""Verification: published weights must give the formation energies of reference crystals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor

from harness.plugin import PretrainedWeights, WeightsError
from harness_megnet.module import Megnet, activate
from harness_megnet.reference import ENERGY_MEAN, ENERGY_STD, TOLERANCE, Reference
from harness_megnet.settings import Convention
from harness_megnet.weights import LAST_LAYER, Tensors, fill

if TYPE_CHECKING:
    from harness_megnet.pool import Batch, GraphPool


def formation_energy(module: Megnet, state: Tensors, batch: Batch) -> Tensor:
    """Returns formation energies in eV/atom, `members × batch`.

    Args:
        module: filled with published weights.
        state: the same weights, for the last layer, which the module does not have.
        batch: crystals.
    """
    weight, bias = (state[f"{LAST_LAYER}.{kind}"] for kind in ("weight", "bias"))
    with torch.no_grad():
        output = activate(module(batch)) @ weight.to(module.centres.device).t()
        return (output.squeeze(-1) + bias.to(output.device)) * ENERGY_STD + ENERGY_MEAN


def verify(
    single: Megnet,
    state: Tensors,
    weights: PretrainedWeights,
    reference: Reference,
    pool: GraphPool,
    declared: Convention | Literal["auto"],
) -> Convention:
    """Finds the convention of these weights and checks that they give the reference energies.

    Args:
        single: a stack of one, used for the computation and overwritten.
        state: checked tensors.
        weights: where they came from.
        reference: crystals whose energies are known for these weights.
        pool: the encodings of those crystals, in order.
        declared: the convention of the settings; `auto` allows every one.

    Returns:
        The convention under which every reference energy comes out right.

    Raises:
        WeightsError: none of the allowed conventions does.
    """
    batch = pool.batch(np.arange(len(pool))[None])
    conventions: tuple[Convention, ...] = get_args(Convention)
    right: dict[Convention, bool] = {}
    report: dict[Convention, str] = {}
    for convention in conventions:
        fill(single, state, convention)
        off, report[convention] = reference.compare(formation_energy(single, state, batch)[0])
        right[convention] = off <= TOLERANCE
    for convention in conventions:
        if right[convention] and declared in (convention, "auto"):
            return convention
    _refuse(weights, declared, right, report)


def _refuse(
    weights: PretrainedWeights,
    declared: str,
    right: Mapping[Convention, bool],
    report: Mapping[Convention, str],
) -> NoReturn:
    other = next((convention for convention, passed in right.items() if passed), None)
    failures = {name: text for name, text in report.items() if declared in (name, "auto")}
    found = "; ".join(f"with convention = {name!r}, {text}" for name, text in failures.items())
    if other is not None:
        raise WeightsError(
            f"{weights.path}: verification failed {found}. All reference energies come out right "
            f"with convention = {other!r}: set that, or 'auto'."
        )
    raise WeightsError(
        f"{weights.path}: verification failed under both conventions: {found}. These are not the "
        f"published weights {weights.name!r}, or the file is damaged: fetch it again. (Or cutoff, "
        "expansion or readout were set to other values than the published ones.)"
    )
