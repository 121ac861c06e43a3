"""Metrics as they are of one property: titles and units filled in, misfits refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError
from harness.plugin.metric import MetricSpec
from harness.plugin.property import NEEDED, PropertySpec

if TYPE_CHECKING:
    from harness.registry.catalog import Catalog


@dataclass(frozen=True)
class PropertyMetric(MetricSpec):
    """A metric of one property.

    Attributes:
        property: whose values it compares.
    """

    property: PropertySpec = field(kw_only=True)


class PropertyMetrics(Mapping[str, PropertyMetric]):
    """The metrics that make sense for a property, by name.

    Looking up one that is unknown raises `PluginError`; one that makes no sense, `BenchmarkError`.
    """

    def __init__(self, catalog: Catalog[MetricSpec], spec: PropertySpec) -> None:
        self.property = spec
        self._catalog = catalog

    def __getitem__(self, name: str) -> PropertyMetric:
        metric, spec = self._catalog[name], self.property
        if not spec.satisfies(metric.needs):
            raise BenchmarkError(
                f"The metric {name!r} needs {NEEDED[metric.needs]}, and makes no sense for "
                f"{spec.title}. Those that do: {', '.join(self)}."
            )
        given = {one.name: getattr(metric, one.name) for one in fields(metric)}
        for text in ("title", "unit"):
            given[text] = given[text].replace("{symbol}", spec.symbol).replace("{unit}", spec.unit)
        return PropertyMetric(**given, property=spec)

    def __contains__(self, name: object) -> bool:
        return name in self._catalog and self.property.satisfies(self._catalog[str(name)].needs)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._catalog if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
