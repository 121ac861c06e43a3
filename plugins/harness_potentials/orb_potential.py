"""ORB (Neumann et al., arXiv 2410.22570; Rhodes et al., arXiv 2504.06231), from a file of tensors.

ORB is not made to be invariant. Crystals are written as primitive cells in spglib's setting first,
which settles most of what a cell may be written as, but not all: zinc blende may come out turned by
90°. Where a model sees the nearest 20 atoms only, rounding decides between those equally far. So no
invariance is declared.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Crystal, WeightsError
from harness_potentials.weight_files import default_dtype, read_file

if TYPE_CHECKING:
    from harness.plugin import Floats, Invariance, PretrainedWeights
    from harness_potentials.settings import OrbSettings

PACKAGE, EXTRA = "orb-models", "orb"


class Orb:
    """The potential in single precision."""

    invariances: tuple[Invariance, ...] = ()

    def __init__(self, weights: PretrainedWeights, settings: OrbSettings) -> None:
        """Reads the file.

        Raises:
            WeightsError: it is not trusted, or does not hold the tensors of that model.
        """
        import torch

        state = read_file(weights, settings.trust)
        with warnings.catch_warnings(), default_dtype(torch.float32):
            warnings.simplefilter("ignore")
            from orb_models.forcefield.pretrained import ORB_PRETRAINED_MODELS

            if settings.model not in ORB_PRETRAINED_MODELS:
                raise WeightsError(
                    f"Set `model` to the model of ORB that {weights.path.name} was published for, "
                    f"not {settings.model!r}. There are: {', '.join(ORB_PRETRAINED_MODELS)}."
                )
            try:
                model = ORB_PRETRAINED_MODELS[settings.model](
                    weights_path=str(weights.path), device="cpu", compile=False
                )
            except Exception as error:  # whatever is wrong with the tensors
                raise _unlike(weights, settings.model, str(error)) from error
        # ORB's own loading leaves heads random that the file does not hold, and says nothing.
        prefixes = ("heads.energy.", "graph_head.")
        if not any(name.startswith(prefixes) for name in state):
            raise _unlike(weights, settings.model, "it has no head for energies")
        self._model: Any = model.eval()
        self.variant = settings.model
        system = model.system_config
        self.cutoff_angstrom = float(system.radius)
        self.elements = tuple(SYMBOLS[:117])
        self.width = int(next(model.heads["energy"].parameters()).shape[-1])

    def embed(self, crystal: Crystal) -> Floats:
        """Returns the mean over atoms of the features of the last layer, `width` numbers."""
        import torch

        with torch.no_grad():
            features = self._model.model(self._graph(crystal.primitive()))["node_features"]
        return np.asarray(features.double().mean(dim=0).numpy())

    def energies(self, crystals: Sequence[Crystal]) -> Floats:
        """Returns the energy of an atom of each crystal, in eV."""
        found = [self._model.predict(self._graph(crystal))["energy"] for crystal in crystals]
        atoms = [len(crystal.species) for crystal in crystals]
        return np.array([float(energy.detach()) for energy in found]) / atoms

    def _graph(self, crystal: Crystal) -> Any:
        import torch

        with warnings.catch_warnings(), default_dtype(torch.float32):
            warnings.simplefilter("ignore")
            from orb_models.forcefield.atomic_system import ase_atoms_to_atom_graphs

            atoms = crystal.to_pymatgen().to_ase_atoms()
            return ase_atoms_to_atom_graphs(
                atoms, self._model.system_config, device=torch.device("cpu")
            )


def _unlike(weights: PretrainedWeights, model: str, why: str) -> WeightsError:
    return WeightsError(
        f"{weights.path} does not hold the tensors of {model!r}: {why}. Set `model` to the one "
        "that the file was published for."
    )
