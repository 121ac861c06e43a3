"""Settings of the backbones `m3gnet` and `tensornet`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from harness.plugin import Settings, WeightsError


class M3gnetSettings(Settings):
    """What a benchmark file may set for `m3gnet`.

    The defaults are those of the published weights `M3GNet-MP-2018.6.1-Eform`; the network is that
    of Chen and Ong, Nat. Comput. Sci. 2, 718 (2022), doi 10.1038/s43588-022-00349-3. The class
    `matgl.models.M3GNet` of matgl 4.1.2 differs in three of its own: `weighted_atom`, a three-body
    cutoff of 4 Å, and messages into the source.
    """

    cutoff_angstrom: PositiveFloat = 5.0
    """Longest bond, in Å."""
    threebody_cutoff_angstrom: PositiveFloat = 5.0
    """Longest bond that takes part in angles, in Å. Their number grows with its sixth power."""
    node_embedding: PositiveInt = 64
    """Width of the features of atoms."""
    edge_embedding: PositiveInt = 64
    """Width of the features of bonds."""
    units: PositiveInt = 64
    """Width of hidden layers, and of the embedding where the readout is `weighted_atom`."""
    blocks: PositiveInt = 3
    """Rounds of three-body and of graph convolution."""
    max_n: PositiveInt = 3
    """Radial basis functions of each angular momentum."""
    max_l: PositiveInt = 3
    """Angular momenta of the basis functions."""
    readout: Literal["weighted_atom", "set2set", "reduce_atom"] = "set2set"
    """How atoms become a crystal: a mean with learnt weights, Set2Set, or the plain mean. None of
    them depends on how many cells are written down."""
    set2set_steps: PositiveInt = 3
    """Steps of Set2Set."""
    set2set_layers: PositiveInt = 3
    """Layers of its LSTM."""
    messages_into: Literal["source", "destination"] = "destination"
    """Which end of a bond its message is added to: the atom that its angles are measured at
    (`source`; matgl 3 and later), or the other one (matgl before, as the published weights)."""
    weights: str = "M3GNet-MP-2018.6.1-Eform"
    """Name of the published weights that a stage starting from `pretrained` loads."""

    @model_validator(mode="after")
    def _cutoffs_nest(self) -> Self:
        """Angles are made of bonds of the graph."""
        if self.threebody_cutoff_angstrom > self.cutoff_angstrom:
            raise ValueError(
                f"threebody_cutoff_angstrom is {self.threebody_cutoff_angstrom}, longer than "
                f"cutoff_angstrom, {self.cutoff_angstrom}: angles are made of bonds within both"
            )
        return self


class TensornetSettings(Settings):
    """What a benchmark file may set for `tensornet`.

    Source of the defaults: `matgl.models.TensorNet`, matgl 4.1.2; the network is that of Simeon and
    De Fabritiis, arXiv 2306.06482.
    """

    cutoff_angstrom: PositiveFloat = 5.0
    """Longest bond, in Å. The last centre of the expansion of its length lies 1 Å beyond."""
    units: PositiveInt = 64
    """Width of all features, and of the embedding."""
    blocks: PositiveInt = 2
    """Rounds of interaction."""
    gaussians: PositiveInt = 32
    """Centres of the expansion of the bond length."""
    gaussian_factor_per_square_angstrom: PositiveFloat = 0.5
    """Each centre c gives exp(−factor · (length − c)²)."""
    readout: Literal["weighted_atom", "reduce_atom"] = "weighted_atom"
    """How atoms become a crystal: a mean with learnt weights, or the plain mean."""


PUBLISHED = M3gnetSettings()
"""The settings of the published weights (`model.json` beside them) are the defaults."""


def check_settings(settings: M3gnetSettings) -> None:
    """Refuses settings that the published weights were not trained with.

    Raises:
        WeightsError: says which settings are needed.
    """
    if settings.weights != PUBLISHED.weights:
        raise WeightsError(
            f"Weights {settings.weights!r} cannot be verified: reference energies are known for "
            f"{PUBLISHED.weights!r} only. Set weights to that name."
        )
    needed = [f"{k} = {v!r}" for k, v in PUBLISHED if getattr(settings, k) != v]
    if needed:
        raise WeightsError(
            f"The weights {PUBLISHED.weights!r} do not fit these settings of m3gnet; they need "
            f"{', '.join(needed)}. Set that, or use a transfer strategy that starts from 'random'."
        )
