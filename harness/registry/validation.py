"""Holds what a plugin hands over to the contract; pluggy and dataclasses check none of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from harness.errors import PluginError, did_you_mean
from harness.plugin import hookspecs
from harness.plugin.dataset import Card
from harness.plugin.property import Needs
from harness.plugin.ranges import Parameter, SearchSpace
from harness.plugin.settings import Settings
from harness.registry.plugin_calls import defined_at, describe

NAME = re.compile(r"[^\W_][\w.+-]*")
"""What things may be called: a benchmark file, labels and `--set` write names beside other text."""


class Refused(PluginError):
    """A plugin breaks the contract; the message says where and how, with file and line."""


def check_hooks(plugin: object, name: str) -> None:
    """Refuses a misspelt hook and one without its marker, which pluggy would ignore silently.

    Raises:
        PluginError: names the plugin, the hook, and how it should be written.
    """
    known = {hook for hook, spec in vars(hookspecs).items() if hasattr(spec, "harness_spec")}
    for attribute in dir(plugin):
        hook = getattr(plugin, attribute, None)
        marked = hasattr(hook, "harness_impl")
        if marked and attribute not in known:
            raise Refused(
                f"Plugin {name!r} implements {attribute!r}, which is no hook{_place(hook)}."
                f"{did_you_mean(attribute, known)}"
            )
        if attribute in known and not marked:
            raise Refused(
                f"Plugin {name!r} defines {attribute!r} without the marker{_place(hook)}: "
                "put @hookimpl (from harness.plugin import hookimpl) above it."
            )
        if marked:
            _check_arguments(hook, attribute, name)


def _check_arguments(function: Any, hook: str, plugin: str) -> None:
    expected = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    parameters = inspect.signature(function).parameters.values()
    given = [p.name for p in parameters if p.default is p.empty]
    if given != expected:
        raise Refused(
            f"Plugin {plugin!r}: the hook {hook}({', '.join(given)}) must take "
            f"{' and '.join(map(repr, expected)) or 'no argument'}{_place(function)}: "
            f"write {hook}({', '.join(expected)})."
        )


def ask(plugin: object, name: str, hook: str, spec_type: type[Any], root: Path | None) -> list[Any]:
    """Asks a plugin for what it offers.

    Args:
        plugin: module or object with hooks.
        name: of the plugin.
        hook: to call; nothing is offered where the plugin has none of that name.
        spec_type: of which the hook must return objects.
        root: the plugin's file or folder.

    Raises:
        PluginError: the hook raised, or returned anything else.
    """
    function = getattr(plugin, hook, None)
    if function is None:
        return []
    here = f"Plugin {name!r}: {hook}()"
    try:
        returned = function()
        specs = list(returned) if isinstance(returned, Iterable) else [returned]
    except (Exception, SystemExit) as problem:
        raise Refused(f"{here} raised {describe(problem, root)}") from problem
    names: set[str] = set()
    for spec in specs:
        if not isinstance(spec, spec_type):
            raise Refused(
                f"{here} must return {spec_type.__name__} objects, "
                f"but returned {type(spec).__name__}{_place(function)}: {spec!r}."
            )
        _check_fields(spec, here, _place(function))
        if spec.name in names:
            raise Refused(f"{here} offers the name {spec.name!r} twice{_place(function)}.")
        names.add(spec.name)
    return specs


def _is_settings(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Settings)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_space(value: object) -> bool:
    parameters = value.parameters if isinstance(value, SearchSpace) else value
    return isinstance(parameters, Mapping) and all(
        isinstance(name, str) and isinstance(parameter, Parameter)
        for name, parameter in parameters.items()
    )


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a name of letters, digits, and . + - _ inside it", _is_name),
    "settings": ("a subclass of harness.plugin.Settings", _is_settings),
    "card": ("a harness.plugin.Card, or a pathlib.Path", lambda v: isinstance(v, Card | Path)),
    "parts": ("a tuple of names", lambda value: not isinstance(value, str)),
    "space": ("ranges by name, as {'lr': Range(1e-4, 1e-2, log=True)}", _is_space),
    "needs": (f"one of {', '.join(map(repr, get_args(Needs)))}", get_args(Needs).__contains__),
    "revision": ("a whole number, 1 or more", lambda value: type(value) is int and value > 0),
    **dict.fromkeys(
        ("load", "make", "fit", "stages", "function"),
        ("a function, or text as 'package.module:Name'", callable),
    ),
}


def _check_fields(spec: Any, here: str, place: str) -> None:
    for field in fields(spec):
        expected, holds = _FIELDS.get(field.name, ("anything", lambda value: True))
        value = getattr(spec, field.name)
        left_out = value is None and field.default is None
        if not left_out and not holds(value):
            raise Refused(
                f"{here} offers {type(spec).__name__} {spec.name!r} with {field.name} = {value!r}: "
                f"expected {expected}{place}."
            )
    named = getattr(spec, "weights_in", "")
    if named and named not in spec.settings.model_fields:
        raise Refused(
            f"{here} offers {type(spec).__name__} {spec.name!r} with weights_in = {named!r}: "
            f"expected one of its settings{place}.{did_you_mean(named, spec.settings.model_fields)}"
        )


def _place(function: object) -> str:
    place = defined_at(function)
    return f" ({place})" if place else ""
