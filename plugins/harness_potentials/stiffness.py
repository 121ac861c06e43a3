"""How stiff the crystals of AFLOW are, by CHGNet: sources that know mechanics, no conductivities.

Of crystals whose primitive cell is small, so that the energies are had in half an hour; and κ of
the same crystals, to compare with. Numbers are rounded, for they differ in the last digits from
machine to machine, and a dataset must not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from harness import load_dataset
from harness.plugin import (
    CannotEncode,
    Card,
    Crystal,
    DataError,
    DatasetSpec,
    kept_encodings,
    try_encodings,
)

if TYPE_CHECKING:
    from harness.plugin import Locations

SOURCE = "AFLOW"
MOST_ATOMS = 14
"""Of a primitive cell: 2,668 of the 3,318 crystals at hand."""

NAME = f"{SOURCE}-{MOST_ATOMS}"
DIGITS = 4
PROPERTIES = {"bulk-modulus": ("GPa", 3), "debye-temperature": ("K", 5)}
"""By name: the unit, and where `EOS_FEATURES` has the logarithm of the values."""


def datasets() -> Iterator[DatasetSpec]:
    """Yields κ, bulk modulus and Debye temperature of the same crystals."""
    what = f"of the crystals of {SOURCE} with up to {MOST_ATOMS} atoms in the primitive cell"
    for name, (unit, _) in PROPERTIES.items():
        card = Card(
            title=f"{name.replace('-', ' ')} {what}, by CHGNet",
            property=name,
            unit=unit,
            method="Birch–Murnaghan fit to energies of CHGNet at 11 volumes, clamped ions",
            notes="Values of a model, not of nature; see `harness_potentials.physics`.",
        )
        yield DatasetSpec(f"{NAME}-{name}", card, load=partial(load_stiffness, name))
    yield DatasetSpec(NAME, Card(title=f"κ {what}", unit="W/(m·K)"), load=load_kappa)


def load_kappa(locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of AFLOW whose crystals are small."""
    dataset = load_dataset(SOURCE, locations=locations)
    for row_id, target, crystal in zip(dataset.ids, dataset.targets, dataset.crystals, strict=True):
        if _is_small(crystal):
            yield {"id": row_id, "kappa": float(target), **vars(crystal)}


def _is_small(crystal: Crystal) -> bool:
    """Whether its primitive cell is: looked for (2 ms) only where the given one is not."""
    return len(crystal.species) <= MOST_ATOMS or len(crystal.primitive().species) <= MOST_ATOMS


def load_stiffness(name: str, locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Yields them with another target; in its place, the reason why there is none.

    Raises:
        DataError: energies are not at hand, and `locations` are offline: who only looks at results
            is not made to wait for them.
        PluginError: CHGNet is not installed.
    """
    from harness_potentials.backbones import make_eos
    from harness_potentials.settings import EosSettings

    backbone, folder = make_eos(EosSettings()), locations.cache / "encodings"
    rows = list(load_kappa(locations))
    crystals = [Crystal(row["lattice"], row["species"], row["frac_coords"]) for row in rows]
    missing = kept_encodings(backbone, crystals, folder).count(None)
    if missing and locations.offline:
        raise DataError(
            f"The energies of {missing} crystals of {NAME}-{name} are not computed here yet. "
            f"`harness datasets fetch {NAME}-{name}` does that once, in half an hour for all of "
            "them (not with HARNESS_OFFLINE)."
        )
    column, (_, place) = name.replace("-", "_"), PROPERTIES[name]
    for row, state in zip(rows, try_encodings(backbone, crystals, folder), strict=True):
        if isinstance(state, CannotEncode):
            yield {**row, column: str(state)}
        else:
            value = 10 ** float(state["features"][place])
            yield {**row, column: float(f"{value:.{DIGITS}g}")}
