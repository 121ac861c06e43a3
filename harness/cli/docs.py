"""`harness docs`: the documentation, which travels with the package."""

from __future__ import annotations

from typing import Annotated

import typer


def docs(
    page: Annotated[
        str, typer.Argument(help="Which page; the index, which names all, unless given.")
    ] = "index",
) -> None:
    """Show a page of the documentation: guides, tutorials for authors, the hooks, footguns.

    Examples:
        harness docs
        harness docs footguns
    """
    from harness.api.docs_pages import read_page
    from harness.cli.output import print_markdown

    print_markdown(read_page(page))
