"""Entry points of installed plugins."""

from __future__ import annotations

from configparser import ConfigParser
from importlib.metadata import EntryPoint, distributions, entry_points

DISTRIBUTION = "paraisite-harness"
"""Whose plugins are the built-in ones."""

ENTRY_POINT_GROUP = "harness"


def plugin_entries() -> list[EntryPoint]:
    """Returns the entry points of all installed plugins, those that name nothing too.

    Where the backport `importlib_metadata` has been imported, it reads in place of the standard
    library, and refuses all entry points for one that is malformed. They are then read one by one.
    """
    try:
        return list(entry_points(group=ENTRY_POINT_GROUP))
    except ValueError:
        found: dict[tuple[str, str], EntryPoint] = {}
        for distribution in distributions():
            parser = ConfigParser(delimiters="=", interpolation=None)
            parser.optionxform = str  # type: ignore[assignment, method-assign]
            parser.read_string(distribution.read_text("entry_points.txt") or "")
            if parser.has_section(ENTRY_POINT_GROUP):
                for name, value in parser.items(ENTRY_POINT_GROUP):
                    entry = EntryPoint(name, value, ENTRY_POINT_GROUP)
                    vars(entry).update(dist=distribution)
                    found.setdefault((name, value), entry)
        return list(found.values())
