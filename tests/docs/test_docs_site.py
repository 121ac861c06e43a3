"""The documentation site has every guide, every command and every public name."""

from __future__ import annotations

import harness
from docs_site import NAV, render_commands, render_python
from harness.api.docs_pages import page_names
from harness.cli import app

FROM_SOURCE = {"commands", "python"}
"""Pages that are made with the site alone."""


def test_every_page_stands_in_one_chapter() -> None:
    pages = [page for _, pages in NAV for page in pages]
    assert sorted(pages) == sorted({*page_names(), *FROM_SOURCE} - {"index"})


def test_every_command_is_described() -> None:
    page = render_commands()
    for command in app.registered_commands:
        assert command.callback is not None
        assert f"## `harness {command.name or command.callback.__name__}`" in page


def test_every_public_name_is_described_where_it_is_defined() -> None:
    paths = [line.removeprefix("::: ") for line in render_python().splitlines() if ":::" in line]
    public = {name for name in dir(harness) if not name.startswith("_")}
    assert {path.rpartition(".")[2] for path in paths} == public
    for path in paths:
        module, _, name = path.rpartition(".")
        assert getattr(harness, name).__module__.startswith(module)
