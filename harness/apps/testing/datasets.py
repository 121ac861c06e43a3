"""Cases of datasets: a card, and rows that can be used."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.testing.cases import Cases
from harness.apps.testing.promises import Remark, broken, promise, skip
from harness.data.dataset import Dataset, build_dataset, factor_of
from harness.data.dataset_loader import DatasetLoader
from harness.errors import DataError
from harness.plugin.dataset import DatasetSpec
from harness.plugin.property import THERMAL_CONDUCTIVITY, PropertySpec

if TYPE_CHECKING:
    from harness.plugin.crystal import Crystal

RANGES = {THERMAL_CONDUCTIVITY: (1e-3, 1e4)}
"""What is plausible of a property where that is less than makes sense. κ in W/(m·K) at or above
room temperature: every solid lies well inside, an aerogel below and a wrong unit often outside."""

VOLUME_RANGE = (2.0, 250.0)
"""Volume per atom in Å³: diamond has 5.7, caesium 115; a lattice in nm or in metres is outside."""

SHORTEST_DISTANCE = 0.4
"""Å; the shortest bond there is, in H₂, has 0.74."""

USABLE_SHARE = 0.9
"""Share of the rows that must be usable, unless the cases say otherwise."""


class DatasetCases(Cases):
    """What a dataset promises. Where its rows are not on this machine, their cases are skipped.

    Attributes:
        usable_share: of the rows; lower it where it is known that more must be left out.
        target_range: lowest and highest target, in the property's unit, that can be right; what
            the property says unless given, of κ narrower.
    """

    spec_type = DatasetSpec
    usable_share = USABLE_SHARE
    target_range: tuple[float, float] | None = None

    def _line(self, spec: DatasetSpec) -> str:
        return spec.read_card().title

    def test_card_is_valid(self, spec: DatasetSpec) -> None:
        """The card can be read."""
        try:
            card = spec.read_card()
        except DataError as problem:
            broken("a valid card", str(problem), "mend the card, and see that it is packaged")
        if not card.licence:
            warnings.warn(Remark(f"{_place(spec)} names no licence."), stacklevel=2)

    def test_rows_come_from_one_place(self, spec: DatasetSpec) -> None:
        """The dataset has either rows of its own or parts."""
        promise(
            (spec.load is None) != (not spec.parts),
            "exactly one of `load` and `parts`",
            "both" if spec.parts else "neither",
            "give `load` for rows of its own, `parts` for a dataset made of others",
        )

    def test_ids_are_unique(self, spec: DatasetSpec) -> None:
        """Every row has an id of its own."""
        ids = Counter(str(row.get("id", "")) for row in self._raw_rows(spec))
        twice = [row_id or "(none)" for row_id, n in ids.items() if n > 1 or not row_id]
        promise(
            not twice,
            "every row has an id that no other row has",
            f"missing or repeated: {', '.join(twice[:5])}",
            "number the rows, or add what tells them apart (polymorph, temperature, source)",
        )

    def test_rows_can_be_used(self, spec: DatasetSpec) -> None:
        """Rows are valid; the few that are not are reported with reasons."""
        raw = self._raw_rows(spec)
        dataset = build_dataset(spec.name, spec.read_card(), self._property(spec), raw)
        found = f"{len(dataset.problems)} of {len(raw)} rows cannot be used" + "".join(
            f"; row {p.row} ({p.id or 'no id'}): {p.reason}" for p in dataset.problems[:3]
        )
        promise(
            len(dataset) > 0 and len(dataset) >= self.usable_share * len(raw),
            f"{self.usable_share:.0%} of the rows are usable",
            found,
            "mend the rows, leave them out in `load`, or lower `usable_share` of the cases",
        )
        if dataset.problems:
            warnings.warn(Remark(f"{found}."), stacklevel=2)

    def test_targets_are_plausible(self, spec: DatasetSpec) -> None:
        """Targets are finite and make sense for the property: key and unit are right."""
        card, what = spec.read_card(), self._property(spec)
        key, factor = card.target or what.column, factor_of(spec.name, card, what)
        values = [row.get(key) for row in self._raw_rows(spec)]
        targets = np.array([v for v in values if v is not None], dtype=np.float64) * factor
        low, high = self.target_range or RANGES.get(what.name, (what.lowest, what.highest))
        with np.errstate(invalid="ignore"):
            wrong = targets[~((targets >= low) & (targets <= high))]
        promise(
            len(targets) > 0 and not len(wrong),
            f"{key!r} is {what.symbol} in {card.unit}, from {low:g} to {high:g} {what.unit}",
            f"{len(wrong)} of {len(targets)} targets outside, as {wrong[:3].tolist()}",
            "see whether card and rows agree on key and unit; set `target_range` if it is right",
        )

    def test_crystals_are_plausible(self, spec: DatasetSpec) -> None:
        """Volumes per atom and distances are those of crystals: lengths are in Å."""
        dataset = self._dataset(spec)
        low, high = VOLUME_RANGE
        for row_id, crystal in zip(dataset.ids, dataset.crystals, strict=True):
            volume = abs(float(np.linalg.det(crystal.lattice))) / len(crystal.species)
            promise(
                low <= volume <= high,
                f"{low:g} to {high:g} Å³ per atom",
                f"{volume:.3g} Å³ in row {row_id}",
                "see whether the lattice is in Å, one vector per row, and no site is missing",
            )
            shortest = _shortest_distance(crystal)
            promise(
                shortest >= SHORTEST_DISTANCE,
                f"atoms at least {SHORTEST_DISTANCE} Å apart",
                f"{shortest:.3g} Å in row {row_id}",
                "see whether coordinates are fractional, and no site is there twice",
            )

    def test_rows_are_not_more_than_the_card_says(self, spec: DatasetSpec) -> None:
        """The card's number of rows, where it gives one, holds."""
        rows = spec.read_card().rows
        if rows is None:
            skip("the card gives no number of rows")
        loaded = len(self._dataset(spec)) if spec.parts else len(self._raw_rows(spec))
        promise(
            0 < loaded <= rows,
            f"at most {rows} rows, as the card says",
            f"{loaded} rows",
            f"correct `rows` in {_place(spec)}",
        )

    def test_loading_twice_gives_the_same(self, spec: DatasetSpec) -> None:
        """Two loads have one digest: order and values do not change."""
        first, second = self._dataset(spec).digest, self._dataset(spec).digest
        promise(
            first == second,
            "the same rows in the same order at every load",
            "two loads have different digests",
            "draw nothing at random, and sort what comes from a set or a folder",
        )

    def test_parts_make_up_the_whole(self, spec: DatasetSpec) -> None:
        """A composite dataset is its parts one after the other, each once."""
        if not spec.parts:
            skip("the dataset has no parts")
        registry = self._registry()
        unknown = [part for part in spec.parts if part not in registry.datasets]
        promise(
            not unknown,
            "every part is a registered dataset",
            f"unknown: {', '.join(unknown)}",
            "offer the parts too, or install the plugin that does",
        )
        loader = DatasetLoader(registry, self._locations())
        leaves = [leaf for part in spec.parts for leaf in loader.parts(part)]
        promise(
            len(set(leaves)) == len(leaves),
            "every part is there once",
            f"parts {', '.join(leaves)}",
            "name every part once; parts of parts count",
        )
        whole = self._dataset(spec)
        ids = tuple(row_id for leaf in leaves for row_id in loader[leaf].ids)
        promise(
            whole.ids == ids,
            "the rows of the parts, in order",
            f"{len(whole)} rows instead of {len(ids)}",
            "leave joining to the core",
        )

    def _property(self, spec: DatasetSpec) -> PropertySpec:
        return self._registry().properties[spec.read_card().property]

    def _raw_rows(self, spec: DatasetSpec) -> list[Mapping[str, Any]]:
        if spec.load is None:
            skip("the dataset has no rows of its own")
        try:
            return list(spec.load(self._locations()))
        except DataError as problem:
            skip(f"the rows are not on this machine: {problem}")

    def _dataset(self, spec: DatasetSpec) -> Dataset:
        if spec.load is not None or not spec.parts:
            return build_dataset(
                spec.name, spec.read_card(), self._property(spec), self._raw_rows(spec)
            )
        try:
            return DatasetLoader(self._registry(), self._locations())[spec.name]
        except DataError as problem:
            skip(f"the rows are not on this machine: {problem}")


def _place(spec: DatasetSpec) -> str:
    return str(spec.card) if isinstance(spec.card, Path) else "the card"


def _shortest_distance(crystal: Crystal) -> float:
    """Shortest distance in Å between two sites, or from a site to its own image.

    Images are looked for among the nearest in fractions of the cell. In a skewed cell a shorter
    one may be missed, so what is found too short is too short.
    """
    lattice = crystal.lattice
    shortest = float(np.linalg.norm(lattice, axis=1).min())
    pairs = np.triu_indices(len(crystal.species), k=1)
    apart = (crystal.frac_coords[:, None] - crystal.frac_coords[None])[pairs]
    if not len(apart):
        return shortest
    distances = np.linalg.norm((apart - np.round(apart)) @ lattice, axis=1)
    return min(shortest, float(distances.min()))
