"""Pages that need not be rendered again: those of leaderboards that have not changed.

What a site's folder of one leaderboard holds follows from its results and from the code, and from
no other leaderboard. So the marker file of a site says of each what it was made from, and what came
out; where both still hold, the folder is taken over as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness

if TYPE_CHECKING:
    from harness.apps.site.results import Results

MARKER = ".harness-site"
"""File by which a folder is known as a site, to be replaced as a whole."""

TOLD = "Written by `harness site`, which replaces this folder as a whole."


class KeptPages:
    """The pages of an earlier site.

    Args:
        folder: of the site; there may be none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            known = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: Mapping[str, Any] = known if isinstance(known, dict) else {}

    @property
    def are_none(self) -> bool:
        """Whether there is no earlier site whose pages could be kept."""
        return not self._known

    def are_all(self, results: Sequence[Results]) -> bool:
        """Whether the whole site is what it would be now."""
        return self._known == _describe(results, self._folder)

    def take(self, results: Results, draft: Path) -> bool:
        """Takes the pages of a leaderboard over into a draft if they are what they would be now."""
        name = results.leaderboard.name
        known = self._known.get("leaderboards", {}).get(name)
        place = self._folder / name
        if not place.is_dir() or known != [source_digest(results), folder_digest(place)]:
            return False
        shutil.copytree(place, draft / name, copy_function=_link)
        return True


def marker_text(results: Sequence[Results], folder: Path) -> str:
    """Returns what the marker of a site says that lies in a folder."""
    return json.dumps(_describe(results, folder), indent=1) + "\n"


def _describe(results: Sequence[Results], folder: Path) -> dict[str, Any]:
    """Of each leaderboard, what its pages are made from and what they are; then all the rest."""
    names = [result.leaderboard.name for result in results]
    made = {
        result.leaderboard.name: [source_digest(result), folder_digest(folder / name)]
        for name, result in zip(names, results, strict=True)
    }
    rest = folder_digest(folder, leave_out=(*names, MARKER))
    return {"told": TOLD, "leaderboards": made, "order": names, "rest": rest}


def source_digest(results: Results) -> str:
    """The sha256 of what the pages of a leaderboard are made from: results, settings, code."""
    found = sha256(f"{harness.__version__} {_code_digest()} {results.property!r}".encode())
    found.update(repr(sorted(results.parts.items())).encode())
    for name, metric in results.metrics.items():
        facts = (name, metric.title, metric.unit, metric.higher_is_better)
        found.update(repr(facts).encode())
    if results.published is not None:
        found.update(results.published.to_csv().encode())
    found.update(folder_digest(results.folder, leave_out=(".safetensors",)).encode())
    return found.hexdigest()


def folder_digest(folder: Path, leave_out: Collection[str] = ()) -> str:
    """The sha256 of the names and contents of all files in a folder.

    Args:
        folder: the folder; there may be none.
        leave_out: names of files and folders in it, and suffixes of files, that do not count.
    """
    found = sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = path.relative_to(folder)
        if place.parts[0] not in leave_out and path.suffix not in leave_out:
            found.update(f"{place} {path.stat().st_size}\n".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


@cache
def _code_digest() -> str:
    return folder_digest(Path(harness.__file__).parent, leave_out=(".pyc",))


def _link(source: str, target: str) -> None:
    """Gives a file a second name, or copies it where the file system knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
