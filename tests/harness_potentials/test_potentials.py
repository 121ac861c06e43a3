"""The potentials themselves: what they say of four solids, that they are honest, and their cost."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import harness_potentials
from harness import PluginError
from harness.apps.testing.crystals import sample_crystals
from harness.plugin import CannotEncode, Crystal, FitRows, Locations, Scaler, Settings
from harness.testing import BackboneCases, HeadCases
from harness_potentials import packages, register_backbones, register_heads
from harness_properties import BULK_MODULUS, KAPPA

BACKBONES: dict[str, Any] = {spec.name: spec for spec in register_backbones()}
(SLACK,) = register_heads()

slow = pytest.mark.slow
needs_chgnet = pytest.mark.skipif(
    find_spec("chgnet") is None, reason="the extra `chgnet` is not installed"
)
needs_sevenn = pytest.mark.skipif(
    find_spec("sevenn") is None, reason="the extra `sevenn` is not installed"
)

FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])


def binary(a: float, pair: tuple[str, str], place: float) -> Crystal:
    return Crystal(a * FCC, pair, np.array([[0.0, 0.0, 0.0], [place] * 3]))


SOLIDS = {
    "Si": (binary(5.431, ("Si", "Si"), 0.25), 97.8, 645),
    "GaAs": (binary(5.653, ("Ga", "As"), 0.25), 75.5, 344),
    "NaCl": (binary(5.640, ("Na", "Cl"), 0.5), 24.9, 321),
    "MgO": (binary(4.212, ("Mg", "O"), 0.5), 162.0, 946),
}
"""Crystal, bulk modulus (GPa) and Debye temperature (K), measured; sources in test_physics."""


@slow
@needs_chgnet
@pytest.mark.parametrize("name", SOLIDS)
def test_chgnet_is_near_what_is_measured(name: str) -> None:
    """Volume to 6 %, modulus to 40 % (CHGNet is too soft), Debye temperature to 25 %."""
    crystal, modulus, debye = SOLIDS[name]
    solid = harness_potentials.describe(crystal)
    assert solid.volume == pytest.approx(crystal.volume / 2, rel=0.06)
    assert solid.bulk_modulus == pytest.approx(modulus, rel=0.4)
    assert solid.debye_temperature == pytest.approx(debye, rel=0.25)
    assert 1.0 < solid.grueneisen < 4.0


@slow
@needs_chgnet
def test_a_crystal_far_from_its_volume_is_found_all_the_same() -> None:
    at_rest = harness_potentials.describe(SOLIDS["NaCl"][0])
    squeezed = harness_potentials.describe(binary(5.0, ("Na", "Cl"), 0.5))
    assert squeezed.bulk_modulus == pytest.approx(at_rest.bulk_modulus, rel=0.02)


@slow
@needs_chgnet
def test_atoms_on_their_own_are_refused() -> None:
    lonely = Crystal(np.eye(3) * 15, ("Ar",), np.zeros((1, 3)))
    for name in ("chgnet", "eos"):
        with pytest.raises(CannotEncode, match="an atom without a neighbour within 6 Å"):
            backbone(name).encode(lonely)


@slow
@needs_chgnet
def test_slacks_kappa_is_taken_as_it_is() -> None:
    embeddings = np.array([backbone("eos").encode(SOLIDS["MgO"][0])["features"]] * 2, np.float64)
    kappa = SLACK.fit(Settings(), rows(embeddings))(embeddings)
    assert kappa == pytest.approx([harness_potentials.describe(SOLIDS["MgO"][0]).kappa] * 2)
    assert 20 < kappa[0] < 120  # 60 W/(m·K) is measured


@pytest.mark.parametrize("name", ["chgnet", "sevennet", "eos"])
def test_without_its_package_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.weights_of.cache_clear()
    monkeypatch.setattr(packages, "find_spec", lambda package: None)
    with pytest.raises(PluginError, match=r"pip install 'paraisite-harness\[(chgnet|sevenn)\]'"):
        BACKBONES[name].make(BACKBONES[name].settings())
    packages.weights_of.cache_clear()


def test_slack_is_for_the_backbone_eos_alone() -> None:
    with pytest.raises(PluginError, match="from the backbone 'eos', whose embedding has 6 numbers"):
        SLACK.fit(Settings(), rows(np.zeros((2, 64))))


def test_slack_is_for_thermal_conductivities_alone() -> None:
    asked = replace(rows(np.zeros((2, 6))), property=BULK_MODULUS)
    with pytest.raises(PluginError, match="the bulk modulus is in GPa"):
        SLACK.fit(Settings(), asked)


def rows(embeddings: Any) -> FitRows:
    return FitRows(embeddings, np.ones(len(embeddings)), Scaler(0, 0, 1), KAPPA, 0)


def backbone(name: str) -> Any:
    return BACKBONES[name].make(BACKBONES[name].settings())


class TestSlack(HeadCases):
    """The cases of heads, but for the one that a head which trains on nothing cannot keep."""

    width = 6

    @pytest.fixture
    def spec(self) -> Any:
        return SLACK

    def test_predictions_are_in_the_unit_of_the_property(self, spec: Any) -> None:
        one_known = FitRows(np.ones((3, 6)), np.full(3, 7.0), Scaler(0, 0, 1), KAPPA, 0)
        assert SLACK.fit(Settings(), one_known)(np.full((2, 6), 2.0)).tolist() == [100.0, 100.0]


@slow
class TestPromises(BackboneCases):
    """The cases of backbones, and what these declare."""

    @pytest.fixture(
        params=[
            pytest.param("chgnet", marks=needs_chgnet),
            pytest.param("eos", marks=needs_chgnet),
            pytest.param("sevennet", marks=needs_sevenn),
        ]
    )
    def spec(self, request: pytest.FixtureRequest) -> Any:
        return BACKBONES[request.param]

    def test_it_is_fixed_and_says_what_it_has_seen(self, spec: Any) -> None:
        made = spec.make(spec.settings())
        assert made.fixed
        weights = made.find_pretrained(Locations())
        assert weights.seen == "MPtrj"
        assert weights.digest in made.encoding

    def test_embeddings_tell_crystals_apart(self, spec: Any) -> None:
        made = spec.make(spec.settings())
        features = np.array([made.encode(c)["features"] for c in sample_crystals()])
        assert len(np.unique(features.round(3), axis=0)) == len(features)
