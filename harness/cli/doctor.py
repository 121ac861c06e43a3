"""`harness doctor`: what this installation has, and what it lacks."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.cli.options import DataOption, JsonOption, PluginOption, WeightsOption, cores

if TYPE_CHECKING:
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry

PACKAGES = (
    "paraisite-harness torch numpy scipy pandas pymatgen pluggy optuna pydantic matgl mp-api dgl"
).split()


def doctor(
    data_dir: DataOption = None,
    weights_dir: WeightsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show versions, devices, and which data and weights are found; downloads nothing.

    Examples:
        harness doctor
        harness doctor --data-dir data --weights-dir weights
    """
    from dataclasses import replace

    from harness.apps.predict.default_bundle import default_bundle
    from harness.cli.output import print_json, print_table
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry

    locations = replace(Locations.of(data_dir, weights_dir), offline=True)
    registry = Registry(plugin or ())
    rows = [
        *_versions(),
        *_devices(),
        *_datasets(registry, locations),
        *_weights(registry, locations),
        *(_row("plugin", b.name, f"failed: {b.problem}") for b in registry.broken),
        *(
            _row(catalog.kind, name, f"contested: {problem}")
            for catalog in registry.catalogs()
            for name, problem in catalog.contested.items()
        ),
        _row("bundle", "default", default_bundle(locations)),
        _row("folder", "cache", locations.cache),
        _row("folder", "imported datasets", locations.imports),
    ]
    if json:
        print_json(rows)
    else:
        print_table("harness doctor", rows, prose=("state",))


def _row(what: str, name: str, state: Any) -> dict[str, Any]:
    return {"what": what, "name": name, "state": state}


def _versions() -> list[dict[str, Any]]:
    from importlib.metadata import PackageNotFoundError, version

    rows = [_row("version", "python", platform.python_version())]
    for package in PACKAGES:
        try:
            rows.append(_row("version", package, version(package)))
        except PackageNotFoundError:
            rows.append(_row("version", package, "not installed"))
    return rows


def _devices() -> list[dict[str, Any]]:
    """The devices to train on; torch is loaded, which takes a second, only where it knows GPUs."""
    from importlib.metadata import version

    rows = [_row("device", "cpu", f"{cores()} cores")]
    if version("torch").endswith("+cpu"):
        return rows
    import torch

    for index in range(torch.cuda.device_count()):
        rows.append(_row("device", f"cuda:{index}", torch.cuda.get_device_name(index)))
    return rows


def _datasets(registry: Registry, locations: Locations) -> list[dict[str, Any]]:
    from harness.data.dataset_loader import DatasetLoader

    # what is there: a look must not fetch gigabytes
    loader = DatasetLoader(registry, replace(locations, offline=True))

    def look(name: str) -> str:
        return f"{len(loader[name])} usable rows"

    return [_row("dataset", name, _state(look, name)) for name in registry.datasets]


def _weights(registry: Registry, locations: Locations) -> list[dict[str, Any]]:
    from harness.planning.component_ref import ComponentRef
    from harness.planning.configurations import resolve_backbone

    def look(name: str) -> str:
        own = resolve_backbone(ComponentRef(name=name), registry, locations)
        found = own.backbone.find_pretrained(locations)
        return f"{found.name} in {found.path}"

    return [
        _row("weights", name, _state(look, name))
        for name in registry.backbones
        if not registry.backbones[name].made_of
    ]


def _state(look: Callable[[str], str], name: str) -> str:
    """What `look` finds, or why it does not; whatever a plugin raises, the others are shown."""
    from harness.errors import HarnessError

    try:
        return look(name)
    except HarnessError as problem:
        return f"missing: {str(problem).partition('. ')[0]}"  # using it says all, and the remedy
    except ImportError as problem:
        return f"needs {problem.name or problem}"
    except Exception as problem:  # a plugin is somebody else's code
        return f"failed: {type(problem).__name__}: {problem}"
