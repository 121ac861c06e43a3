"""Finds plugins, checks everything they hand over, and resolves names. pluggy checks none of it."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from harness import hookspecs
from harness.contracts import (
    BackboneSpec,
    DatasetSpec,
    HeadSpec,
    MetricSpec,
    ProtocolSpec,
    TransferSpec,
)
from harness.errors import PluginError, did_you_mean

ENTRY_POINT_GROUP = "harness"

OBSERVER_HOOKS = ("stage_started", "epoch_finished", "stage_finished", "cell_finished")

Spec = TypeVar("Spec", BackboneSpec, DatasetSpec, HeadSpec, MetricSpec, ProtocolSpec, TransferSpec)


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin found but not usable: its name and what happened, with file and line."""

    name: str
    problem: str


class Catalogue(Mapping[str, Spec], Generic[Spec]):
    """Everything of one kind that plugins offer, by name."""

    def __init__(self, kind: str, broken: Sequence[BrokenPlugin]) -> None:
        self.kind = kind
        self._specs: dict[str, Spec] = {}
        self._owner: dict[str, str] = {}
        self._broken = broken

    def add(self, spec: Spec, plugin: str) -> None:
        """Adds one spec.

        Raises:
            PluginError: another plugin already offers that name.
        """
        if spec.name in self._specs:
            raise PluginError(
                f"Two plugins offer the {self.kind} {spec.name!r}: {self._owner[spec.name]!r} and "
                f"{plugin!r}. Uninstall one, or rename the {self.kind} in one of them."
            )
        self._specs[spec.name] = spec
        self._owner[spec.name] = plugin

    def owner(self, name: str) -> str:
        """Name of the plugin that offers `name`."""
        return self._owner[name]

    def __getitem__(self, name: str) -> Spec:
        if name not in self._specs:
            raise PluginError(self._unknown(name))
        return self._specs[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def _unknown(self, name: str) -> str:
        text = f"Unknown {self.kind} {name!r}.{did_you_mean(name, self._specs)}"
        for plugin in self._broken:
            text += f"\nThis plugin failed to load: {plugin.name}: {plugin.problem}"

        return text


class Registry:
    """All loaded plugins and what they offer.

    Attributes:
        datasets, backbones, heads, transfers, protocols, metrics: catalogues by name; looking up
            an unknown name raises `PluginError` with a suggestion.
        broken: installed plugins that failed to load. They cost nothing unless their things are
            asked for.
    """

    def __init__(self, plugin_files: Sequence[Path] = ()) -> None:
        self.broken: list[BrokenPlugin] = []
        self.manager = pluggy.PluginManager("harness")
        self.manager.add_hookspecs(hookspecs)
        self.datasets: Catalogue[DatasetSpec] = Catalogue("dataset", self.broken)
        self.backbones: Catalogue[BackboneSpec] = Catalogue("backbone", self.broken)
        self.heads: Catalogue[HeadSpec] = Catalogue("head", self.broken)
        self.transfers: Catalogue[TransferSpec] = Catalogue("transfer", self.broken)
        self.protocols: Catalogue[ProtocolSpec] = Catalogue("protocol", self.broken)
        self.metrics: Catalogue[MetricSpec] = Catalogue("metric", self.broken)
        for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
            self._load_entry_point(entry)
        for path in plugin_files:
            self._register(_import_file(path), str(path))

    def catalogues(self) -> tuple[Catalogue[Any], ...]:
        """All catalogues, in the order in which a benchmark file names them."""
        return tuple(catalogue for _, _, catalogue in self._offer_hooks())

    def add_observer(self, observer: object) -> None:
        """Adds an object with observer hooks, checked like a plugin.

        Raises:
            PluginError: it has no hook, or one that is misspelt, unmarked or takes other arguments.
        """
        kind = getattr(observer, "__name__", type(observer).__name__)
        number = len(self.manager.get_plugins()) + 1  # two may be of one class
        self._register(observer, f"{kind} (observer {number})")
        if not self.manager.get_hookcallers(observer):
            raise PluginError(
                f"The observer {observer!r} has no hook. Observers are objects with methods marked "
                f"@hookimpl: {', '.join(OBSERVER_HOOKS)}."
            )

    def _load_entry_point(self, entry: EntryPoint) -> None:
        try:
            plugin = entry.load()
        except Exception as problem:  # any plugin may raise anything; it must not take us down
            self.broken.append(BrokenPlugin(entry.name, _where_it_broke(problem)))
            return
        try:
            self._register(plugin, entry.name)
        except _HookRaised as raised:
            self.broken.append(BrokenPlugin(entry.name, str(raised)))

    def _register(self, plugin: object, name: str) -> None:
        _check_hooks(plugin, name)
        offers = [
            (catalogue, self._offers(plugin, name, hook, spec_type))
            for hook, spec_type, catalogue in self._offer_hooks()
        ]
        for catalogue, specs in offers:
            for spec in specs:
                catalogue.add(spec, name)
        self.manager.register(plugin, name)

    def _offer_hooks(self) -> list[tuple[str, type[Any], Catalogue[Any]]]:
        return [
            ("register_datasets", DatasetSpec, self.datasets),
            ("register_backbones", BackboneSpec, self.backbones),
            ("register_heads", HeadSpec, self.heads),
            ("register_transfers", TransferSpec, self.transfers),
            ("register_protocols", ProtocolSpec, self.protocols),
            ("register_metrics", MetricSpec, self.metrics),
        ]

    @staticmethod
    def _offers(plugin: object, name: str, hook: str, spec_type: type[Any]) -> list[Any]:
        function = getattr(plugin, hook, None)
        if function is None:
            return []
        try:
            specs = list(function())
        except Exception as problem:
            where = _where_it_broke(problem)
            raise _HookRaised(f"Plugin {name!r}: {hook}() raised {where}") from problem
        for spec in specs:
            if not isinstance(spec, spec_type):
                raise PluginError(
                    f"Plugin {name!r}: {hook}() must return {spec_type.__name__} objects, "
                    f"but returned {type(spec).__name__}: {spec!r}."
                )
        return specs


class _HookRaised(PluginError):
    """A hook raised: fatal for a plugin the user named, a note for an installed one."""


def _known_hooks() -> set[str]:
    return {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "harness_spec")}


