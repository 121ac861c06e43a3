"""Plain descriptors: hand-worked numbers, gaps that are documented, and Magpie on request."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from harness import PluginError
from harness.plugin import SYMBOLS, Crystal
from harness.testing import BackboneCases
from harness_descriptors import DescriptorSettings, backbone, register_backbones
from harness_descriptors.plain import PLAIN, PROPERTIES, describe_plainly, property_table

(SPEC,) = register_backbones()
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])
ROCK_SALT = Crystal(5.64 * FCC, ("Na", "Cl"), np.array([[0.0] * 3, [0.5] * 3]))


def described(crystal: Crystal) -> dict[str, float]:
    return dict(zip(PLAIN, describe_plainly(crystal).tolist(), strict=True))


def test_hand_worked_rock_salt() -> None:
    sodium, chlorine = 22.98977, 35.45
    found = described(ROCK_SALT)
    assert found == pytest.approx(
        {
            "log mean mass": np.log10((sodium + chlorine) / 2),
            "spread of log mass": np.log10(chlorine / sodium) / 2,
            "lowest log mass": np.log10(sodium),
            "highest log mass": np.log10(chlorine),
            "log volume per atom": np.log10(5.64**3 / 8),
            "log atoms per primitive cell": np.log10(2),
            "range of electronegativity": 3.16 - 0.93,
            "mean electronegativity": (3.16 + 0.93) / 2,
            "log nearest-neighbour distance": np.log10(2.82),
            "mean coordination number": 6,
            "spread of coordination number": 0,
            "mean period": 3,
            "lowest group": 1,
            "highest group": 17,
            "log ratio of atomic radii": np.log10(1.80 / 1.00),
            "log density": np.log10(2.1638),
            "space-group number": 225,
            "mean log bulk modulus of the elements": np.log10(6.3 * 1.1) / 2,
        },
        abs=1e-4,
    )


@pytest.mark.parametrize(
    ("crystal", "number"),
    [
        (Crystal(2.87 * BCC, ("Fe",), np.zeros((1, 3))), 8),  # the second shell is 1.155 away
        (Crystal(4.05 * FCC, ("Al",), np.zeros((1, 3))), 12),
        (Crystal(5.43 * FCC, ("Si", "Si"), np.array([[0.0] * 3, [0.25] * 3])), 4),
        (Crystal(20.0 * np.eye(3), ("Ar",), np.zeros((1, 3))), 6),  # neighbours are far away
    ],
)
def test_coordination_numbers_of_simple_lattices(crystal: Crystal, number: int) -> None:
    assert described(crystal)["mean coordination number"] == number


def test_a_conventional_cell_is_described_by_its_primitive_one() -> None:
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    coords = np.array([*corners, *(np.array(corners) + 0.5)], dtype=np.float64)
    conventional = Crystal(5.64 * np.eye(3), ("Na",) * 4 + ("Cl",) * 4, coords)
    assert described(conventional) == pytest.approx(described(ROCK_SALT), abs=1e-9)


def test_atoms_may_be_a_hundredth_of_an_angstrom_off_their_places() -> None:
    near, far = (
        Crystal(ROCK_SALT.lattice, ROCK_SALT.species, np.array([[0.0] * 3, [0.5 + shift] * 3]))
        for shift in (5e-4, 1e-2)
    )
    assert described(near)["space-group number"] == 225
    assert described(far)["space-group number"] < 225


def test_gaps_take_the_median_and_are_the_documented_ones() -> None:
    column = property_table()[:, PROPERTIES.index("X")]
    gaps = [SYMBOLS.index(symbol) for symbol in ("He", "Ne", "Ar")]
    assert np.allclose(column[gaps], np.median(np.delete(column, gaps)))
    assert np.isfinite(property_table()).all()
    assert (property_table() > 0).all()


def test_settings_have_encodings_of_their_own() -> None:
    assert "magpie" not in make("plain").encoding


@pytest.mark.skipif(find_spec("matminer") is None, reason="the extra `matminer` is not installed")
def test_magpie_is_matminers_and_can_be_put_beside() -> None:
    plain, magpie, both = (
        make(f).encode(ROCK_SALT)["features"] for f in ("plain", "magpie", "both")
    )
    assert len(magpie) == 132
    assert np.isfinite(magpie).all()
    assert magpie[:6].tolist() == [
        11,
        17,
        6,
        14,
        3,
        11,
    ]  # of Z: min, max, range, mean, deviation, mode
    assert np.array_equal(both, np.concatenate([plain, magpie]))


def test_without_matminer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "find_spec", lambda package: None)
    with pytest.raises(PluginError, match=r"pip install 'paraisite-harness\[matminer\]'"):
        make("magpie")
    assert make("plain").width == 18


def make(features: Any) -> Any:
    return SPEC.make(DescriptorSettings(features=features))


class TestPromises(BackboneCases):
    @pytest.fixture
    def spec(self) -> Any:
        return SPEC
