"""Calls plugin code, keeps what it was asked for beside its errors, and finds their places."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import HarnessError, PluginError
from harness.plugin.function import LazyFunction, WrongText
from harness.registry.contract_changes import remedy

OURS = Path(__file__).resolve().parents[1]
"""The folder of the harness's own code."""

CALL = "_harness_call"
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
    except WrongText as problem:
        raise Breach(function, str(problem)) from None
    except (Exception, SystemExit) as problem:
        _note(problem, function, action)
        raise


def _note(problem: BaseException, function: object, action: str) -> None:
    """Keeps beside an error of a plugin what it was asked for."""
    if not isinstance(problem, HarnessError) and not hasattr(problem, CALL):
        setattr(problem, CALL, (function, action))
        problem.add_note(f"(while {action})")


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
    try:  # as `using`, which takes as long as a metric
        value = function(*arguments)
    except WrongText as problem:
        raise Breach(function, str(problem)) from None
    except (Exception, SystemExit) as problem:
        _note(problem, function, action)
        raise
    if not isinstance(value, returns):
        name = getattr(unwrapped(function), "__qualname__", repr(function))
        raise Breach(
            function,
            f"{name} must return {_door(returns)}.{returns.__name__}, but returned "
            f"{type(value).__name__}, {value!r}, while {action}.",
        )
    # mypy takes a type of anything for what has no hash
    annotated = _annotated(returns)  # type: ignore[arg-type]
    lacking = [key for key in annotated if not hasattr(value, key)]
    if lacking:
        raise Breach(type(value), f"{type(value).__name__} lacks {', '.join(lacking)}.")
    return value


@cache
def _annotated(kind: type[Any]) -> tuple[str, ...]:
    return tuple(inspect.get_annotations(kind))


def _door(kind: type[Any]) -> str:
    """The module that authors import a type from."""
    return "harness.plugin" if kind.__module__.startswith("harness.plugin.") else kind.__module__


def describe(problem: BaseException, root: Path | None = None) -> str:
    """Returns `Type: message (file, line n)`.

    The line is the innermost one below `root`, a plugin's file or folder; else of anybody but us.
    """
    frames = frames_of(problem)
    theirs = [frame for frame in frames if root is not None and frame.file.is_relative_to(root)]
    others = [frame for frame in frames if not is_ours(frame.file)]
    place = next((f" ({f[-1].file}, line {f[-1].line})" for f in (theirs, others) if f), "")
    return f"{told(problem)}{place}"


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
    places = places_of(thing)
    return places[0] if places else None


def places_of(thing: object) -> list[Path]:
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


def unwrapped(function: object) -> object:
    """Returns the function below text, partials and decorators."""
    if isinstance(function, LazyFunction):
        with suppress(Exception):  # which is told elsewhere
            function = function.load()
    while isinstance(function, partial):
        function = function.func
    return inspect.unwrap(function) if callable(function) else function


def defined_at(function: object) -> str:
    """Returns `file, line n` of a function, the file alone of other things, or nothing.

    Nothing is said of objects of our own classes, such as text whose function cannot be found.
    """
    bare = unwrapped(function)
    code = getattr(bare, "__code__", None)
    if code is not None:
        return f"{_path(code.co_filename)}, line {code.co_firstlineno}"
    places = places_of(bare)
    return str(places[-1]) if places and not is_ours(places[-1]) else ""


def is_ours(file: Path) -> bool:
    """Whether a file is the harness's own."""
    return file.is_relative_to(OURS)


def told(problem: BaseException) -> str:
    """Returns `Type: message`, and what to write now where the contract has changed."""
    text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    return f"{text}.{instead}" if (instead := remedy(problem)) else text
