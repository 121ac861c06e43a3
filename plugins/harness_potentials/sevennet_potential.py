"""SevenNet-0 (Park et al., J. Chem. Theory Comput. 20, 4857, 2024), with its wheel's weights."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import Crystal
from harness_potentials.packages import weights_of

if TYPE_CHECKING:
    from harness.plugin import Floats, PretrainedWeights

WIDTH = 128
FILE = "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"

LAST_LAYER = "reduce_input_to_hidden"
"""Takes the 128 scalars of every atom to its energy: what goes into it is the embedding."""


def find_weights() -> PretrainedWeights:
    """Finds the weights.

    Raises:
        PluginError, WeightsError: see `weights_of`.
    """
    return weights_of("sevenn", "sevenn", FILE, "SevenNet-0 (11 July 2024)")


def package_version() -> str:
    """Version of the package, whose code makes the graphs."""
    return version("sevenn")


class _Model:
    """The potential, and what last went into its last layer."""

    def __init__(self) -> None:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            from sevenn.util import model_from_checkpoint

            model: Any
            model, settings = model_from_checkpoint(str(find_weights().path / FILE))
        self.cutoff_angstrom = float(settings["cutoff"])
        del model.force_output  # derivatives of the energy, which nobody asks for
        model.set_is_batch_data(False)
        self.model = model.eval()
        self.features: Any = None
        getattr(model, LAST_LAYER).register_forward_pre_hook(self._keep)

    def _keep(self, module: Any, inputs: Any) -> None:
        self.features = inputs[0]["x"]


@cache
def _model() -> _Model:
    """Loads the potential; once in each process."""
    return _Model()


def embed(crystal: Crystal) -> Floats:
    """Returns the mean of the features of all atoms, `WIDTH` numbers."""
    import torch

    potential = _model()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        from sevenn.atom_graph_data import AtomGraphData
        from sevenn.train.dataload import unlabeled_atoms_to_graph

        atoms = crystal.primitive().to_pymatgen().to_ase_atoms()
        graph = unlabeled_atoms_to_graph(atoms, potential.cutoff_angstrom, with_shift=False)
        potential.model(AtomGraphData.from_numpy_dict(graph))
    return np.asarray(potential.features.double().mean(dim=0).numpy())
