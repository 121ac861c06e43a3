"""Which crystals of two datasets are the same structure, and which are nearly so.

A crystal is the same however it is written: cell, origin, order of sites, size. Nearly the same is
what a model that saw one knows of the other: a supercell of it in which a few atoms are replaced.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core.structure import Structure

    from harness.data.dataset import Dataset
    from harness.plugin.crystal import Crystal

LENGTH_TOLERANCE = 0.2
SITE_TOLERANCE = 0.3
ANGLE_TOLERANCE_DEGREES = 5.0
TOLERANCES = (
    "pymatgen StructureMatcher,\nprimitive cells scaled to equal volume, "
    f"ltol {LENGTH_TOLERANCE}, stol {SITE_TOLERANCE}, angle_tol {ANGLE_TOLERANCE_DEGREES:g}°"
)
"""How structures are compared: the matcher's published defaults, fixed here."""

REPLACED = 1 / 8
"""Share of the atoms that may be of another element in a near structure: one in a cell of eight."""


class StructureComparison:
    """Decides which crystals are the same structure; each pair once, and only if formulas agree."""

    def __init__(self) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self._matcher = StructureMatcher(
            ltol=LENGTH_TOLERANCE, stol=SITE_TOLERANCE, angle_tol=ANGLE_TOLERANCE_DEGREES
        )
        self._structures: dict[str, Structure] = {}
        self._verdicts: dict[tuple[str, str], bool] = {}

    def count_shared(self, dataset: Dataset, other: Dataset) -> int:
        """Counts rows of `dataset` with the structure of a row (not itself) of `other`."""
        itself = other is dataset
        return sum(
            any(
                self._is_same(dataset.crystals[row], other.crystals[candidate])
                for candidate in candidates
                if not (itself and candidate == row)
            )
            for row, candidates in self._pairs(dataset, other)
        )

    def _pairs(self, dataset: Dataset, other: Dataset) -> Iterator[tuple[int, list[int]]]:
        """Yields every row of `dataset` with those of `other` to compare it with."""
        by_formula: dict[str, list[int]] = defaultdict(list)
        for row, formula in enumerate(other.formulas):
            by_formula[formula].append(row)
        for row, formula in enumerate(dataset.formulas):
            yield row, by_formula.get(formula, [])

    def _is_same(self, one: Crystal, other: Crystal) -> bool:
        if one.digest == other.digest:
            return True
        # In the order of digests, for the matcher is not exactly symmetric.
        first, second = sorted((one, other), key=lambda crystal: crystal.digest)
        pair = (first.digest, second.digest)
        if pair not in self._verdicts:
            self._verdicts[pair] = self._fits(self._structure(first), self._structure(second))
        return self._verdicts[pair]

    def _fits(self, first: Structure, second: Structure) -> bool:
        return bool(self._matcher.fit(first, second))

    def _structure(self, crystal: Crystal) -> Structure:
        if crystal.digest not in self._structures:
            self._structures[crystal.digest] = self._prepare(crystal.to_pymatgen())
        return self._structures[crystal.digest]

    def _prepare(self, structure: Structure) -> Structure:
        return structure


class NearComparison(StructureComparison):
    """Decides likewise which are nearly the same: up to `REPLACED` of the atoms of another element.

    What is compared are the sites, once elements are forgotten: a supercell with one atom replaced
    then has the primitive cell of the crystal that it was made of. Which of the sites hold which
    element is not looked at.
    """

    def _pairs(self, dataset: Dataset, other: Dataset) -> Iterator[tuple[int, list[int]]]:
        elements = sorted(
            {el for data in (dataset, other) for c in data.crystals for el in c.species}
        )
        own, theirs = _fractions(dataset, elements), _fractions(other, elements)
        for row, fractions in enumerate(own):
            most = int(fractions.argmax())
            # Whoever is near has the most frequent element too, up to the tolerance.
            likely = np.flatnonzero(theirs[:, most] >= fractions[most] - REPLACED)
            replaced = np.abs(theirs[likely] - fractions).sum(axis=1) / 2
            yield row, likely[replaced <= REPLACED + 1e-9].tolist()

    def _fits(self, first: Structure, second: Structure) -> bool:
        return len(first) == len(second) and super()._fits(first, second)

    def _prepare(self, structure: Structure) -> Structure:
        structure = structure.copy()
        for site in structure:
            site.species = "H"
        return structure.get_primitive_structure()


def _fractions(dataset: Dataset, elements: list[str]) -> NDArray[np.float64]:
    """Share of every element among the atoms of every crystal: rows × elements."""
    places = {element: place for place, element in enumerate(elements)}
    made = np.zeros((len(dataset), len(elements)))
    for row, crystal in enumerate(dataset.crystals):
        for element, atoms in Counter(crystal.species).items():
            made[row, places[element]] = atoms / len(crystal.species)
    return made
