"""The backbone `concat`: several fixed ones side by side, each a block of the embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator

from harness.plugin import BackboneSpec, Settings, hookimpl


def _check_several(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(names) < 2:
        raise ValueError("expected two or more backbones")
    return names


class ConcatSettings(Settings):
    """Settings of the backbone `concat`.

    Attributes:
        of: two or more backbones, as in `backbones`: by name, or as a table of name and settings.
    """

    of: Annotated[tuple[Any, ...], AfterValidator(_check_several)]


@hookimpl
def register_backbones() -> Iterable[BackboneSpec]:
    """Offers `concat`."""
    return [
        BackboneSpec(
            name="concat",
            summary="several fixed backbones side by side, as of = ['descriptors', 'eos']",
            settings=ConcatSettings,
            make="harness_concat.backbone:make_concat",
            made_of="of",
        )
    ]
