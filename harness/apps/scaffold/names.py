"""Names of new plugins: which are possible, and which are taken."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from keyword import iskeyword

from harness.apps.scaffold import Kind
from harness.errors import HarnessError
from harness.registry.entry_points import plugin_entries
from harness.registry.registry import Registry

LONGEST = 40
"""Characters of a name, so that the lines that hold it stay within those of the style."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*")
_OTHER_FOLDERS = ("example", "tests")


def package_of(name: str) -> str:
    """Returns the import name of a plugin: `my_model` of `My-Model`.

    Raises:
        HarnessError: the name is not possible.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise HarnessError(
            f"{name!r} cannot name a plugin: expected a letter, then letters and digits, in parts "
            f"joined by single hyphens, at most {LONGEST} characters, as 'my-model'."
        )
    package = name.lower().replace("-", "_")
    if iskeyword(package) or package in _OTHER_FOLDERS:
        taken = "a keyword of Python" if iskeyword(package) else "another folder of the package"
        raise HarnessError(
            f"{name!r} cannot name a plugin: {package!r} is {taken}. Choose another name."
        )
    return package


def check_free(kind: Kind, name: str, package: str) -> None:
    """Refuses what would clash with something installed once the new package is, too.

    Raises:
        HarnessError: a plugin offers something of that kind and name, or is called so; or the
            package can be imported, or a distribution of that name is installed, already.
    """
    offered = {kind, Kind.DATASET} if kind is Kind.PROPERTY else {kind}  # with one, a dataset of it
    for catalog in (known for known in Registry().catalogs() if known.kind in offered):
        if name in catalog or name in catalog.contested:
            raise HarnessError(
                f"The plugin {catalog.owner(name)!r} offers a {catalog.kind} {name!r} already, and "
                "a name that two plugins offer cannot be used: choose another name."
            )
    if any(entry.name == name for entry in plugin_entries()):
        raise HarnessError(f"A plugin called {name!r} is installed already: choose another name.")
    if find_spec(package) is not None or _is_installed(name):
        raise HarnessError(
            f"A package {package!r} can be imported, or {name!r} is installed, already; the new "
            "one would take its place: choose another name."
        )


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
