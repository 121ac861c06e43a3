"""Datasets and their cards: what a plugin hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.errors import DataError
from harness.plugin.function import Function
from harness.plugin.property import THERMAL_CONDUCTIVITY
from harness.plugin.settings import Settings
from harness.reading import parse_toml, read_text

if TYPE_CHECKING:
    from harness.plugin.locations import Locations


class Card(Settings):
    """What is known about a dataset, given by its plugin or read from a TOML file.

    Unknown keys are refused; property and unit are looked up when the rows are loaded.

    Attributes:
        title: one line for lists.
        property: what the targets are; the name of a registered property.
        target: the key of the target in a row; the property's `column` where it is empty.
        unit: of the target, one that the property knows.
        temperature_kelvin: at which the targets hold.
        method: how they were measured or computed.
        rows: how many there are, usable or not.
        notes: what a user should know.
        url: where the data come from.
        licence: of the data.
        citation: what to cite.
        files: checksums of files to download, by name.
    """

    title: str
    property: str = THERMAL_CONDUCTIVITY
    target: str = ""
    unit: str
    temperature_kelvin: float | None = None
    method: str = ""
    rows: int | None = None
    notes: str = ""
    url: str = ""
    licence: str = ""
    citation: str = ""
    files: Mapping[str, str] = {}

    @classmethod
    def read(cls, path: Path) -> Card:
        """Reads a card.

        Raises:
            DataError: the file is missing or malformed.
        """
        try:
            return cls.model_validate(parse_toml(read_text(path, strict=True)))
        except FileNotFoundError:
            raise DataError(f"The dataset card {path} does not exist.") from None
        except OSError as problem:
            raise DataError(f"The dataset card {path} cannot be read: {problem}") from None
        except ValidationError as problem:
            what = "; ".join(
                f"{'.'.join(map(str, error['loc']))}: {error['msg'].removeprefix('Value error, ')}"
                for error in problem.errors()
            )
            raise DataError(f"The dataset card {path} is malformed: {what}.") from None
        except ValueError as problem:
            raise DataError(f"The dataset card {path} is malformed: {problem}") from None


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset by name.

    Attributes:
        name: as it is written in a benchmark file.
        card: what is known about it (title, target, unit, temperature, method, licence, citation,
            …), or the TOML file that says it.
        load: returns raw rows: mappings with `id`, the target's key, `lattice` (3 × 3, Å),
            `species` and `frac_coords`; or, in place of these three, `structure` as pymatgen's
            `as_dict` writes it. Called only when the rows are needed. Must be absent where `parts`
            is given.
        parts: names of datasets of which this one is the concatenation, in order. A split of the
            whole then follows the splits of its parts.
    """

    name: str
    card: Path | Card
    load: Function[Callable[[Locations], Iterable[Mapping[str, Any]]] | None] = Function(None)
    parts: tuple[str, ...] = ()

    def read_card(self) -> Card:
        """Returns the card, from its file where it has one.

        Raises:
            DataError: see `Card.read`.
        """
        return self.card if isinstance(self.card, Card) else Card.read(self.card)
