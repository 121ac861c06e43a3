"""Who works in a results folder, and for which plan: a folder belongs to one plan at a time.

Whoever carries out a plan shares a lock with the others who do, for as long as they are at it; who
comes first writes `plan.json`. The lock is the operating system's: it vanishes with its holder.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.files import explained

if TYPE_CHECKING:
    from harness.results.records import PlanFile
    from harness.results.store import Store

LOCK_FILE = ".lock-plan"
NAMED = 3
"""Differences that an error names; more are counted."""


@contextmanager
def claim(store: Store, plan: PlanFile) -> Iterator[bool]:
    """Holds a results folder for a plan while the block runs, and has it in `plan.json`.

    Yields:
        Whether nobody else is at work there.

    Raises:
        StoreError: another process is at work there on another plan; says what differs.
    """
    with explained(store.folder):
        file = (store.folder / LOCK_FILE).open("wb")
    with file:
        alone = _try_alone(file.fileno())
        if alone:
            store.write_plan(plan)
        # From alone to shared another one may get in between, who then has written its own plan.
        _share(file.fileno())
        theirs, ours = store.read_plan().as_json(), json.loads(json.dumps(plan.as_json()))
        if theirs != ours:
            raise StoreError(
                f"Another process is at work in {store.folder}, on another plan: "
                f"{_told(list(differences(theirs, ours)))}. Wait until it has ended, or choose "
                "another folder with --results."
            )
        yield alone


def _try_alone(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks on this file system: then nobody is seen
        return True
    return True


def _share(file: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return


def differences(theirs: Any, ours: Any, at: str = "") -> Iterator[str]:
    """Yields every place at which JSON-like contents differ, with what stands there.

    Args:
        theirs: the one content.
        ours: the other.
        at: where in the whole they stand, as `training.epochs`.
    """
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in dict.fromkeys([*theirs, *ours]):
            below = f"{at}.{key}" if at else str(key)
            yield from differences(theirs.get(key), ours.get(key), below)
    elif theirs != ours:
        yield f"{at} is {_short(theirs)} there and {_short(ours)} here"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _told(found: list[str]) -> str:
    """Names the settings that differ; the cells, which follow from these, where nothing else."""
    settings = [text.removeprefix("benchmark.") for text in found if not text.startswith("cells")]
    named = settings or found
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return "; ".join(named[:NAMED]) + more
