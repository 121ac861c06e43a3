"""CHGNet as a backbone that is trained: from its published weights, or from random ones.

Atoms become a crystal by their mean, as in the backbone `chgnet`; the last layers, which make
energies and magnetic moments of atoms, are left out, and so is the last update of angles, which
nothing reads.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.plugin import (
    Arrays,
    CannotEncode,
    Crystal,
    Locations,
    PretrainedWeights,
    Settings,
    Stacked,
    WeightsError,
)
from harness_potentials.chgnet_potential import FILE, WIDTH, find_weights, package_version
from harness_potentials.packages import ELEMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray


CUTOFF_ANGSTROM = 6.0
ANGLE_CUTOFF_ANGSTROM = 3.0
BLOCKS = 4

TOLERANCE = 1e-4
"""Largest deviation from a reference energy, in eV/atom, that counts as equal: single precision."""

_FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])

REFERENCE = {
    ("Si", "Si", 5.431, 0.25): -5.312294,
    ("Ga", "As", 5.653, 0.25): -4.059151,
    ("Na", "Cl", 5.640, 0.5): -3.666430,
    ("Mg", "O", 4.212, 0.5): -6.310561,
}
"""Energies in eV/atom that CHGNet 0.3.0 gives in its own package (chgnet 0.4.2, `CHGNet.load()`):
of two atoms in a face-centred cubic cell of that lattice constant, the second at that place along
the diagonal."""

FIELDS = (
    "atomic_number",
    "atom_frac_coord",
    "atom_graph",
    "neighbor_image",
    "directed2undirected",
    "undirected2directed",
    "bond_graph",
    "lattice",
)
"""What CHGNet's networks read of a graph of theirs."""


class TrainedChgnet(Stacked):
    """CHGNet without its last layers, in a stack."""

    cutoff_angstrom = CUTOFF_ANGSTROM

    def __init__(self, settings: Settings) -> None:
        """Loads nothing yet.

        Raises:
            PluginError: CHGNet is not installed.
        """
        find_weights()
        blocks = [
            (f"network.atom_conv_layers.{i}", f"network.bond_conv_layers.{i}") for i in range(3)
        ]
        super().__init__(
            _Network,
            encode=encode,
            collate=collate,
            width=WIDTH,
            elements=ELEMENTS,
            encoding=f"chgnet-trained-1 {package_version()}",
            layers=(
                (
                    "network.atom_embedding",
                    "network.bond_basis_expansion",
                    "network.bond_embedding",
                    "network.bond_weights_ag",
                    "network.bond_weights_bg",
                    "network.angle_basis_expansion",
                    "network.angle_embedding",
                ),
                (*blocks[0], "network.angle_layers.0"),
                (*blocks[1], "network.angle_layers.1"),
                blocks[2],
                ("network.atom_conv_layers.3", "network.readout_norm"),
            ),
        )

    def find_pretrained(self, locations: Locations) -> PretrainedWeights:
        """Finds the weights in CHGNet's wheel.

        Raises:
            WeightsError: they are not in it.
        """
        return find_weights()

    def load_pretrained(self, module: nn.Module, weights: PretrainedWeights) -> dict[str, Any]:
        """Copies the weights into every member, once they are verified.

        Returns:
            `tensors`, how many were transferred, and `largest_deviation_ev_per_atom` from the
            reference energies.

        Raises:
            WeightsError: the file does not fit the architecture, or the verification failed.
        """
        potential = _published(weights)
        deviation = _verify(potential, weights)
        names = [name for name, _ in module.named_parameters()]
        with torch.no_grad():
            for name in names:
                own = potential.get_parameter(name.removeprefix("model.network."))
                module.get_parameter(name).copy_(own)
        return {"tensors": len(names), "largest_deviation_ev_per_atom": deviation}


