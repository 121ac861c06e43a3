"""MACE (Batatia et al., arXiv 2206.07697 and 2401.00096), from a file that its package has saved.

Such a file is a pickle of the whole model: there is no reading it without running its code.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Crystal, WeightsError
from harness_potentials.weight_files import default_dtype, package_version, read_file

if TYPE_CHECKING:
    from harness.plugin import Floats, Invariance, PretrainedWeights
    from harness_potentials.settings import FileSettings

PACKAGE, EXTRA = "mace-torch", "mace"

UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""MACE sets this for the whole process when it is imported: every `torch.load` of other code that
does not say `weights_only` would run pickled code from then on."""


@contextmanager
def _guarded() -> Iterator[None]:
    """Leaves the environment as it was, and works in double precision."""
    import torch

    before = os.environ.get(UNSAFE)
    try:
        with warnings.catch_warnings(), default_dtype(torch.float64):
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            os.environ.pop(UNSAFE, None)
        else:
            os.environ[UNSAFE] = before


class Mace:
    """The potential in double precision."""

    variant = ""
    invariances: tuple[Invariance, ...] = ("permutation", "supercell", "motion")

    def __init__(self, weights: PretrainedWeights, settings: FileSettings) -> None:
        """Reads the file.

        Raises:
            WeightsError: it is not trusted, or holds no MACE that this version knows.
        """
        with _guarded():
            import mace.modules
            from mace.tools import AtomicNumberTable

            try:
                model = read_file(weights, settings.trust)
            except WeightsError as problem:
                raise WeightsError(f"{problem} {_versions()}") from problem
            if not isinstance(model, mace.modules.MACE):
                raise WeightsError(f"{weights.path} holds a {type(model).__name__}: expected MACE.")
            self._model = model.double().eval()
        self._numbers = AtomicNumberTable([int(z) for z in model.atomic_numbers])
        self.cutoff_angstrom = float(model.r_max)
        self.elements = tuple(SYMBOLS[z - 1] for z in self._numbers.zs)
        self._scalars = _scalar_places(model)
        self.width = len(self._scalars)

    def embed(self, crystal: Crystal) -> Floats:
        """Returns the mean over atoms of the scalars of all layers, `width` numbers."""
        (features,) = self._run([crystal.primitive()], "node_feats")
        return np.asarray(features[:, self._scalars].mean(axis=0), dtype=np.float64)

    def energies(self, crystals: Sequence[Crystal]) -> Floats:
        """Returns the energy of an atom of each crystal, in eV, without that of lone atoms."""
        found = self._run(crystals, "interaction_energy")
        return np.array([float(energy[0]) for energy in found]) / [
            len(crystal.species) for crystal in crystals
        ]

    def _run(self, crystals: Sequence[Crystal], name: str) -> list[Any]:
        """Takes one crystal after another through the model; returns one of its outputs."""
        import torch

        with _guarded(), torch.no_grad():
            from mace.data import AtomicData, config_from_atoms
            from mace.tools.torch_geometric import Batch

            outputs = []
            for crystal in crystals:
                data = AtomicData.from_config(
                    config_from_atoms(crystal.to_pymatgen().to_ase_atoms()),
                    z_table=self._numbers,
                    cutoff=self.cutoff_angstrom,
                    heads=getattr(self._model, "heads", None),
                )
                batch = Batch.from_data_list([data]).to_dict()
                outputs.append(self._model(batch, compute_force=False)[name].numpy())
        return outputs


def _scalar_places(model: Any) -> list[int]:
    """Which of a model's features of an atom are scalars that a mirror leaves alone."""
    places: list[int] = []
    start = 0
    for product in model.products:
        for multiplicity, irrep in product.linear.irreps_out:
            if irrep.is_scalar():
                places += range(start, start + multiplicity)
            start += multiplicity * irrep.dim
    return places


def _versions() -> str:
    return (
        f"Here are mace-torch {package_version(PACKAGE, EXTRA)} and e3nn "
        f"{package_version('e3nn', EXTRA)}; files written beside e3nn 0.4.4, which mace-torch asks "
        "for and published files come from, are not read beside 0.6: give MACE an environment of "
        "its own."
    )
