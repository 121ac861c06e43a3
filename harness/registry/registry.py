"""Finds plugins, holds them to the contract, and resolves the names of what they offer."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

import pluggy

from harness.errors import PluginError
from harness.plugin import hookspecs
from harness.plugin.backbone import BackboneSpec
from harness.plugin.dataset import DatasetSpec
from harness.plugin.head import HeadSpec
from harness.plugin.metric import MetricSpec
from harness.plugin.property import PropertySpec
from harness.plugin.protocol import ProtocolSpec
from harness.plugin.transfer import TransferSpec
from harness.registry.catalog import BrokenPlugin, Catalog
from harness.registry.entry_points import DISTRIBUTION, plugin_entries
from harness.registry.plugin_calls import describe, root_of
from harness.registry.property_metrics import PropertyMetrics
from harness.registry.validation import Refused, ask, check_hooks

NOT_RUN = (
    "a benchmark file lists it, but it has not been run here as it is now, and code of others is "
    "not run where results are only read. If you trust it, run the benchmark, or give it by "
    "--plugin."
)
"""Why a file is not loaded."""

OBSERVER_HOOKS = (
    "executor_started",
    "encoding_progressed",
    "stage_started",
    "epoch_finished",
    "stage_finished",
    "cell_finished",
    "search_progressed",
)


class Registry:
    """All loaded plugins and what they offer.

    Attributes:
        properties, datasets, backbones, heads, transfers, protocols, metrics: catalogs by name;
            looking up an unknown name raises `PluginError` with a suggestion.
        plugins: the modules or objects that were loaded as plugins, by name.
        built_in: names of those among them that come with the harness.
        broken: installed plugins that failed to load. They cost nothing unless their things are
            asked for.
    """

    def __init__(
        self, plugin_files: Sequence[Path] = (), unknown_files: Sequence[Path] = ()
    ) -> None:
        """Loads the installed plugins, then the files.

        Args:
            plugin_files: to load.
            unknown_files: what a benchmark lists and this user has not run (see `known_files`):
                not loaded, but named where a name is not found.

        Raises:
            PluginError: a file cannot be used, or offers a name that is taken. (An installed
                plugin that cannot be used is in `broken`; a name that two of them offer is in
                `contested` of its catalog.)
        """
        self.plugins: dict[str, object] = {}
        self.built_in: set[str] = set()
        self.broken: list[BrokenPlugin] = []
        self._telling = RLock()
        self.manager = pluggy.PluginManager("harness")
        self.manager.add_hookspecs(hookspecs)
        self.properties: Catalog[PropertySpec] = Catalog("property", self.broken)
        self.datasets: Catalog[DatasetSpec] = Catalog("dataset", self.broken)
        self.backbones: Catalog[BackboneSpec] = Catalog("backbone", self.broken)
        self.heads: Catalog[HeadSpec] = Catalog("head", self.broken)
        self.transfers: Catalog[TransferSpec] = Catalog("transfer", self.broken)
        self.protocols: Catalog[ProtocolSpec] = Catalog("protocol", self.broken)
        self.metrics: Catalog[MetricSpec] = Catalog("metric", self.broken)
        for entry in sorted(plugin_entries(), key=_order):
            self._load_entry_point(entry)
        self.broken += [BrokenPlugin(str(path), NOT_RUN, unknown=True) for path in unknown_files]
        self.files = {str(path): path for path in plugin_files}
        for path in plugin_files:
            plugin, name = _import_file(path), str(path)
            self._register(plugin, name)
            self.plugins[name] = plugin

    def catalogs(self) -> tuple[Catalog[Any], ...]:
        """All catalogs, in the order in which a benchmark file names them."""
        return tuple(catalog for _, _, catalog in self._offer_hooks())

    def metrics_of(self, name: str) -> PropertyMetrics:
        """Returns the metrics of a property.

        Raises:
            PluginError: no plugin offers the property.
        """
        return PropertyMetrics(self.metrics, self.properties[name])

    def code_digest(self, plugin: str) -> str:
        """Names the source of a plugin, so that a stage trained by other code is another stage.

        Returns:
            16 hexadecimal digits that depend on every Python file of the plugin (of its top-level
            package, or the one file); empty for built-in plugins, which have the harness's version.
        """
        root = None if plugin in self.built_in else root_of(self.plugins[plugin])
        if root is None:
            return ""
        return source_digest(root)

    def digests(self) -> dict[str, str]:
        """Names the source of every plugin that was loaded from a file, by the file's name."""
        return {path.name: self.code_digest(name) for name, path in self.files.items()}

    def code_of(self, catalog: Catalog[Any], name: str) -> str:
        """Names what computes a backbone or a head: its plugin's code, and its own revision.

        Returns:
            The digest of the code, followed by `r` and the revision where that is above 1.

        Raises:
            PluginError: the name is unknown.
        """
        revision = catalog[name].revision
        digest = self.code_digest(catalog.owner(name))
        return digest if revision == 1 else f"{digest}r{revision}"

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

    def tell(self, hook: str, event: object) -> None:
        """Tells every observer; one that raises is reported, and costs and stops nothing.

        Events of other processes come in threads; observers hear one at a time.
        """
        with self._telling:
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                try:
                    implementation.function(event)
                except (Exception, SystemExit) as problem:  # an observer is somebody else's code
                    warnings.warn(
                        f"The observer {implementation.plugin_name!r} failed in {hook}: "
                        f"{type(problem).__name__}: {problem}",
                        stacklevel=2,
                    )

    def _load_entry_point(self, entry: EntryPoint) -> None:
        """Loads an installed plugin; whatever it does (it may even exit), the harness goes on."""
        name = entry.name
        if name in self.plugins and entry.dist:  # two authors may well choose one name
            name = f"{name} ({entry.dist.name})"
        try:
            plugin = entry.load()
            self._register(plugin, name, contest=True)
        except Refused as refusal:
            self.broken.append(BrokenPlugin(name, str(refusal)))
        except (Exception, SystemExit) as problem:
            self.broken.append(BrokenPlugin(name, describe(problem, _place(entry))))
        else:
            self.plugins[name] = plugin
            if _is_built_in(entry):
                self.built_in.add(name)

    def _register(self, plugin: object, name: str, contest: bool = False) -> None:
        """Takes in all that a plugin offers, or nothing of it.

        Args:
            plugin: module or object with hooks.
            name: of the plugin.
            contest: names that are taken become nobody's; they are an error otherwise.

        Raises:
            PluginError: the plugin breaks the contract, or a name is taken.
        """
        check_hooks(plugin, name)
        root = root_of(plugin)
        offers = [
            (catalog, spec)
            for hook, spec_type, catalog in self._offer_hooks()
            for spec in ask(plugin, name, hook, spec_type, root)
        ]
        if not contest:
            for catalog, spec in offers:
                catalog.refuse_taken(spec.name, name)
        self._tell_pluggy(plugin, name)
        for catalog, spec in offers:
            catalog.add(spec, name)

    def _tell_pluggy(self, plugin: object, name: str) -> None:
        other = self.manager.get_name(plugin)
        if other is not None or self.manager.has_plugin(name):
            raise Refused(f"Plugin {name!r} is registered already, as {other or name!r}.")
        try:
            self.manager.register(plugin, name)
            self.manager.check_pending()
        except pluggy.PluginValidationError as problem:
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            raise Refused(f"Plugin {name!r}: {problem}") from problem

    def _offer_hooks(self) -> list[tuple[str, type[Any], Catalog[Any]]]:
        return [
            ("register_properties", PropertySpec, self.properties),
            ("register_datasets", DatasetSpec, self.datasets),
            ("register_backbones", BackboneSpec, self.backbones),
            ("register_heads", HeadSpec, self.heads),
            ("register_transfers", TransferSpec, self.transfers),
            ("register_protocols", ProtocolSpec, self.protocols),
            ("register_metrics", MetricSpec, self.metrics),
        ]


