"""From the wheel to a row in the table: a new plugin of every kind, in an empty environment.

Needs a package index, and some minutes: the environment is made and filled from nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.apps.scaffold import Kind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def author(wheel: Path, environment):
    """The environment of an author: the wheel and the usual tools."""
    environment.install("--no-index", wheel)
    environment.install("pytest", "ruff", "hatchling")
    return environment


@pytest.mark.parametrize("kind", Kind)
def test_a_new_plugin_works_as_it_is(author, kind: Kind) -> None:
    name = f"my-{kind}"
    author.run("harness", "plugins", "new", kind, name)
    folder = author.work / name

    # without an index: nothing may be needed but the harness and the author's tools; and not
    # editable, so that a file which does not travel with the package is missed
    author.install("--no-index", "--no-build-isolation", f"{folder}[test]")
    assert "failed" not in author.run("pytest", cwd=folder)
    author.run("ruff", "check", cwd=folder)
    author.run("ruff", "format", "--check", cwd=folder)
    assert name in author.run("harness", "plugins", "check", name)

    author.run("harness", "run", "example", "--set", "training.epochs=2", cwd=folder)
    assert name in (folder / "example" / "results.jsonl").read_text()
    assert (folder / "example" / "table.md").read_text().strip()
