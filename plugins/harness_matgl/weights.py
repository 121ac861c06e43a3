"""Published weights of M3GNet: read strictly, and believed only after verification.

Three traps lie in the published file (`M3GNet-MP-2018.6.1-Eform/state.pt`, matgl, BSD-3). Its keys
carry the prefix `model.`, and those of Set2Set have since been renamed, so that a lenient
`load_state_dict` loads little or nothing and says nothing. And it was trained when matgl added the
message of a bond to the atom the bond *ends* at, while its angles are those at the atom it *starts*
from; matgl ≥ 3 adds it to the latter and computes energies from this file that are wrong by 0.3
eV/atom in the mean. Unlike MEGNet's, these weights cannot be rewritten for that convention, since
the features of the two directions of a bond differ: `messages_into = "destination"` is needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.plugin import Arrays, Crystal, PretrainedWeights, WeightsError, read_tensors
from harness_matgl.graphs import collate
from harness_matgl.networks import M3gnetNetwork, make_m3gnet
from harness_matgl.settings import PUBLISHED, M3gnetSettings

PREFIX = "model."

ENERGY_MEAN, ENERGY_STD = -1.65459073, 1.07266128
"""Formation energy = output · std + mean, in eV/atom (`model.json` beside the weights)."""

TOLERANCE = 1e-5
"""Largest deviation from a reference energy, in eV/atom, that counts as equal."""

REFERENCE = Path(__file__).with_name("data") / "reference.json"


def read(path: Path, settings: M3gnetSettings) -> M3gnetNetwork:
    """Reads a file of tensors and nothing else into a whole network.

    Raises:
        WeightsError: the file is missing or damaged, holds something other than tensors, or not
            exactly the tensors of this network.
    """
    state = read_tensors(path)
    network = make_m3gnet(settings)
    # Constants of the settings, which the file does not hold.
    buffers = {name for name, _ in network.named_buffers()}
    constants = {name: t for name, t in network.state_dict().items() if name in buffers}
    try:
        network.load_state_dict(constants | _translate(state), strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit the architecture, and nothing was loaded: {error}. Fetch the "
            "published file again."
        ) from error
    return network


def _translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts the tensors of the published file under the names, and in the order, of the network.

    A name without the prefix stays as no name of the network, so that it is refused.
    """
    translated = {}
    for key, tensor in state.items():
        name = key.removeprefix(PREFIX) if key.startswith(PREFIX) else f"no {PREFIX} in {key}"
        name = name.replace("readout.set2set.", "readout.")
        # The network takes the atom that is updated first; the file, the one the bond starts from.
        if name.endswith(("node_update_func.layers.0.weight", "node_update_func.gates.0.weight")):
            width = PUBLISHED.node_embedding
            start, end, bond = tensor.tensor_split([width, 2 * width], 1)
            translated[name] = torch.cat([end, start, bond], 1)
        else:
            translated[name] = tensor
    return translated


def verify(
    network: M3gnetNetwork,
    weights: PretrainedWeights,
    encode: Callable[[Crystal], Arrays],
) -> float:
    """Checks that a whole network gives the formation energies of reference crystals.

    Returns:
        The largest deviation, in eV/atom.

    Raises:
        WeightsError: an energy is not what the original code computes from the published weights.
    """
    rows = json.loads(REFERENCE.read_text(encoding="utf-8"))["crystals"]
    found = formation_energy(network, [encode(_crystal(row)) for row in rows])
    expected = torch.tensor([row["energy"] for row in rows], dtype=torch.float64)
    off = (found - expected).abs().nan_to_num(torch.inf)
    worst = int(off.argmax())
    if off[worst] > TOLERANCE:
        raise WeightsError(
            f"{weights.path}: verification failed: {rows[worst]['name']} is off by "
            f"{float(off[worst]):.3g} eV/atom (expected {rows[worst]['energy']:.5f}, tolerance "
            f"{TOLERANCE:g}). These are not the published weights {weights.name!r}, or the file "
            "is damaged: fetch it again."
        )
    return float(off[worst])


def formation_energy(network: M3gnetNetwork, encodings: Sequence[Arrays]) -> Tensor:
    """Returns formation energies in eV/atom, one per crystal, of a network with its last layers."""
    with torch.no_grad():
        output: Tensor = network(collate(encodings))
    return output.squeeze(-1).double() * ENERGY_STD + ENERGY_MEAN


def _crystal(row: Mapping[str, Any]) -> Crystal:
    return Crystal(
        lattice=np.array(row["lattice"], np.float64),
        species=tuple(row["species"]),
        frac_coords=np.array(row["frac_coords"], np.float64),
    )
