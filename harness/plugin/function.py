"""A function of a spec: given as such, or as text that says where it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from harness.errors import PluginError, did_you_mean

FORM = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<name>\w+(\.\w+)*)")
"""How such text is written: `package.module:Name`."""

F = TypeVar("F")


class WrongText(PluginError):
    """Text that says where a function is, but nothing that can be called is there."""


class LazyFunction:
    """A function known by text, imported when it is called.

    Args:
        text: `package.module:Name`.
        place: what it is for, as `BackboneSpec 'mine', make`.
    """

    def __init__(self, text: str, place: str) -> None:
        self._text, self._place = text, place

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function."""
        return self.load()(*arguments)

    def __repr__(self) -> str:
        return repr(self._text)

    def load(self) -> Callable[..., Any]:
        """Returns the function itself.

        Raises:
            WrongText: there is no such module, or nothing in it to be called by that name.
        """
        module_name, _, path = self._text.partition(":")
        try:
            found: Any = import_module(module_name)
        except ModuleNotFoundError as problem:
            missing = problem.name or ""
            if not f"{module_name}.".startswith(f"{missing}."):
                raise  # of something that the module itself imports
            raise self._wrong(f"there is no module {missing!r}") from None
        for name in path.split("."):
            if not hasattr(found, name):
                known = did_you_mean(name, vars(found))
                raise self._wrong(f"nothing there is called {name!r}", known)
            found = getattr(found, name)
        if not callable(found):
            raise self._wrong(f"{type(found).__name__} cannot be called")
        function: Callable[..., Any] = found
        return function

    def _wrong(self, what: str, hint: str = "") -> WrongText:
        return WrongText(
            f"{self._place} = {self._text!r}: {what}; expected 'package.module:Name'.{hint}"
        )


class Function(Generic[F]):
    """A field of a spec that holds a function, and takes text in its place.

    Text that is not written as `FORM` stays as it is, for the registry to refuse it.

    Args:
        default: of the field. None: it may be left out; otherwise the registry insists on it.
    """

    def __init__(self, default: str | None = "") -> None:
        self._default = default

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, spec: Any, owner: type[Any]) -> F:
        found: Any = self._default if spec is None else vars(spec)[self._name]
        return cast("F", found)

    def __set__(self, spec: Any, given: F | str) -> None:
        if isinstance(given, str) and FORM.fullmatch(given):
            place = f"{type(spec).__name__} {spec.name!r}, {self._name}"
            vars(spec)[self._name] = LazyFunction(given, place)
        else:
            vars(spec)[self._name] = given
