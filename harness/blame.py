"""Whose error is it, a plugin's or ours? Read from the frames that an exception went through."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, PluginError

if TYPE_CHECKING:
    from harness.registry import Registry

OURS = Path(__file__).resolve().parent

_CALL = "_harness_call"
"""Attribute of an exception that holds what `using` knows."""


@dataclass(frozen=True)
class Frame:
    """A place in somebody's code."""

    file: Path
    line: int
    function: str

    def __str__(self) -> str:
        inside = "" if self.function == "<module>" else f", in {self.function}"
        return f"{self.file}, line {self.line}{inside}"


class Breach(PluginError):
    """What a plugin handed over is not what its contract says; `blaming` adds the plugin's name.

    Args:
        function: the plugin's, that returned it.
        text: what was expected, and what came.
    """

    def __init__(self, function: object, text: str) -> None:
        super().__init__(f"{text} ({place})" if (place := defined_at(function)) else text)
        self.function = function


@contextmanager
def blaming(registry: Registry) -> Iterator[None]:
    """Turns what a plugin raises into a `PluginError` that names the plugin, the file and the line.

    A `HarnessError` says what is needed already and passes, as does an exception that no plugin
    has to do with: that is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except Breach as breach:
        name = _owner_of(breach.function, registry)
        if name is None:
            raise
        raise PluginError(f"{_who(name, registry)} breaks its contract. {breach}") from breach
    except HarnessError:
        raise
    except (Exception, SystemExit) as problem:
        explanation = explain(problem, registry)
        if explanation is None:
            raise
        raise PluginError(explanation) from problem


@contextmanager
def using(function: object, action: str) -> Iterator[None]:
    """Says, for the error that may come, what is being asked of a plugin.

    The block must do nothing but call that function: an exception without any frame of the plugin's
    (it takes other arguments, or belongs to a library) is then known to be the plugin's.

    Args:
        function: of a spec, or method of what a plugin made.
        action: as `loading the dataset 'Toy'`.
    """
    try:
        yield
    except HarnessError:
        raise
    except (Exception, SystemExit) as problem:
        if not hasattr(problem, _CALL):
            setattr(problem, _CALL, (function, action))
            problem.add_note(f"(while {action})")
        raise


def call(function: Callable[..., Any], *arguments: Any, action: str, returns: type[Any]) -> Any:
    """Calls a function of a plugin, and holds what it returns to its type.

    Args:
        function: of a spec, or method of what a plugin made.
        arguments: for it.
        action: see `using`.
        returns: the type that its contract promises; so are the attributes it annotates.

    Raises:
        PluginError: it returned something else, or an attribute is missing.
    """
    with using(function, action):
        value = function(*arguments)
    name = getattr(_bare(function), "__qualname__", repr(function))
    if not isinstance(value, returns):
        raise Breach(
            function,
            f"{name} must return {returns.__module__}.{returns.__name__}, but returned "
            f"{type(value).__name__}, {value!r}, while {action}.",
        )
    lacking = [key for key in inspect.get_annotations(returns) if not hasattr(value, key)]
    if lacking:
        raise Breach(type(value), f"{type(value).__name__} lacks {', '.join(lacking)}.")
    return value


def explain(problem: BaseException, registry: Registry) -> str | None:
    """Names the plugin that an exception comes from, with file and line; `None` if it is ours."""
    function, action = getattr(problem, _CALL, (_refused_forward(problem), ""))
    known = [(_owner(frame.file, registry), frame) for frame in frames_of(problem)]
    last = max((i for i, (owner, _) in enumerate(known) if owner is not None), default=None)
    if last is None:
        name = _owner_of(function, registry)
        called, place = [], defined_at(function) or str(known[-1][1])
    else:
        name, frame = known[last]
        called = [other for _, other in known[last:] if _is_ours(other.file)]
        place = f"{called[0]}, called by {frame}" if called else str(frame)
    if name is None:
        return None
    who, built_in = _who(name, registry), name in registry.built_in
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return (
            f"{who} needs the module {problem.name!r}, which cannot be found ({place}). "
            "Install it into this environment."
        )
    if built_in:
        remedy = "That is a bug in the harness: please report it."
    elif called:
        remedy = "The plugin asked for what the harness cannot do, or this is a bug in the harness."
    else:
        remedy = "The error is in the plugin, not in the harness: mend it, or tell its author."
    doing = f" while {action}" if action else ""
    return f"{who} failed{doing}: {_told(problem)} ({place}). {remedy}"


def _refused_forward(problem: BaseException) -> object:
    """Returns the `forward` that torch failed to call, because it takes other arguments."""
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    is_torch = frame.f_globals.get("__name__") == "torch.nn.modules.module"
    return getattr(frame.f_locals.get("self"), "forward", None) if is_torch else None


def _who(name: str, registry: Registry) -> str:
    return f"The {'built-in ' if name in registry.built_in else ''}plugin {name!r}"


def describe(problem: BaseException, root: Path | None = None) -> str:
    """Returns `Type: message (file, line n)`.

    The line is the innermost one below `root`, a plugin's file or folder; else of anybody but us.
    """
    frames = frames_of(problem)
    theirs = [frame for frame in frames if root is not None and frame.file.is_relative_to(root)]
    others = [frame for frame in frames if not _is_ours(frame.file)]
    place = next((f" ({f[-1].file}, line {f[-1].line})" for f in (theirs, others) if f), "")
    return f"{_told(problem)}{place}"


def frames_of(problem: BaseException) -> list[Frame]:
    """Returns the frames an exception went through, innermost last; a syntax error's file too."""
    frames = [
        Frame(_path(frame.f_code.co_filename), line, frame.f_code.co_qualname)
        for frame, line in traceback.walk_tb(problem.__traceback__)
    ]
    if isinstance(problem, SyntaxError) and problem.filename:
        frames.append(Frame(_path(problem.filename), problem.lineno or 0, "<module>"))
    return frames


