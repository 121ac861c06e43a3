"""Settings of `megnet` and `megnet-dgl`; the published architecture is the default."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from harness.plugin import Settings

Convention = Literal["destination", "source"]
"""Which end of an edge its message is averaged into."""


class NetworkSettings(Settings):
    """The network and its weights: all that a benchmark file may set for `megnet-dgl`.

    Source of the defaults: Chen et al., Chem. Mater. 31, 3564 (2019), doi
    10.1021/acs.chemmater.9b01294, as in the published file `MEGNet-MP-2018.6.1-Eform`.
    """

    cutoff_angstrom: PositiveFloat = 4.0
    """Longest bond, in Å."""
    weights: str = "MEGNet-MP-2018.6.1-Eform"
    """Name of the published weights that a stage starting from `pretrained` loads."""

    node_embedding: PositiveInt = 16
    """Width of the embedding of elements."""
    gaussians: int = Field(default=100, ge=2)
    """Centres of the expansion of the bond length, from 0 to `gaussian_end_angstrom`."""
    gaussian_end_angstrom: PositiveFloat = 5.0
    """Last centre of that expansion, in Å."""
    gaussian_factor_per_square_angstrom: PositiveFloat = 0.5
    """Each centre c gives exp(−factor · (length − c)²)."""
    blocks: PositiveInt = 3
    """Message-passing blocks."""
    dense_widths: tuple[PositiveInt, PositiveInt] = (64, 32)
    """Layers of the encoders, and of the dense part of the later blocks."""
    update_widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 64, 32)
    """Layers of the edge, node and state updates."""
    readout_steps: PositiveInt = 2
    """Steps of Set2Set."""
    projection_widths: tuple[PositiveInt, PositiveInt] = (32, 16)
    """Layers from the readout to the embedding; the last one is the embedding's width."""

    @model_validator(mode="after")
    def _widths_meet(self) -> Self:
        """A block adds its outcome to what it was given, so both have one width."""
        if self.dense_widths[-1] != self.update_widths[-1]:
            raise ValueError(
                f"dense_widths ends with {self.dense_widths[-1]} and update_widths with "
                f"{self.update_widths[-1]}: blocks are residual, so these must be equal"
            )
        return self


class MegnetSettings(NetworkSettings):
    """What a benchmark file may set for `megnet`."""

    collapse: bool = True
    """Keep one node per class of atoms that the model cannot tell apart: exact, and faster."""
    convention: Literal["destination", "source", "auto"] = "destination"
    """Which convention the weights were trained with; `auto` lets the verification decide."""
