"""Verification: published weights must give the formation energies of reference crystals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, get_args

import numpy as np
import torch
from torch import Tensor

from harness import Crystal, PretrainedWeights, WeightsError
from harness_megnet.module import Megnet, activate
from harness_megnet.settings import Convention
from harness_megnet.weights import LAST_LAYER, Tensors, fill

if TYPE_CHECKING:
    from harness_megnet.pool import Batch, GraphPool

TOLERANCE = 1e-5
"""Largest deviation from a reference energy, in eV/atom, that counts as equal."""

ENERGY_MEAN, ENERGY_STD = -1.65459073, 1.07266128
"""Formation energy = output · std + mean, in eV/atom (`model.json` beside the weights)."""

REFERENCE = Path(__file__).with_name("data") / "reference.json"


@dataclass(frozen=True)
class Reference:
    """Crystals with the formation energies (eV/atom) that the right weights give."""

    names: tuple[str, ...]
    crystals: tuple[Crystal, ...]
    energies: tuple[float, ...]


def read_reference(name: str) -> Reference:
    """Reads the shipped table of reference crystals.

    Raises:
        WeightsError: there is none for weights of this name.
    """
    table = json.loads(REFERENCE.read_text(encoding="utf-8"))
    if name != table["weights"]:
        raise WeightsError(
            f"Weights {name!r} cannot be verified: reference energies are known for "
            f"{table['weights']!r} only. Set weights to that name."
        )
    return Reference(
        names=tuple(row["name"] for row in table["crystals"]),
        crystals=tuple(
            Crystal(
                lattice=np.array(row["lattice"], np.float64),
                species=tuple(row["species"]),
                frac_coords=np.array(row["frac_coords"], np.float64),
            )
            for row in table["crystals"]
        ),
        energies=tuple(row["energy"] for row in table["crystals"]),
    )


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
    expected = torch.tensor(reference.energies, dtype=torch.float64)
    conventions: tuple[Convention, ...] = get_args(Convention)
    right: dict[Convention, bool] = {}
    report: dict[Convention, str] = {}
    for convention in conventions:
        fill(single, state, convention)
        off = (formation_energy(single, state, batch)[0].double() - expected).abs()
        worst = int(off.nan_to_num(torch.inf).argmax())
        right[convention] = bool((off <= TOLERANCE).all())
        report[convention] = (
            f"{reference.names[worst]} is off by {float(off[worst]):.3g} eV/atom "
            f"(expected {reference.energies[worst]:.5f}, tolerance {TOLERANCE:g})"
        )
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