def _path(filename: str) -> Path:
    return Path(filename) if filename.startswith("<") else Path(filename).resolve()


def root_of(thing: object) -> Path | None:
    """Returns the folder of the top-level package that defines a thing, or its file."""
    places = _places(thing)
    return places[0] if places else None


def _places(thing: object) -> list[Path]:
    """Where a thing is defined: packages as folders, from the top-level one down to its module."""
    own = thing if isinstance(thing, ModuleType) else None
    name = own.__name__ if own else str(getattr(thing, "__module__", None))
    parts = name.split(".")
    modules = [sys.modules.get(".".join(parts[:n])) for n in range(1, len(parts) + 1)]
    modules[-1] = own or modules[-1]  # another file of that name may have taken its place
    places = []
    for module in modules:
        if file := getattr(module, "__file__", None):  # a namespace package has none
            path = Path(file).resolve()
            places.append(path.parent if hasattr(module, "__path__") else path)
    return places


def _owner(file: Path, registry: Registry) -> str | None:
    """Name of the plugin that a file belongs to; of two in one package, the one nearer to it."""
    if _is_ours(file):
        return None
    near = [
        (len(place.parts), name)
        for name, plugin in registry.plugins.items()
        for place in _places(plugin)
        if file.is_relative_to(place)
    ]
    return max(near)[1] if near else None


def _owner_of(function: object, registry: Registry) -> str | None:
    """Name of the plugin that offers a function in one of its specs, or else defines it."""
    if function is None:
        return None
    for catalogue in registry.catalogues():
        for name, spec in catalogue.items():
            if any(part is function for part in vars(spec).values()):
                return catalogue.owner(name)
    places = _places(_bare(function))
    return _owner(places[-1], registry) if places else None


def _bare(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return inspect.unwrap(function) if callable(function) else function


def defined_at(function: object) -> str:
    """Returns `file, line n` of a function, the file alone of other things, or nothing."""
    bare = _bare(function)
    code = getattr(bare, "__code__", None)
    if code is not None:
        return f"{_path(code.co_filename)}, line {code.co_firstlineno}"
    places = _places(bare)
    return str(places[-1]) if places else ""


def _is_ours(file: Path) -> bool:
    return file.is_relative_to(OURS)


def _told(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
