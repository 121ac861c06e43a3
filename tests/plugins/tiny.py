"""A plugin for tests, written as a third party would: small datasets and a fast backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.plugin import (
    SYMBOLS,
    Backbone,
    BackboneSpec,
    Card,
    Crystal,
    DatasetSpec,
    Locations,
    Settings,
    hookimpl,
)

CARDS = Path(__file__).parent / "cards"
ENERGIES = Card(title="energies", property="formation-energy", unit="eV/atom")
FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
CATIONS = "Li Na K Rb Cs Be Mg Ca Sr Ba Zn Cd B Al Ga In".split()
ANIONS = "F Cl Br I O S Se Te N P As Sb".split()


def _rows(cations: Sequence[str], shift: float) -> Iterator[dict[str, Any]]:
    for i, cation in enumerate(cations):
        for j, anion in enumerate(ANIONS):
            a = 4.0 + 0.15 * i + 0.1 * j
            yield {
                "id": f"{cation}{anion}",
                "kappa": 200.0 * np.exp(shift - 0.8 * i - 0.3 * j) + 0.5,
                "lattice": [[a * x for x in row] for row in FCC],
                "species": [cation, anion],
                "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            }


def load_toy(where: Locations) -> Iterator[Mapping[str, Any]]:
    return _rows(CATIONS[:4], 0.0)


def load_source(where: Locations) -> Iterator[Mapping[str, Any]]:
    return _rows(CATIONS, 0.5)


def load_twins(where: Locations) -> Iterator[Mapping[str, Any]]:
    """Toy's materials once more under other ids, as polymorphs would be."""
    for row in _rows(CATIONS[:4], 0.2):
        yield {**row, "id": "other-" + row["id"], "lattice": (np.eye(3) * 3.1).tolist()}


def load_twin_pairs(where: Locations) -> list[Mapping[str, Any]]:
    """All of Toy, then all of its twins, in one dataset."""
    return [*load_toy(where), *load_twins(where)]


def load_two(where: Locations) -> list[dict[str, Any]]:
    return list(_rows(CATIONS[:1], 0.0))[:2]


def _of_energies(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The same crystals with energies: of either sign, zero at κ = 10."""
    for row in rows:
        yield {**row, "formation_energy_per_atom": float(np.log10(row["kappa"]) - 1)}


def load_energies(where: Locations) -> Iterator[Mapping[str, Any]]:
    return _of_energies(_rows(CATIONS, 0.5))


def load_toy_energies(where: Locations) -> Iterator[Mapping[str, Any]]:
    return _of_energies(_rows(CATIONS[:4], 0.0))


def load_nothing(where: Locations) -> list[Mapping[str, Any]]:
    return [{**row, "kappa": None} for row in _rows(CATIONS[:1], 0.0)]


@hookimpl
def register_datasets() -> list[DatasetSpec]:
    toy = CARDS / "toy.toml"
    return [
        DatasetSpec("Toy", toy, load_toy),
        DatasetSpec("Twins", toy, load_twins),
        DatasetSpec("ToyAndTwins", toy, parts=("Toy", "Twins")),
        DatasetSpec("TwinPairs", toy, load_twin_pairs),
        DatasetSpec("Source", toy, load_source),
        DatasetSpec("Two", toy, load_two),
        DatasetSpec("Nothing", toy, load_nothing),
        DatasetSpec("Energies", ENERGIES, load_energies),
        DatasetSpec("ToyEnergies", ENERGIES, load_toy_energies),
        DatasetSpec("WrongUnit", CARDS / "wrong_unit.toml", load_toy),
    ]


class TinySettings(Settings):
    """Width of the embedding."""

    width: int = 8


class TinyPool:
    """Element fractions and the volume per atom of every crystal."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: Any) -> Any:
        import torch

        index = torch.as_tensor(rows, device=self.features.device)
        return self.features[index.clamp(min=0)] * (index >= 0).unsqueeze(-1)


class TinyBackbone(Backbone):
    """A linear map of element fractions and volume."""

    elements = frozenset(SYMBOLS)
    encoding = "tiny-1"

    def __init__(self, settings: TinySettings) -> None:
        self.width = settings.width

    def encode(self, crystal: Crystal) -> dict[str, Any]:
        features = np.zeros(len(SYMBOLS) + 1, dtype=np.float32)
        for symbol in crystal.species:
            features[SYMBOLS.index(symbol)] += 1 / len(crystal.species)
        features[-1] = abs(np.linalg.det(crystal.lattice)) / len(crystal.species) / 30
        return {"features": features}

    def pool(self, encodings: Sequence[Mapping[str, Any]], device: Any) -> TinyPool:
        import torch

        return TinyPool(torch.as_tensor(np.stack([e["features"] for e in encodings])).to(device))

    def build(self, generators: Sequence[Any]) -> Any:
        from harness.plugin import StackedLinear

        return StackedLinear(generators, len(SYMBOLS) + 1, self.width)


@hookimpl
def register_backbones() -> list[BackboneSpec]:
    return [BackboneSpec("tiny", "element fractions, linear", TinySettings, TinyBackbone)]
