"""Descriptors of structure and composition as a backbone of which nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from harness.plugin import BackboneSpec, Choice, Settings, hookimpl


class DescriptorSettings(Settings):
    """Settings of the backbone `descriptors`.

    Attributes:
        features: `plain`, 18 numbers of structure and composition (see
            `harness_descriptors.plain`); `magpie`, the 132 statistics of element properties of
            Ward et al. (2016), which need the extra `matminer`; or `both`.
    """

    features: Literal["plain", "magpie", "both"] = "plain"


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `descriptors`."""
    return [
        BackboneSpec(
            name="descriptors",
            summary="18 descriptors of structure and composition; Magpie's statistics on request",
            settings=DescriptorSettings,
            make="harness_descriptors.backbone:make_descriptors",
            rows_per_second=100_000.0,
            space={"features": Choice("plain", "magpie", "both")},
        )
    ]
