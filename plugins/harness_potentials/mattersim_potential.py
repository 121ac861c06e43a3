"""MatterSim (Yang et al., arXiv 2405.04967), an M3GNet, from a file that its package has saved."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Crystal, WeightsError
from harness_potentials.weight_files import default_dtype, read_file

if TYPE_CHECKING:
    from harness.plugin import Floats, Invariance, PretrainedWeights
    from harness_potentials.settings import FileSettings

PACKAGE, EXTRA = "mattersim", "mattersim"


class Mattersim:
    """The potential in single precision, which its code insists on."""

    variant = ""
    invariances: tuple[Invariance, ...] = ("permutation", "supercell", "motion")

    def __init__(self, weights: PretrainedWeights, settings: FileSettings) -> None:
        """Reads the file.

        Raises:
            WeightsError: it is not trusted, or holds no M3GNet of MatterSim.
        """
        import torch

        stored = read_file(weights, settings.trust)
        if not (isinstance(stored, Mapping) and {"model", "model_args"} <= set(stored)):
            raise WeightsError(f"{weights.path} holds no model as `Potential.save` writes it.")
        with warnings.catch_warnings(), default_dtype(torch.float32):
            warnings.simplefilter("ignore")
            from mattersim.datasets.utils.convertor import GraphConvertor
            from mattersim.forcefield.m3gnet.m3gnet import M3Gnet

            try:
                model = M3Gnet(device="cpu", **stored["model_args"])
                model.load_state_dict(stored["model"], strict=True)
            except (RuntimeError, TypeError) as error:
                raise WeightsError(
                    f"{weights.path} does not fit MatterSim's network, and nothing was loaded: "
                    f"{error}."
                ) from error
        self._model = model.eval()
        arguments = model.get_model_args()
        self.cutoff_angstrom = float(arguments["cutoff"])
        self._convert = GraphConvertor(
            "m3gnet", self.cutoff_angstrom, True, arguments["threebody_cutoff"]
        ).convert
        self.elements = tuple(SYMBOLS[: arguments["max_z"]])
        self.width = int(arguments["units"])

    def embed(self, crystal: Crystal) -> Floats:
        """Returns the mean over atoms of what goes into the last layers, `width` numbers."""
        features: list[Any] = []
        hook = self._model.final.register_forward_pre_hook(
            lambda module, inputs: features.append(inputs[0])
        )
        try:
            self._energy(crystal.primitive())
        finally:
            hook.remove()
        return np.asarray(features[0].double().mean(dim=0).numpy())

    def energies(self, crystals: Sequence[Crystal]) -> Floats:
        """Returns the energy of an atom of each crystal, in eV."""
        return np.array([self._energy(crystal) for crystal in crystals])

    def _energy(self, crystal: Crystal) -> float:
        import torch

        with warnings.catch_warnings(), torch.no_grad(), default_dtype(torch.float32):
            warnings.simplefilter("ignore")
            from mattersim.forcefield.potential import batch_to_dict
            from torch_geometric.data import Batch

            graph = self._convert(crystal.to_pymatgen().to_ase_atoms())
            batch = batch_to_dict(Batch.from_data_list([graph]), device="cpu")
            return float(self._model(batch)) / len(crystal.species)
