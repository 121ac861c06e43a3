"""The backbones of this plugin, and the head that takes one of their numbers as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from math import log10
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.plugin import Crystal, FitRows, FixedFeatures, PluginError, Predictor, Settings
from harness_potentials import chgnet_potential, equation_of_state, sevennet_potential
from harness_potentials.packages import ELEMENTS
from harness_potentials.settings import EosSettings, FileSettings
from harness_potentials.weight_files import declare_weights, package_version

if TYPE_CHECKING:
    from harness.plugin import Floats, Invariance, PretrainedWeights


class Potential(Protocol):
    """What is asked of a potential that is read from a file."""

    variant: str
    width: int
    elements: Sequence[str]
    cutoff_angstrom: float
    invariances: Sequence[Invariance]

    def embed(self, crystal: Crystal) -> Floats:
        """Returns `width` numbers that do not grow with the cell."""

    def energies(self, crystals: Sequence[Crystal]) -> Floats:
        """Returns the energy of an atom of each crystal, in eV, but for one of its composition."""


FROM_FILES = {
    "mace": ("harness_potentials.mace_potential", "Mace"),
    "mattersim": ("harness_potentials.mattersim_potential", "Mattersim"),
    "orb": ("harness_potentials.orb_potential", "Orb"),
}
"""Module and class of the potentials whose packages bring no weights."""


EOS_FEATURES = (
    "log10 of Slack's κ",
    "log10 of the volume of an atom",
    "its ratio to the given volume",
    "log10 of the bulk modulus",
    "its derivative by pressure",
    "log10 of the Debye temperature",
)
"""In the units of `physics`. The Grüneisen parameter goes with the derivative."""


UNIT = "W/(m·K)"
"""Of Slack's κ."""


def make_chgnet(settings: Settings) -> FixedFeatures:
    """Makes the backbone `chgnet`.

    Raises:
        PluginError: CHGNet is not installed.
    """
    width = chgnet_potential.WIDTH
    return _fixed(chgnet_potential, chgnet_potential.embed, width, "chgnet-1", cutoff_angstrom=6.0)


def make_sevennet(settings: Settings) -> FixedFeatures:
    """Makes the backbone `sevennet`.

    Raises:
        PluginError: SevenNet is not installed.
    """
    own = sevennet_potential
    return _fixed(own, own.embed, own.WIDTH, "sevennet-1", refuses=False, cutoff_angstrom=5.0)


def make_eos(settings: EosSettings, weights: PretrainedWeights | None = None) -> FixedFeatures:
    """Makes the backbone `eos`.

    Raises:
        PluginError: the potential is not installed.
        WeightsError: see `declare_weights` and the potential's class.
    """
    name, width = f"eos-{equation_of_state.VERSION}", len(EOS_FEATURES)
    if settings.potential != "chgnet":
        potential, prefix = settings.potential, f"{name} of "
        return _from_file(potential, settings, weights, prefix, _state_by_file, width)
    return _fixed(chgnet_potential, describe_state, width, name, cutoff_angstrom=6.0)


def make_from_file(
    potential: str, settings: FileSettings, weights: PretrainedWeights | None
) -> FixedFeatures:
    """Makes the backbone of the embeddings of a potential of `FROM_FILES`.

    Raises:
        PluginError: its package is not installed.
        WeightsError: see `declare_weights` and the potential's class.
    """
    return _from_file(potential, settings, weights, "", _embed_by_file)


def _from_file(
    name: str,
    settings: FileSettings,
    named: PretrainedWeights | None,
    prefix: str,
    encode: Callable[[str, PretrainedWeights, FileSettings, Crystal], Floats],
    width: int | None = None,
) -> FixedFeatures:
    """Makes a backbone of the numbers that `encode` gets from a file; by default, embeddings."""
    module = import_module(FROM_FILES[name][0])
    found = package_version(module.PACKAGE, module.EXTRA)
    weights = declare_weights(named, settings, name)
    potential = load_potential(name, weights, settings)
    return FixedFeatures(
        partial(encode, name, weights, settings),
        width or potential.width,
        elements=potential.elements,
        encoding=" ".join(filter(None, (f"{prefix}{name}-1", found, potential.variant))),
        weights=weights,
        invariances=potential.invariances,
        cutoff_angstrom=potential.cutoff_angstrom,
    )


@cache
def load_potential(name: str, weights: PretrainedWeights, settings: FileSettings) -> Potential:
    """Loads a potential from its file; once in each process.

    Raises:
        WeightsError: see the potential's class.
    """
    module, kind = FROM_FILES[name]
    potential: Potential = getattr(import_module(module), kind)(weights, settings)
    return potential


def _embed_by_file(
    name: str, weights: PretrainedWeights, settings: FileSettings, crystal: Crystal
) -> Floats:
    return load_potential(name, weights, settings).embed(crystal)


def _state_by_file(
    name: str, weights: PretrainedWeights, settings: FileSettings, crystal: Crystal
) -> Floats:
    return state_of(crystal, load_potential(name, weights, settings).energies)


def _fixed(
    potential: Any, encode: Callable[[Crystal], Floats], width: int, name: str, **options: Any
) -> FixedFeatures:
    """Makes a backbone of the numbers that a potential, a module here, gives."""
    weights = potential.find_weights()
    encoding = f"{name} {potential.package_version()}"
    return FixedFeatures(
        encode, width, elements=ELEMENTS, encoding=encoding, weights=weights, **options
    )


def describe_state(crystal: Crystal) -> Floats:
    """Returns `EOS_FEATURES` of a crystal, by CHGNet.

    Raises:
        CannotEncode: see `equation_of_state.describe`.
    """
    return state_of(crystal, chgnet_potential.energies)


def state_of(crystal: Crystal, energies: equation_of_state.Energies) -> Floats:
    """Returns `EOS_FEATURES` of a crystal, by the energies of a potential.

    Raises:
        CannotEncode: see `equation_of_state.describe`.
    """
    solid = equation_of_state.describe(crystal, energies)
    given = crystal.volume / len(crystal.species)
    return np.array(
        [
            log10(solid.kappa),
            log10(solid.volume),
            solid.volume / given,
            log10(solid.bulk_modulus),
            solid.derivative,
            log10(solid.debye_temperature),
        ]
    )


def take_slack(rows: FitRows) -> Predictor:
    """Returns a predictor that takes the first number of `eos` as log10 κ, whatever the rows.

    Raises:
        PluginError: the embeddings are not those of `eos`, or what is asked for is no κ.
    """
    if rows.property.unit != UNIT:
        raise PluginError(
            f"The head 'slack' gives a thermal conductivity in {UNIT}, and the "
            f"{rows.property.title} is in {rows.property.unit}: take it out of the benchmark file."
        )
    width = rows.embeddings.shape[1]
    if width != len(EOS_FEATURES):
        raise PluginError(
            "The head 'slack' takes Slack's κ from the backbone 'eos', whose embedding has "
            f"{len(EOS_FEATURES)} numbers, and was given one of {width}: write "
            "{ backbone = 'eos', head = 'slack' }, among the baselines say."
        )

    def predict(embeddings: Floats) -> Floats:
        return np.asarray(10.0 ** embeddings[:, 0], dtype=np.float64)

    return predict
