"""Loads datasets by name: single ones through their plugin, composite ones from their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.data.dataset import Dataset, build_dataset, join_datasets
from harness.errors import DataError, HarnessError
from harness.registry.plugin_calls import Breach, call, using

if TYPE_CHECKING:
    from harness.plugin.dataset import DatasetSpec
    from harness.plugin.locations import Locations
    from harness.plugin.property import PropertySpec
    from harness.registry.registry import Registry


class DatasetLoader:
    """Datasets, each loaded once.

    Args:
        registry: where names are looked up.
        locations: folders to look in.
        limit: keep at most that many rows of each single dataset (a dry run).
        elements: per user of the data (a backbone's name), the elements it knows; rows with
            others are left out of every dataset, so that all configurations see the same rows.
        screens: tell which rows of a dataset are to be left out besides, by position, and why.
        strict: refuse a dataset with unusable rows instead of reporting them.
    """

    def __init__(
        self,
        registry: Registry,
        locations: Locations,
        limit: int | None = None,
        elements: Iterable[tuple[str, frozenset[str]]] = (),
        screens: Iterable[Callable[[Dataset], Mapping[int, str]]] = (),
        strict: bool = False,
    ) -> None:
        self._registry = registry
        self._locations = locations
        self._limit = limit
        self._elements = tuple(elements)
        self._screens = tuple(screens)
        self._strict = strict
        self._loaded: dict[str, Dataset] = {}
        self._properties: dict[str, PropertySpec] = {}

    def parts(self, name: str) -> tuple[str, ...]:
        """Names of the single datasets that make up `name`; itself where it is one."""
        spec = self._registry.datasets[name]
        if not spec.parts:
            return (name,)
        return tuple(leaf for part in spec.parts for leaf in self.parts(part))

    def property_of(self, name: str) -> PropertySpec:
        """Returns the property of a dataset, as its card says; loads no rows.

        Raises:
            PluginError: no plugin offers the dataset, or the property.
            DataError: the card cannot be read.
        """
        if name not in self._properties:  # asked for at every stage; cards are files
            card = self._registry.datasets[name].read_card()
            self._properties[name] = self._registry.properties[card.property]
        return self._properties[name]

    def __getitem__(self, name: str) -> Dataset:
        """Loads a dataset.

        Raises:
            PluginError: no plugin offers it, or the plugin gives no rows.
            DataError: its rows are missing or unreadable, or unusable and `strict` was asked for.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    @cached_property
    def whole(self) -> DatasetLoader:
        """The datasets with all usable rows, whoever can encode them; nothing is screened."""
        return DatasetLoader(self._registry, self._locations, self._limit)

    def _load(self, name: str) -> Dataset:
        spec = self._registry.datasets[name]
        card = spec.read_card()
        if spec.parts:
            return join_datasets(name, card, [self[part] for part in self.parts(name)])
        if spec.load is None:
            raise DataError(f"The dataset {name!r} has neither `load` nor `parts`: a plugin error.")
        try:
            dataset = build_dataset(
                name, card, self.property_of(name), _rows(spec, self._locations)
            )
        except HarnessError:
            raise
        except OSError as problem:
            raise DataError(
                f"The dataset {name!r} of the plugin {self._registry.datasets.owner(name)!r} "
                f"cannot be read: {problem}"
            ) from problem
        for who, known in self._elements:
            dataset = dataset.knowing_only(known, who)
        if self._limit and len(dataset):  # before crystals are looked at closely
            dataset = dataset.limited(self._limit)
        for screen in self._screens if len(dataset) else ():
            dataset = dataset.without(screen(dataset))
        if self._strict and dataset.problems:
            raise DataError(_unusable(dataset))
        if not len(dataset):
            raise DataError(f"The dataset {name!r} has no usable row. {_unusable(dataset)}")
        return dataset


def _rows(spec: DatasetSpec, locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Asks the plugin for its rows, one by one."""
    load = spec.load
    assert load is not None
    action = f"loading the dataset {spec.name!r}"
    rows = call(load, locations, action=action, returns=Iterable)
    with using(load, action):
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, Mapping):
                raise Breach(
                    load,
                    f"The dataset {spec.name!r}: `load` must return mappings (dicts), but row "
                    f"{number} is {type(row).__name__}: {row!r}.",
                )
            yield row


def _unusable(dataset: Dataset, shown: int = 5) -> str:
    lines = [f"  row {p.row} ({p.id or 'no id'}): {p.reason}" for p in dataset.problems[:shown]]
    more = len(dataset.problems) - shown
    tail = f"\n  … and {more} more" if more > 0 else ""
    return f"{len(dataset.problems)} unusable rows in {dataset.name}:\n" + "\n".join(lines) + tail
