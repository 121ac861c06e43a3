"""The harness in a notebook: what users call, loaded when first used.

The names stand in `__init__.pyi`, once for type checkers and for the loader. What authors of
plugins import stands in `harness.plugin`; plugins written for version 0.1 find it here too.
"""

from importlib import import_module
from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # What the installation says. Looked up here, since that takes longer than all the rest.
        return import_module("importlib.metadata").version("paraisite-harness")
    try:
        return _load(name)
    except AttributeError:
        authors = import_module("harness.plugin")
        if name not in authors.__all__:
            raise
        return getattr(authors, name)
