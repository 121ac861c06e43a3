"""Leave one group out: every run tests materials of a kind that it has not been trained on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from math import fsum
from typing import Literal, Self

from pydantic import Field, model_validator

from harness.plugin import (
    BenchmarkError,
    BenchmarkRows,
    Settings,
    Split,
    did_you_mean,
)
from harness_strict.prototypes import prototype
from harness_strict.sides import LeakFreeRules, divide

Kind = Literal["element", "chemical-system", "prototype", "target-quantile"]

LEFT_OUT = "left out: "
"""Before the name of the group that a run tests; no reduced formula has a colon in it."""


class LeftOutSettings(Settings):
    """Settings of `leave-one-out`.

    Attributes:
        by: what the rows of a group have in common: an element that they contain, all their
            elements, their prototype, or a range of the target that holds an equal share of rows.
        groups: names of those to leave out, run by run. Unless given, those that the most datasets
            have that are tested on; of these, those with the largest share of rows in them.
        quantiles: ranges that the target is cut into.
        validation: share of the rows that are not tested, to select on.
        keep: share of the training rows that is trained on, for learning curves; as in `strict`.
    """

    by: Kind = "element"
    groups: tuple[str, ...] = ()
    quantiles: int = Field(default=5, ge=2)
    validation: float = Field(default=0.1, gt=0, lt=1)
    keep: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.by == "target-quantile" and self.groups:
            raise ValueError("groups: quantiles have no names; every run leaves out the next")
        usual = type(self).model_fields["quantiles"].default
        if self.by != "target-quantile" and self.quantiles != usual:
            raise ValueError('quantiles needs by = "target-quantile"')
        return self


class LeftOutRules(LeakFreeRules):
    """Run r tests all rows of one group, in every dataset; otherwise as `strict`.

    Rows outside the group that have the reduced formula of a row in it have no role in that run.
    """

    resampling = "groups"
    may_test_nothing = True

    def __init__(self, settings: LeftOutSettings) -> None:
        self.settings = settings

    def name_runs(self, runs: int, rows: BenchmarkRows) -> Sequence[str]:
        """Names the groups that are left out.

        Raises:
            BenchmarkError: there are not so many groups, or one that is asked for is not there.
        """
        by, asked, have = self.settings.by, self.settings.groups, _ranked(rows, self._cut)
        for name in asked:
            if name not in have:
                raise BenchmarkError(
                    f"groups: no row that is tested on has the {by} {name!r}."
                    f"{did_you_mean(name, have)}"
                )
        if self._cut[0] == "target-quantile" and runs != len(have):
            raise BenchmarkError(
                f"runs = {runs}: leaving out one range of the target at a time needs as many runs "
                f"as there are ranges, {len(have)}."
            )
        if runs > (most := len(asked or have)):
            raise BenchmarkError(
                f"runs = {runs}: every run leaves out another {by}, and there are {most} to leave "
                f"out. Set runs to 1 … {most}."
            )
        return self.chosen(rows)[:runs]

    def group(self, rows: BenchmarkRows, run: int) -> Sequence[str | None]:
        """The rows to leave out are one group, twins of theirs none, others go by formula."""
        name = self.chosen(rows)[run - 1]
        held = [name in own for own in _groups_of(rows, self._cut)]
        twins = {formula for formula, out in zip(rows.formulas, held, strict=True) if out}
        return [
            LEFT_OUT + name if out else None if formula in twins else formula
            for formula, out in zip(rows.formulas, held, strict=True)
        ]

    def split(self, groups: Sequence[str], run: int, seed: int) -> Split:
        """Tests what is left out, and draws validation rows, by formula, from the others.

        Raises:
            DataError: nothing is left to train on or to select on.
        """
        tested = frozenset(name for name in groups if name.startswith(LEFT_OUT))
        return divide(groups, tested, seed, self.settings.validation, self.settings.keep)

    @property
    def _cut(self) -> tuple[Kind, int]:
        return self.settings.by, self.settings.quantiles

    def chosen(self, rows: BenchmarkRows) -> tuple[str, ...]:
        """Names of the groups to leave out, in the order of runs, for as many as there could be."""
        return self.settings.groups or _ranked(rows, self._cut)


@lru_cache(maxsize=2)
def _ranked(rows: BenchmarkRows, cut: tuple[Kind, int]) -> tuple[str, ...]:
    """Names of all groups with rows that are tested on, in the order of preference.

    Ranges of the target go from the lowest. Of others come first those that the most datasets have
    (a run tests nothing in a dataset without its group), and of these those with the largest mean
    share of a dataset's rows: numbers of rows would let the largest dataset decide alone.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for names, dataset, tested in zip(
        _groups_of(rows, cut), rows.datasets, rows.tested.tolist(), strict=True
    ):
        if tested:
            for name in names:
                sizes[name][dataset] += 1
    if cut[0] == "target-quantile":
        return tuple(sorted(sizes, key=lambda name: int(name.split()[1].rstrip(":"))))
    wholes = Counter(rows.datasets)

    def preference(name: str) -> tuple[int, float, str]:
        shares = [size / wholes[dataset] for dataset, size in sizes[name].items()]
        return -len(shares), -fsum(shares), name

    return tuple(sorted(sizes, key=preference))


@lru_cache(maxsize=2)
def _groups_of(rows: BenchmarkRows, cut: tuple[Kind, int]) -> tuple[frozenset[str], ...]:
    """Names of the groups that each row is in."""
    by, quantiles = cut
    if by == "target-quantile":
        return _ranges(rows, quantiles)
    if by == "element":
        return tuple(frozenset(crystal.species) for crystal in rows.crystals)
    if by == "chemical-system":
        return tuple(frozenset(["-".join(sorted(set(c.species)))]) for c in rows.crystals)
    return tuple(frozenset([prototype(crystal)]) for crystal in rows.crystals)


def _ranges(rows: BenchmarkRows, quantiles: int) -> tuple[frozenset[str], ...]:
    """The range of the target that each row is in; none for rows of another property.

    Ranges hold equal shares of the rows that are tested on. A value at a bound is in the upper one.
    """
    import numpy as np

    tested = rows.targets[rows.tested]
    inner = np.unique(np.quantile(tested, np.arange(1, quantiles) / quantiles))
    bounds = [tested.min(), *inner, tested.max()]
    names = [
        f"range {number}: {low:.3g} to {high:.3g}"
        for number, (low, high) in enumerate(pairwise(bounds), start=1)
    ]
    places = np.searchsorted(inner, rows.targets, side="right")
    return tuple(
        frozenset() if np.isnan(target) else frozenset([names[place]])
        for target, place in zip(rows.targets, places, strict=True)
    )
