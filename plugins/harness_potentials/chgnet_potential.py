"""CHGNet 0.3.0 (Deng et al., Nat. Mach. Intell. 5, 1031, 2023), with the weights in its wheel."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import CannotEncode, Crystal
from harness_potentials.packages import weights_of

if TYPE_CHECKING:
    from harness.plugin import Floats, PretrainedWeights

WIDTH = 64
RELEASE = "0.3.0"
FILE = f"pretrained/{RELEASE}/chgnet_{RELEASE}_e29f68s314m37.pth.tar"

GRAPH_ATOMS = 400
"""Most atoms in one batch: what is held in memory at once goes with it."""


def find_weights() -> PretrainedWeights:
    """Finds the weights.

    Raises:
        PluginError, WeightsError: see `weights_of`.
    """
    return weights_of("chgnet", "chgnet", FILE, f"CHGNet {RELEASE}")


def package_version() -> str:
    """Version of the package, whose code makes the graphs."""
    return version("chgnet")


@cache
def _model() -> Any:
    """Loads the potential; once in each process."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from chgnet.model.model import CHGNet

        model: Any = CHGNet.load(model_name=RELEASE, use_device="cpu", verbose=False)
    model.graph_converter.on_isolated_atoms = "error"
    model.composition_model = None  # in single precision, and the same at every volume
    return model.double().eval()


def embed(crystal: Crystal) -> Floats:
    """Returns the mean of the features of all atoms, `WIDTH` numbers.

    CHGNet's own `crystal_fea` is their sum, which would grow with the cell.

    Raises:
        CannotEncode: an atom has no neighbour.
    """
    cell = crystal.primitive()
    (found,) = _run([cell], return_crystal_feas=True)
    features: Floats = np.asarray(found["crystal_fea"], dtype=np.float64)
    return features / len(cell.species)


def energies(crystals: Sequence[Crystal]) -> Floats:
    """Returns the energy of an atom of each crystal, in eV, but for a constant of its composition.

    Raises:
        CannotEncode: an atom has no neighbour.
        PluginError: CHGNet is not installed.
    """
    find_weights()
    return np.array([float(found["e"]) for found in _run(crystals)], dtype=np.float64)


def _graph(crystal: Crystal) -> Any:
    """Makes a graph in double precision.

    In single precision, rounding changes B′ in the fourth digit, and κ from it.
    """
    import torch

    graph = _model().graph_converter(crystal.to_pymatgen())
    graph.lattice = torch.tensor(crystal.lattice)
    graph.atom_frac_coord = torch.tensor(crystal.frac_coords)
    graph.neighbor_image = graph.neighbor_image.double()
    return graph


def _run(crystals: Sequence[Crystal], **options: bool) -> list[dict[str, Any]]:
    import torch

    model = _model()
    at_once = max(1, GRAPH_ATOMS // max(len(crystal.species) for crystal in crystals))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, of how CHGNet makes tensors
        try:
            graphs = [_graph(crystal) for crystal in crystals]
        except ValueError as problem:
            raise CannotEncode("CHGNet finds an atom without a neighbour within 6 Å") from problem
        found = model.predict_graph(graphs, task="e", batch_size=at_once, **options)
    return found if isinstance(found, list) else [found]
