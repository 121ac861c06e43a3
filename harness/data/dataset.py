"""A dataset: its card, its usable rows, the rows that could not be used and why, and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.row_checks import plain_structure, usable_crystal, usable_target
from harness.errors import DataError
from harness.escaping import html_text
from harness.plugin.crystal import Crystal
from harness.plugin.dataset import Card
from harness.plugin.property import THERMAL_CONDUCTIVITY, PropertySpec

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


SHOWN_ROWS = 10
"""Rows that a notebook shows of a dataset."""


@dataclass(frozen=True)
class RowProblem:
    """A row that could not be used.

    Attributes:
        row: its number, from 1, among the rows the plugin returned.
        id: its id where it has one.
        reason: why it cannot be used.
    """

    row: int
    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Usable rows in file order.

    Attributes:
        name: as registered.
        card: what is known about it.
        property: what its targets are.
        ids: one per row.
        parts: the dataset each row comes from; its own name unless it is composite.
        numbers: of the rows, from 1, among those that the plugin returned (for its part).
        targets: in the property's unit.
        crystals: one per row.
        problems: rows left out, with reasons.
    """

    name: str
    card: Card
    property: PropertySpec
    ids: tuple[str, ...]
    parts: tuple[str, ...]
    numbers: tuple[int, ...]
    targets: NDArray[np.float64]
    crystals: tuple[Crystal, ...]
    problems: tuple[RowProblem, ...] = ()

    def __repr__(self) -> str:
        """One line, as a notebook's lists show it."""
        unit = f" in {self.property.unit}" if self.property.unit else ""
        return f"<Dataset {self.name!r}: {len(self)} rows, {self.property.symbol}{unit}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the first rows."""
        told = f"{self!r}".strip("<>")
        return (
            f"<p><b>{html_text(told)}</b></p>{self.frame().head(SHOWN_ROWS).to_html(index=False)}"
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def formulas(self) -> tuple[str, ...]:
        """Reduced formula of each row: its group."""
        return tuple(crystal.formula for crystal in self.crystals)

    @cached_property
    def digest(self) -> str:
        """sha256 over ids, targets and crystals of the usable rows, in order."""
        content = sha256()
        if self.property.name != THERMAL_CONDUCTIVITY:  # once there was no other
            content.update(f"{self.property.name}\n".encode())
        for part, row_id, target, crystal in zip(
            self.parts, self.ids, self.targets, self.crystals, strict=True
        ):
            content.update(
                f"{part}\x1f{row_id}\x1f{float(target)!r}\x1f{crystal.digest}\n".encode()
            )
        return content.hexdigest()

    def positions_of(self, part: str) -> NDArray[np.int64]:
        """Row positions that come from one part."""
        return np.flatnonzero(np.array(self.parts, dtype=object) == part).astype(np.int64)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Dataset:
        """Returns the dataset with these rows only."""
        keep = [int(i) for i in positions]
        return replace(
            self,
            ids=tuple(self.ids[i] for i in keep),
            parts=tuple(self.parts[i] for i in keep),
            numbers=tuple(self.numbers[i] for i in keep),
            targets=self.targets[keep],
            crystals=tuple(self.crystals[i] for i in keep),
        )

    def limited(self, rows: int) -> Dataset:
        """Returns at most `rows` rows, spread evenly over the dataset, for a dry run."""
        if rows >= len(self):
            return self
        return self.take(np.unique(np.linspace(0, len(self) - 1, rows).round().astype(np.int64)))

    def knowing_only(self, elements: frozenset[str], who: str) -> Dataset:
        """Leaves out rows with an element that `who` does not know, as row problems."""
        unknown = {i: sorted(set(c.species) - elements) for i, c in enumerate(self.crystals)}
        return self.without(
            {
                i: f"{who} does not know {', '.join(symbols)}"
                for i, symbols in unknown.items()
                if symbols
            }
        )

    def without(self, bad: Mapping[int, str]) -> Dataset:
        """Leaves out rows, by position, as row problems with these reasons."""
        if not bad:
            return self
        problems = tuple(
            RowProblem(self.numbers[i], self.ids[i], reason) for i, reason in sorted(bad.items())
        )
        kept = self.take([i for i in range(len(self)) if i not in bad])
        return replace(kept, problems=self.problems + problems)

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame: id, part, formula, the property's column, sites."""
        import pandas as pd

        return pd.DataFrame(
            {
                "id": self.ids,
                "part": self.parts,
                "formula": self.formulas,
                self.property.column: self.targets,
                "sites": [len(crystal.species) for crystal in self.crystals],
            }
        )


def build_dataset(
    name: str, card: Card, spec: PropertySpec, raw_rows: Iterable[Mapping[str, Any]]
) -> Dataset:
    """Checks raw rows one by one and keeps the usable ones.

    Args:
        name: the dataset's name, which also becomes each row's part.
        card: gives the target's key and unit.
        spec: the property that the card names.
        raw_rows: see `DatasetSpec.load`.

    Raises:
        DataError: the card's unit is not one of the property.
    """
    factor, key = factor_of(name, card, spec), card.target or spec.column
    ids: list[str] = []
    numbers: list[int] = []
    targets: list[float] = []
    crystals: list[Crystal] = []
    problems: list[RowProblem] = []
    seen: set[str] = set()
    for number, raw in enumerate(raw_rows, start=1):
        row_id = str(raw.get("id", ""))
        try:
            if not row_id:
                raise ValueError("no id")
            if row_id in seen:
                raise ValueError("duplicate id")
            target = usable_target(raw.get(key), key, spec, factor)
            has_plain = "species" in raw or "structure" not in raw
            crystal = usable_crystal(raw if has_plain else plain_structure(raw["structure"]))
        except (ValueError, TypeError, KeyError) as problem:
            problems.append(RowProblem(number, row_id, _reason(problem)))
            continue
        seen.add(row_id)
        ids.append(row_id)
        numbers.append(number)
        targets.append(target * factor)
        crystals.append(crystal)
    return Dataset(
        name,
        card,
        spec,
        tuple(ids),
        (name,) * len(ids),
        tuple(numbers),
        np.array(targets, dtype=np.float64),
        tuple(crystals),
        tuple(problems),
    )


def join_datasets(name: str, card: Card, parts: Sequence[Dataset]) -> Dataset:
    """Concatenates datasets of one property into a composite one; each row keeps its part's name.

    Raises:
        DataError: they are of several properties, or of another one than the card says.
    """
    named = {card.property, *(part.property.name for part in parts)}
    if len(named) > 1:
        raise DataError(
            f"The dataset {name!r} is one of {card.property}, and its parts are of: "
            f"{', '.join(f'{part.name} of {part.property.name}' for part in parts)}. "
            "Join datasets of one property."
        )
    return Dataset(
        name,
        card,
        parts[0].property,
        tuple(row_id for part in parts for row_id in part.ids),
        tuple(origin for part in parts for origin in part.parts),
        tuple(number for part in parts for number in part.numbers),
        np.concatenate([part.targets for part in parts]),
        tuple(crystal for part in parts for crystal in part.crystals),
        tuple(problem for part in parts for problem in part.problems),
    )


def factor_of(name: str, card: Card, spec: PropertySpec) -> float:
    """Returns the factor that turns a dataset's targets into values in the property's unit.

    Raises:
        DataError: names the dataset, the unit, and those that the property has.
    """
    try:
        return spec.factor(card.unit)
    except DataError as problem:
        raise DataError(f"The card of the dataset {name!r}: {problem}.") from None


def _reason(problem: Exception) -> str:
    return f"no {problem.args[0]}" if isinstance(problem, KeyError) else str(problem)
