"""The package of a new plugin, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from harness.apps.scaffold import Kind
from harness.apps.scaffold.names import check_free, package_of
from harness.errors import HarnessError
from harness.files import new_folder

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".template"
GUIDE = "guide.md"
EXAMPLE = "example/benchmark.toml"


@dataclass(frozen=True)
class NewPlugin:
    """A package that was just written.

    Attributes:
        folder: where it lies.
        files: paths in it, sorted.
        uses: the lines of its example benchmark that name it.
    """

    folder: Path
    files: tuple[str, ...]
    uses: tuple[str, ...]


def write_plugin(kind: Kind, name: str, parent: Path) -> NewPlugin:
    """Writes the folder `name`: a package that offers one thing of that name.

    Args:
        kind: what it offers.
        name: as it is to be written in benchmark files; also that of the distribution.
        parent: an existing folder.

    Raises:
        HarnessError: the name is impossible or taken, or the folder exists or cannot be written.
    """
    package = package_of(name)
    check_free(kind, name, package)
    folder = parent / name
    if folder.exists() or folder.is_symlink():
        raise HarnessError(f"{folder} exists already: choose another name, or move it away.")
    files = render(kind, name, package)
    try:
        with new_folder(folder) as draft:
            for path, text in files.items():
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                (draft / path).write_text(text, encoding="utf-8")
    except OSError as problem:
        raise HarnessError(f"Cannot write {folder}: {problem}.") from None
    uses = (line for line in files[EXAMPLE].splitlines() if f'"{name}"' in line)
    return NewPlugin(folder, tuple(sorted(files)), tuple(uses))


def render(kind: Kind, name: str, package: str) -> dict[str, str]:
    """Returns the text of every file of a new package, by its path in there."""
    templates = dict(_templates(kind))
    words = {"name": name, "package": package, "kind": str(kind)}
    words["guide"] = templates.pop(GUIDE).substitute(words).strip()
    return {
        path.replace("PACKAGE", package): template.substitute(words)
        for path, template in (*_templates("common"), *templates.items())
    }


def _templates(folder: str) -> Iterator[tuple[str, Template]]:
    """Yields path, without the suffix, and template."""
    root = TEMPLATES / folder
    for path in root.rglob(f"*{SUFFIX}"):
        relative = path.relative_to(root).as_posix().removesuffix(SUFFIX)
        yield relative, Template(path.read_text(encoding="utf-8"))
