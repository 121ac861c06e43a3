"""Cases of properties: units, scale, and a metric that makes sense; and two to try others with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.apps.testing.cases import Cases
from harness.apps.testing.promises import broken, promise
from harness.errors import HarnessError
from harness.plugin.property import Needs, PropertySpec

LOG_PROPERTY = PropertySpec(
    name="a-log-property",
    title="property on a log scale",
    symbol="κ",
    column="kappa",
    unit="W/(m·K)",
    scale="log",
    lowest=0.01,
    metric="mae-log",
)
LINEAR_PROPERTY = PropertySpec(
    name="a-linear-property",
    title="property on a linear scale",
    symbol="E",
    column="energy",
    unit="eV",
    scale="linear",
    metric="mae",
)


def fitting(needs: Needs) -> Sequence[PropertySpec]:
    """Returns a property of each scale for which something with a need makes sense."""
    return [spec for spec in (LOG_PROPERTY, LINEAR_PROPERTY) if spec.satisfies(needs)]


class PropertyCases(Cases):
    """What a property promises."""

    spec_type = PropertySpec

    def _line(self, spec: PropertySpec) -> str:
        return spec.title

    def test_units_have_factors(self, spec: PropertySpec) -> None:
        """Every unit has a factor; that of the property's own is 1."""
        promise(
            spec.units.get(spec.unit, 1.0) == 1.0,
            f"the factor of {spec.unit!r}, the property's own unit, is 1",
            f"{spec.units.get(spec.unit)!r}",
            "leave it out of `units`, or choose another `unit`",
        )

    def test_scale_can_be_undone(self, spec: PropertySpec) -> None:
        """Values that make sense come back from the scale as they were."""
        values = self._values(spec)
        again = spec.from_scale(spec.to_scale(values))
        promise(
            bool(np.allclose(again, values, rtol=1e-12, atol=1e-12)),
            "from_scale(to_scale(x)) is x",
            f"{again.tolist()} of {values.tolist()}",
            "leave both as they are in PropertySpec",
        )

    def test_sensible_values_are_accepted(self, spec: PropertySpec) -> None:
        """`lowest` and `highest` make sense, and what is beyond them does not."""
        for value in (spec.lowest, spec.highest):
            if math.isfinite(value):
                promise(
                    not spec.misfit(value),
                    f"{value:g} {spec.unit} makes sense",
                    spec.misfit(value),
                    "see `lowest` and `highest`",
                )

    def test_metric_makes_sense(self, spec: PropertySpec) -> None:
        """The metric that is shown first is registered, and fits."""
        from harness.registry.property_metrics import PropertyMetrics

        try:
            PropertyMetrics(self._registry().metrics, spec)[spec.metric]
        except HarnessError as problem:
            broken("`metric` names a metric that fits", str(problem), "name one that does")

    def test_column_is_its_own(self, spec: PropertySpec) -> None:
        """No other property calls a column of files the same."""
        others = self._registry().properties.values()
        same = [o.name for o in others if o.name != spec.name and o.column == spec.column]
        promise(
            not same,
            f"no other property has the column {spec.column!r}",
            f"so has {', '.join(same)}",
            "choose another `column`",
        )

    def _values(self, spec: PropertySpec) -> np.ndarray:
        low = spec.lowest if math.isfinite(spec.lowest) else -10.0
        high = spec.highest if math.isfinite(spec.highest) else max(10.0, 100 * abs(low))
        return np.linspace(low, high, 9)
