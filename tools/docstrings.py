"""What docstrings say, read by griffe: for pages that are written from the source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[1]
SOURCES: Sequence[Path] = (ROOT, ROOT / "plugins")

_SHARED = re.compile(r"^( +)(\w+(?:, \w+)+)(:.*(?:\n\1 +.*)*)$", re.MULTILINE)


class SharedMeanings(griffe.Extension):
    """Gives every name of `low, high: its ends` a line of its own: griffe takes one name a line."""

    def on_object(self, *, obj: griffe.Object, **_context: Any) -> None:
        """Is called for whatever is found in the source."""
        if obj.docstring:
            obj.docstring.value = _SHARED.sub(_one_line_each, obj.docstring.value)


def _one_line_each(found: re.Match[str]) -> str:
    indent, names, meaning = found.groups()
    return "\n".join(f"{indent}{name}{meaning}" for name in names.split(", "))


@cache
def read_source(package: str) -> griffe.Object | griffe.Alias:
    """Returns what the files of a package say, unlike what is there when it runs."""
    extensions = griffe.load_extensions(SharedMeanings)
    return griffe.load(package, search_paths=SOURCES, extensions=extensions)


def read_text(thing: griffe.Object) -> str:
    """Returns the docstring without its lists of attributes, parameters and the like."""
    texts = (s.value for s in sections(thing) if isinstance(s, griffe.DocstringSectionText))
    return "\n\n".join(texts).strip()


def read_meanings(kind: griffe.Class) -> dict[str, str]:
    """Returns what attributes mean, by name, those of bases too.

    They are explained in a list of the class's docstring, or by a docstring of their own.
    """
    found: dict[str, str] = {}
    for owner in (*reversed(kind.mro()), kind):
        for section in sections(owner):
            if isinstance(section, griffe.DocstringSectionAttributes):
                for entry in section.value:
                    found[entry.name] = on_one_line(entry.description)
        for name, member in owner.attributes.items():
            if member.docstring:
                found[name] = on_one_line(member.docstring.value)
    return found


def sections(thing: griffe.Object) -> list[griffe.DocstringSection]:
    """Returns the parts of a docstring; none where there is no docstring."""
    if thing.docstring is None:
        return []
    return thing.docstring.parse("google", returns_multiple_items=False)


def on_one_line(text: str) -> str:
    """Returns text without its line breaks."""
    return " ".join(text.split())
