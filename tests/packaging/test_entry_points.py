"""Every built-in plugin arrives by the entry-point group that outsiders use."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECLARED: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "entry-points"
]["harness"]


def test_every_plugin_folder_is_declared_and_every_declared_plugin_has_a_folder() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert set(DECLARED.values()) == folders


@pytest.mark.parametrize("name", DECLARED)
def test_the_installed_entry_point_resolves_to_the_plugin(name: str) -> None:
    (entry,) = entry_points(group="harness", name=name)
    module = entry.load()
    assert isinstance(module, ModuleType)
    assert module.__name__ == DECLARED[name]
