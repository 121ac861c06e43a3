"""Properties, what is predicted: what a plugin hands over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from harness.errors import DataError, PluginError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from harness.plugin.arrays import Floats

THERMAL_CONDUCTIVITY = "thermal-conductivity"
"""The property of a dataset, a bundle, or results that name none."""

Scale = Literal["log", "linear"]

Needs = Literal["", "positive", "log"]
"""What a metric, a loss or a head asks of a property: nothing, positive values, a log scale."""

NEEDED: Mapping[Needs, str] = {
    "": "any values",
    "positive": "positive values",
    "log": "a property on a logarithmic scale",
}


@dataclass(frozen=True, kw_only=True)
class PropertySpec:
    """A property by name: its unit, and the scale on which it is learnt, averaged and compared.

    Attributes:
        name: as a dataset's card writes it.
        title: in words, as "lattice thermal conductivity".
        symbol: in headings and on axes, as "κ".
        column: what its values are called in files: the key of a row, the beginning of a column of
            predictions. An identifier, as "kappa".
        aliases: other names of columns that are taken for it where a file is imported.
        unit: in which the harness computes.
        units: other units, and the factor that turns a value in them into one in `unit`.
        scale: `log`: models learn log10 of it, means are geometric, errors are ratios. `linear`:
            as it is; zero and negative values are fine.
        lowest: of the values that make sense, in `unit`; a row with another one is left out. On a
            log scale it is above 0, and logarithms see predictions below it as it.
        highest: likewise.
        at_temperature: whether its values hold at a temperature that a card should name.
        metric: name of the metric that is shown first and chooses epochs unless others are named.
        materials_project: the field of the Materials Project's summary documents that holds its
            values, in `unit`, as "band_gap"; of one inside another, "bulk_modulus.vrh". Empty where
            there is none.
    """

    name: str
    title: str
    symbol: str
    column: str
    aliases: tuple[str, ...] = ()
    unit: str
    units: Mapping[str, float] = field(default_factory=dict)
    scale: Scale
    lowest: float = -math.inf
    highest: float = math.inf
    at_temperature: bool = False
    metric: str
    materials_project: str = ""

    def __post_init__(self) -> None:
        """Refuses what contradicts itself.

        Raises:
            PluginError: names the property and what is wrong with it.
        """
        problem = ""
        if self.scale not in get_args(Scale):
            problem = f"scale is {self.scale!r}: expected {' or '.join(get_args(Scale))}"
        elif self.scale == "log" and not self.lowest > 0:
            problem = f"on a log scale `lowest` must be above 0, not {self.lowest:g}"
        elif not self.lowest < self.highest:
            problem = f"`lowest` is {self.lowest:g}, `highest` {self.highest:g}"
        elif not self.column.isidentifier():
            problem = f"`column` is {self.column!r}: expected an identifier, as 'bulk_modulus'"
        elif bad := [unit for unit, factor in self.units.items() if not 0 < factor < math.inf]:
            problem = f"the factor of the unit {bad[0]!r} must be a positive number"
        if problem:
            raise PluginError(f"The property {self.name!r}: {problem}.")

    @property
    def is_log(self) -> bool:
        """Whether its scale is logarithmic."""
        return self.scale == "log"

    @property
    def known_units(self) -> Mapping[str, float]:
        """All its units, its own first, with their factors."""
        return {self.unit: 1.0, **self.units}

    @property
    def spellings(self) -> tuple[str, ...]:
        """One spelling of each unit: the first with its factor."""
        of_factor: dict[float, str] = {}
        for unit, factor in self.known_units.items():
            of_factor.setdefault(factor, unit)
        return tuple(of_factor.values())

    @property
    def quantity(self) -> str:
        """What its values are, as "κ, W/(m·K)"."""
        return f"{self.symbol}, {self.unit}" if self.unit else self.symbol

    @property
    def scale_unit(self) -> str:
        """The unit of differences on its scale."""
        return "decades" if self.is_log else self.unit

    def factor(self, unit: str) -> float:
        """Returns the factor that turns a value in a unit into one in the property's own.

        Raises:
            DataError: it is not a unit of this property; names those that are.
        """
        try:
            return self.known_units[unit]
        except KeyError:
            raise DataError(
                f"{unit!r} is not a unit of {self.title}. Known: {', '.join(self.known_units)}. "
                "Convert the values, or correct the unit or the property"
            ) from None

    def satisfies(self, needs: Needs) -> bool:
        """Whether a metric, a loss or a head with this need makes sense for the property."""
        return {"": True, "positive": self.lowest > 0, "log": self.is_log}[needs]

    def misfit(self, value: float) -> str:
        """Says why a value in the property's unit makes no sense; empty if it does."""
        if not value >= self.lowest:
            why = ", below which metrics tell nothing apart" if self.is_log else ""
            return f"expected at least {self.lowest:g} {self.unit}{why}; is the unit right?"
        if not value <= self.highest:
            return f"expected at most {self.highest:g} {self.unit}; is the unit right?"
        return ""

    def to_scale(self, values: ArrayLike) -> Floats:
        """Values in the property's unit → its scale: log10, floored at `lowest`; or as they are."""
        import numpy as np

        y = np.log10(np.maximum(values, self.lowest)) if self.is_log else values
        return np.asarray(y, dtype=np.float64)

    def from_scale(self, scaled: ArrayLike) -> Floats:
        """The inverse of `to_scale`; may overflow to infinity."""
        import numpy as np

        with np.errstate(over="ignore"):
            y = 10.0 ** np.asarray(scaled) if self.is_log else scaled
        return np.asarray(y, dtype=np.float64)

    def mean(self, values: Floats) -> Floats:
        """Returns the mean on the property's scale (log: geometric), models × rows → rows.

        NaN where one is NaN.
        """
        import numpy as np

        with np.errstate(invalid="ignore"):
            return self.from_scale(self.to_scale(values).mean(axis=0))
