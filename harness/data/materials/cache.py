"""What was fetched from the Materials Project, kept in one SQLite file of the user's cache.

A batch is one transaction: after a break, whatever its kind, the file holds whole batches, and the
next call goes on from there. Two processes may use it at once. Nothing in it is secret: the file
holds structures, ids and queries, and never a key.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from harness.plugin.crystal import Crystal

if TYPE_CHECKING:
    from harness.plugin.locations import Locations

LOCK_SECONDS = 60.0
"""How long one process waits for another one's transaction."""

_TABLES = """
CREATE TABLE IF NOT EXISTS materials (id TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS moved (id TEXT PRIMARY KEY, now TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pages (
  query TEXT, version TEXT, page INTEGER, ids TEXT NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (query, version, page)
);
"""


@dataclass(frozen=True, eq=False)
class Material:
    """A material of the Materials Project.

    Attributes:
        id: its current one, as mp-149.
        crystal: its structure; none where it cannot be used.
        reason: why it cannot be used; empty otherwise.
        version: of the database that it was fetched from.
        deprecated: whether the Materials Project has withdrawn it.
        values: of the fields that were asked for besides; None where it has none.
    """

    id: str
    crystal: Crystal | None
    reason: str = ""
    version: str = ""
    deprecated: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


class MaterialsCache:
    """Materials by id, ids that moved, and the pages of queries; see `open_cache`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def material(self, material_id: str) -> Material | None:
        """Returns a material, or None where it was not fetched or its entry is damaged."""
        found = self._one("SELECT content FROM materials WHERE id = ?", material_id)
        try:
            return _unpack(material_id, found[0]) if found else None
        except (ValueError, KeyError, TypeError, zlib.error):
            return None

    def moved_to(self, material_id: str) -> str:
        """Returns the current id of a material; the same one unless it is known to have moved."""
        found = self._one("SELECT now FROM moved WHERE id = ?", material_id)
        return str(found[0]) if found else material_id

    def add(self, materials: Iterable[Material], moved: Mapping[str, str] | None = None) -> None:
        """Keeps materials, and the current ids of such as moved."""
        with self._connection as transaction:
            self._insert(transaction, materials)
            transaction.executemany(
                "INSERT OR REPLACE INTO moved VALUES (?, ?)", (moved or {}).items()
            )

    def add_page(
        self, query: str, version: str, page: int, materials: Sequence[Material], last: bool
    ) -> None:
        """Keeps one page of a query's answer."""
        ids = json.dumps([material.id for material in materials])
        with self._connection as transaction:
            self._insert(transaction, materials)
            transaction.execute(
                "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?)",
                (query, version, page, ids, int(last)),
            )

    def complete_version(self, query: str) -> str | None:
        """Returns the newest version of the database for which all pages of a query are there."""
        found = self._one(
            "SELECT version FROM pages WHERE query = ? AND last ORDER BY version DESC", query
        )
        return str(found[0]) if found else None

    def page(
        self, query: str, version: str, page: int, fields: Sequence[str] = ()
    ) -> tuple[list[Material], bool] | None:
        """Returns a page of a query and whether it is the last; None unless all of it is there.

        Args:
            query: text that stands for it.
            version: of the database.
            page: its number.
            fields: whose values must be there too.
        """
        found = self._one(
            "SELECT ids, last FROM pages WHERE query = ? AND version = ? AND page = ?",
            *(query, version, page),
        )
        if not found:
            return None
        kept = [self.material(material_id) for material_id in json.loads(found[0])]
        whole = [m for m in kept if m is not None and m.values.keys() >= {*fields}]
        return (whole, bool(found[1])) if len(whole) == len(kept) else None

    def _one(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return row

    def _insert(self, transaction: sqlite3.Connection, materials: Iterable[Material]) -> None:
        transaction.executemany(
            "INSERT OR REPLACE INTO materials VALUES (?, ?)",
            [(material.id, _pack(self._with_known_values(material))) for material in materials],
        )

    def _with_known_values(self, material: Material) -> Material:
        """Adds what another question has asked for of the same version: one cache for all."""
        known = self.material(material.id)
        if known is None or known.version != material.version:
            return material
        return replace(material, values={**known.values, **material.values})


@contextmanager
def open_cache(locations: Locations) -> Iterator[MaterialsCache]:
    """Opens the cache, making it where there is none.

    Raises:
        DataError: it cannot be made, read or written; the file is named with the remedy.
    """
    path = locations.cache / "materials-project" / "materials.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS)
        connection.executescript(_TABLES)
    except (sqlite3.Error, OSError) as problem:
        raise _unusable(path, problem) from None
    with closing(connection):
        try:
            yield MaterialsCache(connection)
        except sqlite3.Error as problem:
            raise _unusable(path, problem) from None


def _unusable(path: Path, problem: Exception) -> DataError:
    return DataError(
        f"The cache of the Materials Project, {path}, cannot be used: {problem}. "
        "Make its folder writable or point $HARNESS_CACHE elsewhere; where the file is damaged, "
        "remove it: what was in it is fetched again."
    )


def _pack(material: Material) -> bytes:
    crystal = material.crystal
    content: dict[str, object] = {"version": material.version, "deprecated": material.deprecated}
    if material.values:
        content["values"] = dict(material.values)
    if crystal is None:
        content["reason"] = material.reason
    else:
        content["lattice"] = crystal.lattice.tolist()
        content["species"] = list(crystal.species)
        content["frac_coords"] = crystal.frac_coords.tolist()
    return zlib.compress(json.dumps(content).encode())


def _unpack(material_id: str, packed: bytes) -> Material:
    content = json.loads(zlib.decompress(packed))
    known = {"version": content["version"], "deprecated": content["deprecated"]}
    known["values"] = content.get("values", {})
    if "reason" in content:
        return Material(material_id, None, content["reason"], **known)
    crystal = Crystal(
        np.array(content["lattice"], dtype=np.float64),
        tuple(content["species"]),
        np.array(content["frac_coords"], dtype=np.float64),
    )
    return Material(material_id, crystal, **known)