class _Network(nn.Module):
    """CHGNet up to the mean of its atoms' features, with random weights."""

    def __init__(self) -> None:
        super().__init__()
        network = _quietly_made()
        network.composition_model = None
        network.mlp = nn.Identity()
        network.site_wise = nn.Identity()
        network.angle_layers[BLOCKS - 2] = None
        network.is_intensive = False  # of energies, which are none
        self.network = network

    def forward(self, graphs: Sequence[Any]) -> Tensor:
        """Takes graphs of CHGNet to crystals × `WIDTH`."""
        found = self.network(graphs, task="e", return_crystal_feas=True)
        means: Tensor = found["crystal_fea"] / found["atoms_per_graph"].unsqueeze(1)
        return means


def _quietly_made(**arguments: Any) -> Any:
    """Makes a CHGNet of the architecture of 0.3.0; the package tells standard output of it."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from chgnet.model.model import CHGNet

        return CHGNet(**arguments or {"composition_model": None})


def _published(weights: PretrainedWeights) -> Any:
    """Reads the whole potential: tensors and plain settings, no code.

    Raises:
        WeightsError: the file is none of CHGNet, or holds other tensors than the architecture has.
    """
    path = weights.path / FILE
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)["model"]
        potential = _quietly_made(**stored["model_args"])
        potential.load_state_dict(stored["state_dict"], strict=True)
    except Exception as error:  # torch's readers raise many kinds
        raise WeightsError(
            f"{path} cannot be read as {weights.name} ({type(error).__name__}: {error}): install "
            "chgnet anew, in the version of constraints.txt."
        ) from error
    return potential.eval()


def _verify(potential: Any, weights: PretrainedWeights) -> float:
    """Checks that a whole potential gives its own energies of the reference crystals.

    Returns:
        The largest deviation, in eV/atom.

    Raises:
        WeightsError: an energy is another one.
    """
    crystals = [
        Crystal(a * _FCC, (first, second), np.array([[0.0] * 3, [place] * 3]))
        for first, second, a, place in REFERENCE
    ]
    with torch.no_grad():
        found = potential(collate([encode(crystal) for crystal in crystals]), task="e")["e"]
    off = (found.double() - torch.tensor(list(REFERENCE.values()), dtype=torch.float64)).abs()
    deviation = float(off.nan_to_num(torch.inf).max())
    if deviation > TOLERANCE:
        raise WeightsError(
            f"{weights.path / FILE}: verification failed: an energy is off by {deviation:.3g} "
            f"eV/atom (tolerance {TOLERANCE:g}). Install chgnet anew, in the version of "
            "constraints.txt."
        )
    return deviation


@cache
def _converter() -> Any:
    """CHGNet's maker of graphs; one in each process."""
    from chgnet.graph.converter import CrystalGraphConverter

    return CrystalGraphConverter(
        atom_graph_cutoff=CUTOFF_ANGSTROM,
        bond_graph_cutoff=ANGLE_CUTOFF_ANGSTROM,
        on_isolated_atoms="error",
        verbose=False,
    )


def encode(crystal: Crystal) -> dict[str, NDArray[Any]]:
    """Turns the primitive cell of a crystal into `FIELDS` of its graph.

    Raises:
        CannotEncode: an atom has no neighbour.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of how CHGNet makes tensors
        try:
            graph = _converter()(crystal.primitive().to_pymatgen())
        except ValueError as problem:
            raise CannotEncode("CHGNet finds an atom without a neighbour within 6 Å") from problem
    return {name: getattr(graph, name).detach().numpy() for name in FIELDS}


def collate(encodings: Sequence[Arrays]) -> list[Any]:
    """Makes graphs of CHGNet again, which its networks put side by side themselves."""
    from chgnet.graph.crystalgraph import CrystalGraph

    cutoffs = {"atom_graph_cutoff": CUTOFF_ANGSTROM, "bond_graph_cutoff": ANGLE_CUTOFF_ANGSTROM}
    graphs: list[dict[str, Any]] = [
        cutoffs | {name: torch.tensor(encoding[name]) for name in FIELDS} for encoding in encodings
    ]
    return [CrystalGraph(**graph) for graph in graphs]
