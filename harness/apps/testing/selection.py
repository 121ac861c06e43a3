"""What to check: from a name on the command line to the cases of every spec that it stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.apps.testing import (
    BackboneCases,
    DatasetCases,
    HeadCases,
    MetricCases,
    PropertyCases,
    ProtocolCases,
    TransferCases,
)
from harness.apps.testing.cases import Cases, SettingsCases
from harness.errors import BenchmarkError, PluginError, did_you_mean
from harness.planning.benchmark import apply_override, check_settings
from harness.registry.registry import Registry

if TYPE_CHECKING:
    from harness.plugin.locations import Locations

CASES: Mapping[str, type[Cases]] = {
    "property": PropertyCases,
    "dataset": DatasetCases,
    "backbone": BackboneCases,
    "head": HeadCases,
    "transfer": TransferCases,
    "protocol": ProtocolCases,
    "metric": MetricCases,
}
"""By kind, as the registry's catalogs call it."""


def select_cases(
    name: str, files: Sequence[Path], overrides: Sequence[str], locations: Locations
) -> list[tuple[str, Any, Cases]]:
    """Returns (kind, spec, its cases) of all that a name stands for.

    Args:
        name: of a plugin (then: all that it offers), of a spec of any kind, or a plugin file.
        files: plugin files to load besides the installed plugins.
        overrides: `key=value` settings; each goes to the specs that have it.
        locations: where data and weights lie.

    Raises:
        HarnessError: nothing has that name, the plugin cannot be loaded, a setting is not known,
            or one without a default was not given.
    """
    if name.endswith(".py"):
        name = str(Path(name))
        files = [*files, *(() if Path(name) in files else (Path(name),))]
    registry = Registry(files)
    found = find_specs(name, registry)
    settings = _read_settings(overrides, [spec for _, spec in found])
    return [
        (kind, spec, cases_of(kind, spec, settings, registry, locations)) for kind, spec in found
    ]


def find_specs(name: str, registry: Registry) -> list[tuple[str, Any]]:
    """Returns (kind, spec) of all that the name of a plugin or of a spec stands for.

    Raises:
        PluginError: nothing has that name, the plugin cannot be loaded, or offers no spec.
    """
    found = [
        (catalog.kind, spec)
        for catalog in registry.catalogs()
        for own_name, spec in catalog.items()
        if name in (own_name, catalog.owner(own_name))
    ]
    if found:
        return found
    for catalog in registry.catalogs():
        if name in catalog.contested:
            raise PluginError(catalog.contested[name])
    for plugin in registry.broken:
        if plugin.name == name:
            raise PluginError(f"The plugin {name!r} failed to load: {plugin.problem}")
    if name in registry.plugins:
        raise PluginError(f"The plugin {name!r} offers nothing that there are cases for.")
    known = {*registry.plugins, *(spec for kind in registry.catalogs() for spec in kind)}
    raise PluginError(
        f"No plugin, and nothing that one offers, is called {name!r}.{did_you_mean(name, known)}"
    )


def cases_of(
    kind: str, spec: Any, settings: Mapping[str, Any], registry: Registry, locations: Locations
) -> Cases:
    """Makes the cases of one spec, which takes those of the settings that it has.

    Raises:
        BenchmarkError: a setting has a wrong value, or has no default and was not given.
    """
    cases = CASES[kind]()
    cases.registry, cases.locations = registry, locations
    if isinstance(cases, SettingsCases):
        fields = spec.settings.model_fields
        cases.settings = {key: value for key, value in settings.items() if key in fields}
        given = cases.given(spec)
        missing = [key for key in fields if fields[key].is_required() and key not in given]
        if missing:
            raise BenchmarkError(
                f"The {kind} {spec.name!r} has settings without a default: {', '.join(missing)}. "
                f"Give each of them, as --set {missing[0]}=…"
            )
        if cases.settings:
            check_settings(spec.settings, given, f"{kind} {spec.name!r}")
    return cases


def _read_settings(overrides: Sequence[str], specs: Sequence[Any]) -> dict[str, Any]:
    """Reads `key=value` settings.

    Raises:
        BenchmarkError: one cannot be read, or no spec has it.
    """
    settings: dict[str, Any] = {}
    known = {key for spec in specs for key in _fields(spec)}
    for override in overrides:
        key, *_ = apply_override(settings, override)
        if key not in known:
            names = ", ".join(spec.name for spec in specs)
            raise BenchmarkError(
                f"--set {override}: {names} has no setting {key!r}.{did_you_mean(key, known)}"
            )
    return settings


def _fields(spec: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(getattr(spec, "settings", None), "model_fields", {})
    return fields
