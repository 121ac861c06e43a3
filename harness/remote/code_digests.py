"""Names the code that a process runs, so that work is never done by other code than was meant."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import ExecutorError
from harness.registry.plugin_calls import root_of
from harness.registry.registry import Registry, source_digest

LIBRARIES = ("torch", "numpy")
"""Whose versions change the last digits of results, or how arrays are sent."""


def code_digests(registry: Registry) -> dict[str, str]:
    """Names all code that results depend on: versions of libraries, digests of source."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    found["the harness"] = source_digest(Path(__file__).resolve().parents[1])
    for name, plugin in registry.plugins.items():
        if (root := root_of(plugin)) is not None:
            shown = root.name if name in registry.files else name
            found[f"the plugin {shown!r}"] = source_digest(root)
    return found


def check_code(meant: Mapping[str, str], here: Mapping[str, str], worker: str) -> None:
    """Refuses to work with other code than the coordinator has; what is there besides may be.

    Raises:
        ExecutorError: names what differs, and how.
    """
    different = [
        f"{name} ({here.get(name, 'absent')} there, {wanted} here)"
        for name, wanted in meant.items()
        if here.get(name) != wanted
    ]
    if different:
        raise ExecutorError(
            f"The worker {worker} runs other code than this process: {'; '.join(different)}. "
            "Install the same versions of the harness and its plugins there, and start it again."
        )
