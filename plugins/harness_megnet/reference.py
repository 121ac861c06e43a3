"""The shipped table of reference crystals: what energies the published weights must give."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.plugin import Crystal, WeightsError

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

    def compare(self, found: Tensor) -> tuple[float, str]:
        """Returns the largest deviation of energies (eV/atom), and words for where it lies.

        Args:
            found: one energy per crystal, in eV/atom; one that is not a number is infinitely off.
        """
        expected = torch.tensor(self.energies, dtype=torch.float64)
        off = (found.double().cpu() - expected).abs().nan_to_num(torch.inf)
        worst = int(off.argmax())
        return float(off[worst]), (
            f"{self.names[worst]} is off by {float(off[worst]):.3g} eV/atom "
            f"(expected {self.energies[worst]:.5f}, tolerance {TOLERANCE:g})"
        )


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
