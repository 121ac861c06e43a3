"""The lock of the built-in plugins' code: what it was when their revisions were last looked at.

Stage keys say nothing of a built-in plugin's code but the `revision` of what computes: backbones,
heads and metrics. So that nobody forgets to raise it, `tests/registry/test_revisions.py` compares
the code with this lock. `make revisions` writes it again.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w

from harness.registry.plugin_calls import root_of
from harness.registry.registry import Registry

LOCK = Path(__file__).resolve().parents[1] / "tests" / "registry" / "revisions.toml"

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Other versions of Python may write the same code in another way."""


def read_lock() -> dict[str, Any]:
    """Returns what was written last, in the form of `find_revisions`."""
    return tomllib.loads(LOCK.read_text(encoding="utf-8"))


def write_lock() -> None:
    """Writes what is there now."""
    LOCK.write_text(tomli_w.dumps(find_revisions()), encoding="utf-8")


def find_revisions() -> dict[str, Any]:
    """Returns the version of Python and, by plugin, its digest and what it offers by revision."""
    registry = Registry()
    found: dict[str, Any] = {"python": PYTHON}
    for catalog in (registry.backbones, registry.heads, registry.metrics):
        for name, spec in catalog.items():
            plugin = catalog.owner(name)
            if plugin in registry.built_in:
                root = root_of(registry.plugins[plugin])
                assert root is not None
                entry = found.setdefault(plugin, {"code": code_digest(root), "revisions": {}})
                entry["revisions"][name] = spec.revision
    return found


def code_digest(folder: Path) -> str:
    """Returns 16 hexadecimal digits that depend on the code in a folder, not on what is said of it.

    Comments, documentation and layout are left out.
    """
    digest = sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(bare_code(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def bare_code(source: str) -> str:
    """Returns Python code without comments and without text that stands alone, as docstrings do."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _is_text(line: ast.AST) -> bool:
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


if __name__ == "__main__":
    write_lock()
