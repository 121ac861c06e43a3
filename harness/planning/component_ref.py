"""A thing that comes from a plugin, as a benchmark file names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class ComponentRef(BaseModel):
    """A thing that comes from a plugin, by name, with its settings (checked by the plugin's model).

    In the file: `"megnet"`, or `{ name = "mlp", hidden = [64, 64] }`.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings given beside the name."""
        return dict(self.model_extra or {})

    def with_settings(self, changes: Mapping[str, Any]) -> ComponentRef:
        """The same thing with other settings, which go over its own."""
        return ComponentRef.model_validate({"name": self.name, **self.settings, **changes})

    @property
    def label(self) -> str:
        """Name and settings on one line, as `two-stage(source=AFLOW)`."""
        shown = ", ".join(f"{key}={_plain(value)}" for key, value in self.settings.items())
        return f"{self.name}({shown})" if shown else self.name


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:  # a thing in a list of several
        return ComponentRef.model_validate(value).label
    return "-".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _as_component(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping | ComponentRef):
        return value
    raise ValueError('expected a name, or a table as { name = "mlp", hidden = [64] }')


def _as_components(value: Any) -> Any:
    if isinstance(value, str | Mapping):
        value = [value]
    if isinstance(value, list | tuple):
        return [_as_component(item) for item in value]
    raise ValueError("expected a name or a list of names")


OneComponent = Annotated[ComponentRef, BeforeValidator(_as_component)]
Components = Annotated[
    tuple[ComponentRef, ...], BeforeValidator(_as_components), Field(min_length=1)
]


class NamedComponents(BaseModel):
    """One or more things that come from plugins, named in the settings of another."""

    names: Components
