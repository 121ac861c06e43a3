"""The guides of `harness docs` as pages of the site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.api.docs_pages import page_names, read_page

if TYPE_CHECKING:
    from markdown_it.token import Token

FOLDER = "_guides"
"""Where they lie: no leaderboard can be called so."""

START = "index"
"""The guide that leads to all others."""


@dataclass(frozen=True)
class Guide:
    """A page of the documentation.

    Attributes:
        name: as `harness docs` takes it.
        title: its first heading.
        body: the rest, in HTML.
    """

    name: str
    title: str
    body: str


def make_guides() -> Iterator[Guide]:
    """Yields the guides: what links to another guide leads to its page."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name in page_names():
        tokens = markdown.parse(read_page(name))
        heading = tokens[:3]  # opened, its text, closed
        _anchor(tokens)
        for token in tokens:
            _lead_to_pages(token)
        html = markdown.renderer.render(tokens[len(heading) :], markdown.options, {})
        yield Guide(name, heading[1].content, html)


def _anchor(tokens: list[Token]) -> None:
    """Gives every heading an id, by which GitHub would link to it."""
    taken: dict[str, int] = {}
    for token, text in pairwise(tokens):
        if token.type == "heading_open":
            plain = re.sub(r"[^\w\- ]", "", text.content.lower()).replace(" ", "-")
            taken[plain] = number = taken.get(plain, -1) + 1
            token.attrSet("id", f"{plain}-{number}" if number else plain)


def _lead_to_pages(token: Token) -> None:
    for inner in (token, *(token.children or ())):
        target = str(inner.attrGet("href") or "")
        if inner.type == "link_open" and "://" not in target:
            inner.attrSet("href", re.sub(r"\.md(?=#|$)", ".html", target))
