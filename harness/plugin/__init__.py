"""What authors of plugins import, loaded when first used; one file here per kind of plugin.

The names stand in `__init__.pyi`, once for type checkers and for the loader. Some of them, such as
`Stacked` or `build_graph`, come from other rooms: those load when they are used, not before.
"""

import ast
from collections import defaultdict
from pathlib import Path

import lazy_loader

_homes = defaultdict(list)
for _line in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body:
    if isinstance(_line, ast.ImportFrom) and _line.module:
        _homes[_line.module.removeprefix("harness.")] += [name.name for name in _line.names]

__getattr__, __dir__, __all__ = lazy_loader.attach("harness", submod_attrs=_homes)
