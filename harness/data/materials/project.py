"""Structures from the Materials Project, by id or by query.

Asked in batches; what has been fetched lies in a cache (`cache`), so a call that was cut off goes
on where it stopped, and one that is repeated asks for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from harness.data.materials.cache import Material, MaterialsCache, open_cache
from harness.data.materials.server import MaterialsServer, Query, Service
from harness.errors import DataError
from harness.plugin.locations import Locations

if TYPE_CHECKING:
    from harness.plugin.crystal import Crystal

BATCH = 200
"""Materials per request: ids then fit into an address, and an answer comes within seconds."""

QUERY_PREFIX = "mp:"
"""What a source begins with that is a query of the Materials Project, as `mp:stable`."""

NAMED_QUERIES: Mapping[str, Query] = {"stable": {"is_stable": True}}

NOT_THERE = "the Materials Project has no such id, and none that it moved to"

_ID = re.compile(r"(mp|mvc)-([0-9]+|[a-z]+)")


@dataclass(frozen=True, eq=False)
class Fetched:
    """What became of ids that were asked for.

    Attributes:
        found: structures by the id that was asked for, moved ones included.
        moved: ids that are called otherwise now, and how.
        missing: ids that gave no structure, and why.
        deprecated: ids of structures that the Materials Project has withdrawn.
        versions: of the database that the structures were fetched from.
    """

    found: Mapping[str, Crystal]
    moved: Mapping[str, str]
    missing: Mapping[str, str]
    deprecated: frozenset[str] = frozenset()
    versions: tuple[str, ...] = ()


def fetch_materials(
    ids: Iterable[str], locations: Locations | None = None, service: Service | None = None
) -> Fetched:
    """Fetches structures by id: from the cache, and what it lacks from the server.

    Args:
        ids: as mp-149; the prefix may be left out. Repeated ones are fetched once.
        locations: `cache` keeps what is fetched; `offline` asks nothing.
        service: how the Materials Project is reached.

    Raises:
        DataError: there is no key or it is refused, the server does not answer, or mp-api is not
            installed. What was fetched before stays in the cache.
    """
    asked = {given: _spelt(given) for given in ids}
    wanted = sorted({name for name in asked.values() if _ID.fullmatch(name)})
    locations = locations or Locations()
    server = MaterialsServer(locations, service or Service())
    with open_cache(locations) as cache:
        lacking = [name for name in wanted if cache.material(cache.moved_to(name)) is None]
        gone = _fetch_lacking(lacking, server, cache) if lacking else {}
        return _sort_out(asked, gone, cache)


def iter_materials(
    query: Query,
    locations: Locations | None = None,
    service: Service | None = None,
    unusable: Callable[[str, str], None] = lambda material_id, reason: None,
) -> Iterator[tuple[str, Crystal]]:
    """Yields (id, structure) for all materials that fit a query, in the server's order of ids.

    Args:
        query: see `Query`; `parse_query` makes one of text.
        locations: `cache` keeps what is fetched; `offline` asks nothing.
        service: how the Materials Project is reached.
        unusable: is called with the id of a material that has no usable structure, and why.

    Raises:
        DataError: see `iter_summaries`.
    """
    for material in iter_summaries(query, (), locations, service):
        if material.crystal is None:
            unusable(material.id, material.reason)
        else:
            yield material.id, material.crystal


def iter_summaries(
    query: Query,
    fields: Sequence[str] = (),
    locations: Locations | None = None,
    service: Service | None = None,
) -> Iterator[Material]:
    """Yields all materials that fit a query, usable or not, in the server's order of ids.

    One page lies in memory at a time. Pages are kept in the cache as they come: an iteration that
    was cut off continues with the first page that is not there, unless the database has a new
    version meanwhile, which begins anew. A query whose pages are all there asks nothing.

    Args:
        query: see `Query`; `parse_query` makes one of text.
        fields: of the summary documents, whose values are wanted too, as `bulk_modulus.vrh`.
        locations: `cache` keeps what is fetched; `offline` asks nothing.
        service: how the Materials Project is reached.

    Raises:
        DataError: as `fetch_materials`; or the query has an unknown name or value.
    """
    key = json.dumps([query, *fields] if fields else query, sort_keys=True)
    locations = locations or Locations()
    server = MaterialsServer(locations, service or Service())
    seen: set[str] = set()  # a material must not come twice, should pages overlap
    with open_cache(locations) as cache:
        version = cache.complete_version(key) or server.version
        for page in count(1):
            kept = cache.page(key, version, page, fields)
            if kept is None:
                materials = server.search(query, page, BATCH, fields)
                last = len(materials) < BATCH or {m.id for m in materials} <= seen
                cache.add_page(key, version, page, materials, last)
            else:
                materials, last = kept
            for material in materials:
                if material.id not in seen:
                    seen.add(material.id)
                    yield material
            if last:
                return


def parse_query(text: str) -> Query:
    """Makes a query of text: `stable`, or `key=value` pairs with commas between them.

    A value is true or false, a number, a range as 1..20, a list as Si+O, or a word.

    Raises:
        DataError: a part is neither a named query nor a pair.
    """
    query: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if part in NAMED_QUERIES:
            query |= NAMED_QUERIES[part]
        elif equals and name and value:
            query[name] = _value(value)
        else:
            raise DataError(
                f"{part!r} is no query of the Materials Project: expected key=value, as "
                f"is_stable=true, num_sites=1..20 or elements=Si+O; or {', '.join(NAMED_QUERIES)}."
            )
    if not query:
        raise DataError(
            "The query of the Materials Project is empty: it would be all of it. Expected "
            f"{', '.join(NAMED_QUERIES)}, or key=value pairs, as is_stable=true,num_sites=1..20."
        )
    return query


def _value(text: str) -> Any:
    low, dots, high = text.partition("..")
    if dots:
        return [_number(low, text), _number(high, text)]
    if "+" in text:
        return text.split("+")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return _number(text, text)
    except DataError:
        return text


def _number(text: str, whole: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{whole!r} is no range of numbers: expected as in 1..20.") from None


# --- by id ------------------------------------------------------------------------------------


def _spelt(material_id: str) -> str:
    text = str(material_id).strip().lower()
    return f"mp-{text}" if text.isdigit() else text


def _fetch_lacking(
    names: Sequence[str], server: MaterialsServer, cache: MaterialsCache
) -> Mapping[str, str]:
    """Fetches into the cache, batch by batch; returns the ids that are not there, and why."""
    _ = server.version  # first of all: whether it can be asked at all
    gone: dict[str, str] = {}
    for start in range(0, len(names), BATCH):
        batch = {name: server.canonical(name) for name in names[start : start + BATCH]}
        found = _by_id(server.by_ids(sorted(batch.values())))
        now = {name: own for name, own in batch.items() if own in found}
        if lacking := {name: own for name, own in batch.items() if own not in found}:
            moved = server.moved(sorted(lacking.values()))
            now |= {name: moved[own] for name, own in lacking.items() if own in moved}
            withdrawn = {own for own in lacking.values() if own not in moved}
            found |= _by_id(server.by_ids(sorted(set(moved.values()))))
            found |= _by_id(server.by_ids(sorted(withdrawn), deprecated=True))
            now |= {name: own for name, own in lacking.items() if own in withdrawn & set(found)}
        cache.add(found.values(), {name: own for name, own in now.items() if own != name})
        gone |= dict.fromkeys(batch.keys() - now.keys(), NOT_THERE)
        server.told(f"{min(start + BATCH, len(names))} of {len(names)} materials asked for")
    return gone


def _by_id(materials: Iterable[Material]) -> dict[str, Material]:
    return {material.id: material for material in materials}


def _sort_out(asked: Mapping[str, str], gone: Mapping[str, str], cache: MaterialsCache) -> Fetched:
    found: dict[str, Crystal] = {}
    moved: dict[str, str] = {}
    missing: dict[str, str] = {}
    deprecated: set[str] = set()
    versions: set[str] = set()
    for given, name in asked.items():
        now = cache.moved_to(name)
        material = cache.material(now)
        if not _ID.fullmatch(name):
            missing[given] = "not an id of the Materials Project: expected one as mp-149"
        elif material is None:
            missing[given] = gone.get(name, f"moved to {now}, which has no structure")
        elif material.crystal is None:
            missing[given] = material.reason
        else:
            found[given] = material.crystal
            versions.add(material.version)
            if material.deprecated:
                deprecated.add(given)
        if now != name:
            moved[given] = now
    return Fetched(found, moved, missing, frozenset(deprecated), tuple(sorted(versions)))
