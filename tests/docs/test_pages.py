"""Pages for authors: what they name exists, and the command shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import harness
from harness import Registry, plugin
from harness.api.docs_pages import page_names, read_page
from harness.cli import app
from harness.errors import HarnessError

if TYPE_CHECKING:
    from markdown_it.token import Token

GENERATED = {"hooks", "benchmark-file"}
WRITTEN = [name for name in page_names() if name not in GENERATED]


def tokens(page: str) -> Iterator[Token]:
    for token in MarkdownIt().enable("table").parse(read_page(page)):
        yield token
        yield from token.children or ()


def anchors(page: str) -> set[str]:
    """Anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", read_page(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", page_names())
def test_links_lead_somewhere(page: str) -> None:
    for token in tokens(page):
        target = str(token.attrGet("href") or "")
        if token.type == "link_open" and "://" not in target:
            file, _, anchor = target.partition("#")
            other = Path(file).stem or page
            assert other in page_names(), target
            assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("page", WRITTEN)
def test_names_that_look_like_ours_exist(page: str) -> None:
    blocks = "".join(token.content for token in tokens(page) if token.type == "fence")
    known = set(re.findall(r"\w+", blocks)) | set(Registry().datasets)
    for token in tokens(page):
        named = re.match(r"([A-Z]\w*[a-z]\w*)((?:\.\w+)*)", token.content)
        if token.type != "code_inline" or not named or named[1] in known:
            continue
        owner = getattr(harness, named[1], None) or getattr(plugin, named[1])
        for attribute in named[2].split(".")[1:]:
            assert attribute in (*dir(owner), *owner.__annotations__), token.content


@pytest.mark.parametrize("page", WRITTEN)
def test_commands_exist_with_their_options(page: str) -> None:
    for token in tokens(page):
        if token.type == "code_inline" and token.content.startswith("harness "):
            words = token.content.split()[1:]
            command = [word for word in words if re.fullmatch("[a-z]+", word)]
            depth = 2 if command[0] in ("plugins", "datasets") else 1
            shown = CliRunner().invoke(app, [*command[:depth], "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0, token.content
            for option in re.findall(r"--[a-z-]+", token.content):
                assert option in shown.output, token.content


def test_the_index_names_every_page() -> None:
    linked = {str(token.attrGet("href")) for token in tokens("index")}
    assert {f"{name}.md" for name in page_names() if name != "index"} <= linked


def test_the_command_shows_a_page_as_it_is_in_a_pipe() -> None:
    assert CliRunner().invoke(app, ["docs", "hooks"]).output == read_page("hooks")


def test_on_a_terminal_a_page_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich: a terminal
    shown = CliRunner().invoke(app, ["docs", "footguns"]).output
    assert "Footguns" in shown
    assert "# Footguns" not in shown
    assert "**" not in shown


def test_without_a_name_the_command_shows_the_index() -> None:
    assert CliRunner().invoke(app, ["docs"]).output == read_page("index")


def test_an_unknown_page_is_named_with_a_suggestion() -> None:
    with pytest.raises(HarnessError, match=r"No page 'footgun'.*Did you mean 'footguns'\?"):
        read_page("footgun")
