"""Composition features as a backbone without parameters: what a structure adds starts here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.plugin import BackboneSpec, Settings, hookimpl


class CompositionSettings(Settings):
    """Settings of the backbone `composition`.

    Attributes:
        features: `fractions` of the 118 elements, or `elements`, which adds statistics of the
            elements' properties (see `harness_composition.properties`).
    """

    features: Literal["fractions", "elements"] = "fractions"


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `composition`."""
    return [
        BackboneSpec(
            name="composition",
            summary="element fractions, with statistics of element properties on request",
            settings=CompositionSettings,
            make="harness_composition.backbone:make_composition",
            rows_per_second=100_000.0,
        )
    ]
