"""The hook reference says what the source says, and every hook is used, tested and described."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import plugin
from harness.plugin import hookspecs
from hook_reference import CHAPTERS, PAGE, find_users, render_reference

TESTS = Path(__file__).resolve().parents[1]
HOOKS = [name for name, hook in vars(hookspecs).items() if hasattr(hook, "harness_spec")]


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def section(page: str, title: str) -> str:
    """What stands below a heading of the third level."""
    found = re.search(rf"^### {re.escape(title)}$\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[1]


def test_the_page_is_what_the_source_gives(page: str) -> None:
    assert page == render_reference(), "harness/docs/hooks.md is out of date: run `make docs`"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_described(hook: str, page: str) -> None:
    heading = re.search(rf"^### `{hook}\(.*`$", page, re.MULTILINE)
    assert heading
    text = section(page, heading[0].removeprefix("### "))
    assert getattr(hookspecs, hook).__doc__.split("\n")[0] in text


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_used_by_something_built_in(hook: str) -> None:
    assert find_users()[hook]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test(hook: str) -> None:
    here = Path(__file__).parent
    files = (path for path in TESTS.rglob("*.py") if here not in path.parents)
    assert any(hook in path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("path", [path for chapter in CHAPTERS for path in chapter.types])
def test_every_type_can_be_imported_from_the_facade_and_has_its_fields_explained(
    path: str, page: str
) -> None:
    name = path.rpartition(".")[2]
    kind = getattr(plugin, name)
    text = section(page, name)
    for base in kind.__mro__:
        if base.__module__.startswith("harness.") and name != "Stacked":
            for field in vars(base).get("__annotations__", {}):
                assert (
                    re.search(rf"^- `{field}: .+`: \S", text, re.MULTILINE)
                    or field == "model_config"
                )
