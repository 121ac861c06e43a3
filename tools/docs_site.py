"""The documentation as a web site, in `build/docs/site`: the guides, and pages from the source.

`make docs` builds it; a link that leads nowhere is an error. The guides are those of
`harness docs`; the command line and the Python API are written from the source at every build.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import griffe
import tomli_w
import typer.cli
import typer.main

import benchmark_reference
import hook_reference
from docstrings import ROOT, SOURCES
from harness.api.docs_pages import FOLDER as GUIDES
from harness.cli import app

BUILD = ROOT / "build" / "docs"

NAV: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Guides",
        (
            "own-data",
            "predicting",
            "features",
            "properties",
            "protocols",
            "tuning",
            "tables",
            "clusters",
        ),
    ),
    (
        "Plugins",
        (
            "tutorial-dataset",
            "tutorial-property",
            "tutorial-backbone",
            "tutorial-transfer",
            "footguns",
        ),
    ),
    ("Reference", ("benchmark-file", "commands", "python", "hooks", "glossary")),
)
"""Pages by chapter; the index comes before them."""


def build_site() -> None:
    """Writes the pages that come from the source, then the site.

    Raises:
        SystemExit: a page is in no chapter, or the site cannot be built without a warning.
    """
    benchmark_reference.write_reference()
    hook_reference.write_reference()
    shutil.rmtree(BUILD, ignore_errors=True)
    shutil.copytree(GUIDES, BUILD / "pages")
    for name, text in (("commands", render_commands()), ("python", render_python())):
        (BUILD / "pages" / f"{name}.md").write_text(text, encoding="utf-8")
    (BUILD / "zensical.toml").write_text(tomli_w.dumps(_configuration()), encoding="utf-8")
    line = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    sys.exit(subprocess.run(line, cwd=BUILD, check=False).returncode)


def render_commands() -> str:
    """Returns the page of the command line, from its help."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="harness")
    text = typer.cli.get_docs_for_click(obj=command, ctx=context, name="harness", title="Commands")
    return text.replace("Examples:\n", "Examples:\n\n")  # a block of code needs a free line above


def render_python() -> str:
    """Returns the page of the Python API: what `import harness` offers, from its docstrings."""
    parts = ["# Python\n", "All of it is imported from `harness`.\n"]
    parts += [f"::: {path}\n" for path in _public_names()]
    return "\n".join(parts)


def _public_names() -> Iterator[str]:
    """Yields what the package offers: the paths where it is defined."""
    stub = ROOT / "harness" / "__init__.pyi"
    offered = griffe.visit("harness", stub, stub.read_text(encoding="utf-8"))
    for _, member in sorted(offered.members.items()):
        if isinstance(member, griffe.Alias):
            yield member.target_path


def _configuration() -> dict[str, Any]:
    nav: list[Any] = [{"Start": "index.md"}]
    nav += [{title: [f"{name}.md" for name in names]} for title, names in NAV]
    options = {
        "docstring_style": "google",
        "extensions": [f"{ROOT / 'tools' / 'docstrings.py'}:SharedMeanings"],
        "heading_level": 2,
        "show_root_heading": True,
        "show_root_full_path": False,
        "show_source": False,
        "members_order": "source",
        "show_if_no_docstring": False,
    }
    return {
        "project": {
            "site_name": "paraisite-harness",
            "site_description": "Benchmarks of transfer learning of crystal properties",
            "docs_dir": "pages",
            "site_dir": "site",
            "use_directory_urls": False,
            "nav": nav,
            "theme": {"font": False, "features": ["navigation.sections", "content.code.copy"]},
            "plugins": {
                "mkdocstrings": {
                    "handlers": {
                        "python": {"paths": [str(path) for path in SOURCES], "options": options}
                    }
                },
            },
        }
    }


if __name__ == "__main__":
    build_site()