def source_digest(root: Path) -> str:
    """Returns 16 hexadecimal digits that depend on a Python file, or on all those of a folder."""
    digest = sha256()
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        if path != root:
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _order(entry: EntryPoint) -> tuple[bool, str]:
    """The built-in plugins first, so that they have the names that the README calls them by."""
    return not _is_built_in(entry), entry.name


def _is_built_in(entry: EntryPoint) -> bool:
    return entry.dist is not None and _name_of(entry.dist) == DISTRIBUTION


@lru_cache(maxsize=64)
def _name_of(distribution: Distribution) -> str:
    """Its name, for which all of its metadata are parsed: the same for each of its plugins."""
    return distribution.name


def _place(entry: EntryPoint) -> Path | None:
    """Folder or file of an installed plugin that cannot be imported, where that can be known."""
    try:
        found = importlib.util.find_spec(entry.module.partition(".")[0])
    except (ImportError, ValueError, AttributeError):
        return None
    if found is None or not found.origin:
        return None
    path = Path(found.origin).resolve()
    return path.parent if found.submodule_search_locations else path


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
    except (Exception, SystemExit) as problem:
        del sys.modules[module_name]
        what = describe(problem, path.resolve())
        raise PluginError(f"The plugin file {path} failed: {what}") from problem
    return module
