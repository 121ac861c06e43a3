"""What a scan goes through: a dataset, files, or a query of the Materials Project, item by item."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.dataset_loader import DatasetLoader
from harness.data.materials.project import QUERY_PREFIX, iter_materials, parse_query
from harness.data.structure_files import StructureRow, UnreadStructure, find_records
from harness.errors import DataError, did_you_mean
from harness.registry.attribution import blaming

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.plugin.locations import Locations
    from harness.registry.registry import Registry

Item = UnreadStructure | StructureRow
"""A structure that is still to be read, or was read."""


@dataclass(frozen=True, eq=False)
class ScanSource:
    """Structures in a settled order, which can be gone through any number of times.

    Attributes:
        name: as it was asked for.
        items: begins anew; one item lies in memory at a time, unless it is a dataset's.
    """

    name: str
    items: Callable[[], Iterator[Item]]


def find_source(name: str, registry: Registry, locations: Locations) -> ScanSource:
    """Finds what a scan is to go through.

    Args:
        name: of a dataset; of a file or folder; or `mp:` and a query, as `mp:stable`.
        registry: of the datasets.
        locations: where data are looked for.

    Raises:
        DataError: it is nothing of the kind.
    """
    if name.startswith(QUERY_PREFIX):
        return _ask_materials_project(name, locations)
    if name in registry.datasets:
        with blaming(registry):
            dataset = DatasetLoader(registry, locations)[name]
        return ScanSource(name, lambda: _rows(dataset))
    path = Path(name)
    if not path.exists():
        raise DataError(
            f"There is no file or folder {name!r}, and no dataset of that name."
            f"{did_you_mean(name, registry.datasets)} A query of the Materials Project begins "
            f"with {QUERY_PREFIX}, as mp:stable."
        )
    return ScanSource(name, lambda: find_records(path))


def digest_item(item: Item) -> bytes:
    """Names an item by its content."""
    if isinstance(item, StructureRow):
        content = item.crystal.digest if item.crystal else item.reason
    elif isinstance(item.content, str):
        content = item.content
    else:
        content = pickle.dumps(item.content).hex()
    return sha256(f"{item.id}\x1f{content}".encode("utf-8", "surrogatepass")).digest()


def read_item(item: Item) -> StructureRow:
    """Reads what is still to be read."""
    return item.read() if isinstance(item, UnreadStructure) else item


def _rows(dataset: Dataset) -> Iterator[StructureRow]:
    """The usable rows, then those that could not be used."""
    for name, crystal in zip(dataset.ids, dataset.crystals, strict=True):
        yield StructureRow(name, crystal)
    for problem in dataset.problems:
        yield StructureRow(problem.id or f"row {problem.row}", None, problem.reason)


def _ask_materials_project(name: str, locations: Locations) -> ScanSource:
    query = parse_query(name.removeprefix(QUERY_PREFIX))

    def items() -> Iterator[StructureRow]:
        unusable: list[StructureRow] = []

        def note(material_id: str, reason: str) -> None:
            unusable.append(StructureRow(material_id, None, reason))

        for material_id, crystal in iter_materials(query, locations, unusable=note):
            yield from unusable
            unusable.clear()
            yield StructureRow(material_id, crystal)
        yield from unusable

    return ScanSource(name, items)
