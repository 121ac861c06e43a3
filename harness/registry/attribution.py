"""Whose error is it, a plugin's or ours? Read from the frames that an exception went through."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError, PluginError
from harness.files import lacks_room, place_of, unwritable
from harness.registry.plugin_calls import (
    CALL,
    Breach,
    defined_at,
    frames_of,
    is_ours,
    places_of,
    told,
    unwrapped,
)
from harness.registry.registry import Registry


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
        if isinstance(problem, OSError) and lacks_room(problem):  # a full disk is nobody's fault
            raise unwritable(place_of(problem), problem) from problem
        explanation = explain(problem, registry)
        if explanation is None:
            raise
        raise PluginError(explanation) from problem


def explain(problem: BaseException, registry: Registry) -> str | None:
    """Names the plugin that an exception comes from, with file and line; `None` if it is ours."""
    function, action = getattr(problem, CALL, (_refused_forward(problem), ""))
    known = [(_owner(frame.file, registry), frame) for frame in frames_of(problem)]
    last = max((i for i, (owner, _) in enumerate(known) if owner is not None), default=None)
    if last is None:
        name = _owner_of(function, registry)
        called, place = [], defined_at(function) or str(known[-1][1])
    else:
        name, frame = known[last]
        called = [other for _, other in known[last:] if is_ours(other.file)]
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
    return f"{who} failed{doing}: {told(problem)} ({place}). {remedy}"


def _refused_forward(problem: BaseException) -> object:
    """Returns the `forward` that torch failed to call, because it takes other arguments."""
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    is_torch = frame.f_globals.get("__name__") == "torch.nn.modules.module"
    return getattr(frame.f_locals.get("self"), "forward", None) if is_torch else None


def _who(name: str, registry: Registry) -> str:
    return f"The {'built-in ' if name in registry.built_in else ''}plugin {name!r}"


def _owner(file: Path, registry: Registry) -> str | None:
    """Name of the plugin that a file belongs to; of two in one package, the one nearer to it."""
    if is_ours(file):
        return None
    near = [
        (len(place.parts), name)
        for name, plugin in registry.plugins.items()
        for place in places_of(plugin)
        if file.is_relative_to(place)
    ]
    return max(near)[1] if near else None


def _owner_of(function: object, registry: Registry) -> str | None:
    """Name of the plugin that offers a function in one of its specs, or else defines it."""
    if function is None:
        return None
    for catalog in registry.catalogs():
        for name, spec in catalog.items():
            if any(part is function for part in vars(spec).values()):
                return catalog.owner(name)
    places = places_of(unwrapped(function))
    return _owner(places[-1], registry) if places else None
