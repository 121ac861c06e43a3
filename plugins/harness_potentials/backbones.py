"""The backbones of this plugin, and the head that takes one of their numbers as it is."""

from __future__ import annotations

from collections.abc import Callable
from math import log10
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import Crystal, FitRows, FixedFeatures, PluginError, Predictor, Settings
from harness_potentials import chgnet_potential, equation_of_state, sevennet_potential
from harness_potentials.packages import ELEMENTS

if TYPE_CHECKING:
    from harness.plugin import Floats

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


def make_eos(settings: Settings) -> FixedFeatures:
    """Makes the backbone `eos`.

    Raises:
        PluginError: CHGNet is not installed.
    """
    name, width = f"eos-{equation_of_state.VERSION}", len(EOS_FEATURES)
    return _fixed(chgnet_potential, describe_state, width, name, cutoff_angstrom=6.0)


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
    """Returns `EOS_FEATURES` of a crystal.

    Raises:
        CannotEncode: see `equation_of_state.describe`.
    """
    solid = equation_of_state.describe(crystal)
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
