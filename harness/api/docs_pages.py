"""The documentation, which travels with the package."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError, did_you_mean

FOLDER = Path(__file__).resolve().parents[1] / "docs"


def page_names() -> list[str]:
    """Returns the names of all pages: their files' names without `.md`."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def read_page(name: str) -> str:
    """Returns a page as Markdown.

    Raises:
        HarnessError: there is none of that name.
    """
    if name not in page_names():
        raise HarnessError(f"No page {name!r}.{did_you_mean(name, page_names())}")
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")
