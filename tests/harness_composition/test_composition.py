"""Composition features: hand-worked numbers, the laws that hold, and the data they must cover."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plugin import SYMBOLS, Crystal
from harness_composition import CompositionSettings, register_backbones
from harness_composition.properties import KNOWN, PROPERTIES, SHELLS, STATISTICS, property_table

steady = settings(deadline=None, derandomize=True, max_examples=40)

COLUMNS = (*PROPERTIES, *SHELLS)
DATASETS = ("Dataset1", "Dataset2", "AFLOW")


def crystal(species: list[str]) -> Crystal:
    return Crystal(np.eye(3) * 4, tuple(species), np.zeros((len(species), 3)))


def backbone(features: str):
    (spec,) = register_backbones()
    return spec.make(CompositionSettings.model_validate({"features": features}))


def encode(features: str, species: list[str]) -> np.ndarray:
    return backbone(features).encode(crystal(species))["features"]


def statistics(species: list[str], name: str) -> list[float]:
    blocks = encode("elements", species)[len(SYMBOLS) :].reshape(STATISTICS, len(COLUMNS))
    return blocks[:, COLUMNS.index(name)].tolist()


def test_fractions_are_shares_of_atoms() -> None:
    features = encode("fractions", ["O", "Si", "O"])
    assert features[SYMBOLS.index("O")] == np.float32(2 / 3)
    assert features[SYMBOLS.index("Si")] == np.float32(1 / 3)
    assert np.count_nonzero(features) == 2


def test_elements_begin_with_the_fractions() -> None:
    species = ["O", "Si", "O"]
    whole = encode("elements", species)
    assert np.array_equal(whole[: len(SYMBOLS)], encode("fractions", species))


def test_hand_worked_statistics() -> None:
    # SiO2: Z = 14, 8, 8: mean 10, deviations 4, 2, 2
    assert statistics(["O", "Si", "O"], "Z") == pytest.approx([8, 14, 6, 10, 8 / 3])
    # electronegativities 0.93 and 3.16
    assert statistics(["Na", "Cl"], "X") == pytest.approx([0.93, 3.16, 2.23, 2.045, 1.115])


@pytest.mark.parametrize(
    ("symbol", "electrons"),
    [("H", [1, 0, 0, 0]), ("Fe", [2, 0, 6, 0]), ("Gd", [2, 0, 1, 7]), ("Te", [2, 4, 10, 0])],
)
def test_valence_electrons(symbol: str, electrons: list[int]) -> None:
    assert [statistics([symbol], shell)[0] for shell in SHELLS] == electrons


def test_gaps_are_the_documented_ones_and_take_the_median() -> None:
    column = property_table()[:, COLUMNS.index("X")]
    gaps = [KNOWN.index(symbol) for symbol in ("He", "Ne", "Ar")]
    assert np.allclose(column[gaps], np.median(np.delete(column, gaps)))
    assert np.isfinite(property_table()).all()


@pytest.mark.parametrize("features", ["fractions", "elements"])
@steady
@given(
    counts=st.dictionaries(st.sampled_from(KNOWN), st.integers(1, 7), min_size=1, max_size=5),
    cells=st.integers(1, 9),
    rng=st.randoms(use_true_random=False),
)
def test_polymorphs_have_equal_features(
    features: str, counts: dict[str, int], cells: int, rng
) -> None:
    species = [symbol for symbol, count in counts.items() for _ in range(count)]
    shuffled = rng.sample(species * cells, len(species) * cells)
    own, other = encode(features, species), encode(features, shuffled)
    assert own.dtype == np.float32
    assert np.array_equal(own, other)
    assert own[: len(SYMBOLS)].sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("features", ["fractions", "elements"])
def test_every_element_it_claims_has_finite_features_of_the_stated_width(features: str) -> None:
    own = backbone(features)
    for symbol in own.elements:
        encoded = own.encode(crystal([symbol]))["features"]
        assert encoded.shape == (own.width,)
        assert np.isfinite(encoded).all()


def test_it_knows_every_element_of_the_mirrored_data(shared: Path) -> None:
    symbols: set[str] = set()
    for name in DATASETS:
        with gzip.open(shared / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            symbols.update(*(json.loads(line)["species"] for line in lines))
    assert len(symbols) == 85
    assert symbols <= backbone("elements").elements <= backbone("fractions").elements


def test_members_get_the_features_of_their_rows_and_zeros_in_empty_places() -> None:
    import torch

    own = backbone("fractions")
    encodings = [own.encode(crystal(species)) for species in (["Na", "Cl"], ["Si"])]
    pool = own.pool(encodings, torch.device("cpu"))
    module = own.build([torch.Generator(), torch.Generator()])
    embeddings = module(pool.batch(np.array([[0, 1, -1], [1, -1, 0]]))).numpy()
    assert len(pool) == 2
    assert embeddings.shape == (2, 3, own.width)
    assert np.array_equal(embeddings[0, 0], encodings[0]["features"])
    assert np.array_equal(embeddings[1, 0], encodings[1]["features"])
    assert not embeddings[0, 2].any() and not embeddings[1, 1].any()
    assert not list(module.parameters())


def test_the_two_kinds_of_features_share_no_cache() -> None:
    fractions, elements = backbone("fractions"), backbone("elements")
    assert fractions.encoding != elements.encoding == backbone("elements").encoding
