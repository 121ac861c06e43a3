"""Universal potentials: their embeddings, frozen, and the physics that follows from energies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from harness.plugin import (
    BackboneSpec,
    DatasetSpec,
    FitRows,
    HeadSpec,
    Predictor,
    Settings,
    hookimpl,
)
from harness_potentials.settings import EosSettings, FileSettings, OrbSettings

if TYPE_CHECKING:
    from harness.plugin import Backbone, Crystal, PretrainedWeights
    from harness_potentials.physics import Solid

CHGNET_ROWS_PER_SECOND = 150.0
"""Training rows per second, all members together, forward and backward with the head `mlp`:
measured on Dataset1 and Dataset2 (2 to 3 atoms each) with 2 members and batch 8, one thread."""


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers the embeddings of potentials, and what the energies of one say of a solid."""
    yield BackboneSpec(
        name="chgnet",
        summary="embedding of the potential CHGNet as it was trained; needs the extra `chgnet`",
        make="harness_potentials.backbones:make_chgnet",
        rows_per_second=100_000.0,
    )
    yield BackboneSpec(
        name="chgnet-trained",
        summary="the potential CHGNet, trained further or from scratch; needs the extra `chgnet`",
        make="harness_potentials.trained_chgnet:TrainedChgnet",
        rows_per_second=CHGNET_ROWS_PER_SECOND,
    )
    yield BackboneSpec(
        name="sevennet",
        summary="embedding of the potential SevenNet-0 as it was trained; needs the extra `sevenn`",
        make="harness_potentials.backbones:make_sevennet",
        rows_per_second=100_000.0,
    )
    yield BackboneSpec(
        name="eos",
        summary="equation of state by CHGNet, and what follows from it; needs the extra `chgnet`",
        settings=EosSettings,
        make="harness_potentials.backbones:make_eos",
        rows_per_second=100_000.0,
        weights_in="weights",
    )
    for name, title, extra, settings in (
        ("mace", "MACE", "mace", FileSettings),
        ("mattersim", "MatterSim", "mattersim", FileSettings),
        ("orb", "ORB", "orb", OrbSettings),
    ):
        yield BackboneSpec(
            name=name,
            summary=f"embedding of {title} from a file that you name; needs the extra `{extra}`",
            settings=settings,
            make=partial(_make_from_file, name),
            rows_per_second=100_000.0,
            weights_in="weights",
        )


def _make_from_file(
    name: str, settings: FileSettings, weights: PretrainedWeights | None
) -> Backbone:
    from harness_potentials.backbones import make_from_file

    return make_from_file(name, settings, weights)


@hookimpl
def register_datasets() -> Iterable[DatasetSpec]:
    """Offers how stiff crystals of AFLOW are, by CHGNet: what else to learn first."""
    from harness_potentials.stiffness import datasets

    return datasets()


@hookimpl
def register_heads() -> Iterable[HeadSpec]:
    """Offers Slack's κ, which nothing is fitted for."""
    yield HeadSpec(
        name="slack",
        summary="Slack's κ as the backbone `eos` gives it; trains on nothing",
        fit=_take_slack,
        needs="log",
    )


def _take_slack(settings: Settings, rows: FitRows) -> Predictor:
    from harness_potentials.backbones import take_slack

    return take_slack(rows)


def describe(crystal: Crystal) -> Solid:
    """Bulk modulus, Debye temperature, Grüneisen parameter and Slack's κ of a crystal, by CHGNet.

    See `harness_potentials.physics` for units, formulas and sources. Takes 0.1 s for small cells.

    Raises:
        CannotEncode: its energy–volume curve makes no sense; says why.
        PluginError: CHGNet is not installed.
    """
    from harness_potentials.equation_of_state import describe

    return describe(crystal)