def _check_hooks(plugin: object, name: str) -> None:
    """Refuses a misspelt hook and one without its marker, which pluggy would ignore silently."""
    known = _known_hooks()
    for attribute in dir(plugin):
        marked = hasattr(getattr(plugin, attribute, None), "harness_impl")
        if marked and attribute not in known:
            raise PluginError(
                f"Plugin {name!r} implements {attribute!r}, which is no hook."
                f"{did_you_mean(attribute, known)}"
            )
        if attribute in known and not marked:
            raise PluginError(
                f"Plugin {name!r} defines {attribute!r} without the marker: put @hookimpl "
                "(from harness import hookimpl) above it."
            )
        if marked:
            _check_arguments(getattr(plugin, attribute), attribute, name)


def _check_arguments(function: Callable[..., Any], hook: str, plugin: str) -> None:
    expected = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    parameters = inspect.signature(function).parameters.values()
    given = [p.name for p in parameters if p.default is p.empty]
    if given != expected:
        raise PluginError(
            f"Plugin {plugin!r}: the hook {hook}({', '.join(given)}) must take "
            f"{' and '.join(map(repr, expected)) or 'no argument'}: "
            f"write {hook}({', '.join(expected)})."
        )


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"The plugin file {path} does not exist.")
    module_name = f"harness_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"The plugin file {path} is not a Python file (.py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise PluginError(f"The plugin file {path} failed: {_where_it_broke(problem)}") from problem
    return module


def _where_it_broke(problem: Exception) -> str:
    """Returns `Type: message (file, line n)` of the innermost frame."""
    frames = traceback.extract_tb(problem.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(problem, SyntaxError) and problem.filename:
        where = f" ({problem.filename}, line {problem.lineno})"
    return f"{type(problem).__name__}: {problem}{where}"
