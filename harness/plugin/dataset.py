"""Datasets and their cards: what a plugin hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DataError
from harness.plugin.settings import Settings
from harness.reading import parse_toml, read_text

if TYPE_CHECKING:
    from harness.plugin.locations import Locations

UNITS = {
    f"{prefix}{unit}": factor
    for prefix, factor in (("", 1.0), ("m", 1e-3))
    for unit in ("W/(m·K)", "W/(m*K)", "W/(m K)", "W/mK", "W/m/K", "W m-1 K-1")
}
"""Known units of κ and their factor to W/(m·K), in which the harness computes."""


class Card(Settings):
    """What is known about a dataset, read from its TOML card; unknown keys are refused.

    Attributes:
        title: one line for lists.
        target: the key of the target in a row.
        unit: of the target; one of `UNITS`.
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
    target: str = "kappa"
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
            DataError: the file is missing or malformed, or names a unit that is not of κ.
        """
        try:
            card = cls.model_validate(parse_toml(read_text(path, strict=True)))
        except FileNotFoundError:
            raise DataError(f"The dataset card {path} does not exist.") from None
        except OSError as problem:
            raise DataError(f"The dataset card {path} cannot be read: {problem}") from None
        except ValueError as problem:  # ValidationError is one too
            raise DataError(f"The dataset card {path} is malformed: {problem}") from None
        if card.unit not in UNITS:
            raise DataError(
                f"The dataset card {path} gives the unit {card.unit!r}, which is not a unit of "
                f"thermal conductivity. Known: {', '.join(UNITS)}. Convert the values, or correct "
                "the card."
            )
        return card


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset by name.

    Attributes:
        name: as it is written in a benchmark file.
        card: the TOML card (title, target, unit, temperature, method, licence, citation, …).
        load: returns raw rows: mappings with `id`, the card's target key, `lattice` (3 × 3, Å),
            `species` and `frac_coords`. Called only when the rows are needed. Must be absent
            where `parts` is given.
        parts: names of datasets of which this one is the concatenation, in order. A split of the
            whole then follows the splits of its parts.
    """

    name: str
    card: Path
    load: Callable[[Locations], Iterable[Mapping[str, Any]]] | None = None
    parts: tuple[str, ...] = ()
