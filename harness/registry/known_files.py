"""Plugin files that this user has run: only they are loaded again where results are only read.

A benchmark file may list its plugin files. To run a benchmark is to run its code, as with
`--plugin`. To look at results is not: a folder that somebody else has sent may list what it likes.
So a run notes each listed file, by its place and its content, in the user's cache, and whatever
only reads loads just those that are noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from harness.errors import PluginError
from harness.files import replacing
from harness.plugin.locations import Locations

KNOWN_FILE = "plugin-files.json"


def remember(files: Iterable[Path]) -> None:
    """Notes plugin files that are run; where the cache cannot be written, nothing is noted.

    Raises:
        PluginError: a file cannot be read.
    """
    known = _read()
    fresh = {str(path.resolve()): _digest(path) for path in files}
    if fresh.items() <= known.items():
        return
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as staging:
            staging.write_text(json.dumps({**known, **fresh}, indent=1), encoding="utf-8")
    except OSError:
        return


def is_known(path: Path) -> bool:
    """Whether a plugin file was run from there as it is now."""
    return path.is_file() and _read().get(str(path.resolve())) == _digest(path)


def _place() -> Path:
    return Locations().cache / KNOWN_FILE


def _read() -> Mapping[str, str]:
    try:
        known = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as problem:
        raise PluginError(f"The plugin file {path} cannot be read: {problem.strerror}.") from None
