"""Which tables on disk are what their results give, so that looking at one writes nothing anew.

A note in the user's cache says from what a results folder's tables were made, and how they read.
It holds as long as neither has changed, nor the harness. Where it is missing, tables are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.files import replacing
from harness.planning.benchmark import BENCHMARK_FILE
from harness.plugin.locations import Locations
from harness.results.store import FAILURES_FILE, PLAN_FILE, RESULTS_FILE

if TYPE_CHECKING:
    from harness.plugin.metric import MetricSpec

STAMPS = "tables"


def are_current(
    folder: Path, metrics: Mapping[str, MetricSpec], published: Path | None, names: Iterable[str]
) -> bool:
    """Whether tables are known to be what the results in their folder give.

    Args:
        folder: with the results.
        metrics: of their property.
        published: the file of published cells that stand beside them, if there is one.
        names: of the tables' files.
    """
    try:
        known = json.loads(_place(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(known == _stamp(folder, metrics, published, names))


def note_current(
    folder: Path, metrics: Mapping[str, MetricSpec], published: Path | None, names: Iterable[str]
) -> None:
    """Notes that tables were made just now; where the cache cannot be written, nothing is noted."""
    place = _place(folder)
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as staging:
            text = json.dumps(_stamp(folder, metrics, published, names), indent=1)
            staging.write_text(text, encoding="utf-8")


def _place(folder: Path) -> Path:
    name = sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return Locations().cache / STAMPS / f"{name}.json"


def _stamp(
    folder: Path, metrics: Mapping[str, MetricSpec], published: Path | None, names: Iterable[str]
) -> dict[str, Any]:
    sources = [
        folder / name for name in (BENCHMARK_FILE, PLAN_FILE, RESULTS_FILE, FAILURES_FILE, *names)
    ]
    sources += [published] if published else []
    return {
        "harness": harness.__version__,
        "code": sorted(_code()),
        "metrics": [
            [one.name, one.title, one.unit, one.higher_is_better] for one in metrics.values()
        ],
        "files": {
            str(path): _digest(path) for path in (*sources, *([published] if published else ()))
        },
    }


def _code() -> Iterable[str]:
    """The harness's files, with size and time of change: a checkout changes between releases."""
    package = Path(harness.__file__).parent
    for path in package.rglob("*.py"):
        status = path.stat()
        yield f"{path.relative_to(package)} {status.st_size} {status.st_mtime_ns}"


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
