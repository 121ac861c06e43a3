"""The hook reference, `docs/hooks.md`: written from the source, so that it cannot drift.

`make docs` writes it again. The source is read by griffe, which comes with the extra `dev`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import griffe

from docstrings import ROOT, on_one_line, read_meanings, read_source, read_text, sections
from harness.cli.progress import LiveProgress, PlainProgress
from harness.registry.registry import Registry

PAGE = ROOT / "harness" / "docs" / "hooks.md"

OBSERVERS = (LiveProgress, PlainProgress)
"""The built-in observers."""

HEAD = """\
# Hook reference

Written by `make docs` from the source; do not edit.

A plugin is a Python module with functions that are named like the hooks below and marked with
`@hookimpl`. Those called `register_…` return what the plugin offers, as specs; the others, the
observers, are told what happens. All names are imported from `harness.plugin`.

Where a spec takes a function (`… | str` below) it may be given as text, `"package.module:Name"`: it
is imported when it is called, so that the module with the hooks stays light without any import in
a function.
"""


@dataclass(frozen=True)
class Chapter:
    """Hooks that belong together, and what is handed over through them.

    Attributes:
        title: of the chapter.
        hooks: by name.
        types: to describe, by their path below `harness`.
    """

    title: str
    hooks: tuple[str, ...]
    types: tuple[str, ...]


CHAPTERS = (
    Chapter("Properties", ("register_properties",), ("plugin.property.PropertySpec",)),
    Chapter(
        "Datasets",
        ("register_datasets",),
        (
            "plugin.dataset.DatasetSpec",
            "plugin.dataset.Card",
            "plugin.crystal.Crystal",
            "plugin.locations.Locations",
        ),
    ),
    Chapter(
        "Backbones",
        ("register_backbones",),
        (
            "plugin.backbone.BackboneSpec",
            "plugin.backbone.Backbone",
            "plugin.backbone.Pool",
            "plugin.backbone.PretrainedWeights",
            "nn.stack.Stacked",
        ),
    ),
    Chapter(
        "Heads",
        ("register_heads",),
        ("plugin.head.HeadSpec", "plugin.head.FitRows", "plugin.head.Uncertain"),
    ),
    Chapter(
        "Transfer strategies",
        ("register_transfers",),
        (
            "plugin.transfer.TransferSpec",
            "plugin.transfer.Target",
            "plugin.transfer.Stage",
            "plugin.transfer.ParameterGroup",
            "plugin.transfer.Adapter",
            "planning.training_settings.TrainingSettings",
        ),
    ),
    Chapter(
        "Protocols",
        ("register_protocols",),
        (
            "plugin.protocol.ProtocolSpec",
            "plugin.protocol.ProtocolRules",
            "plugin.protocol.Split",
            "plugin.protocol.Scaler",
        ),
    ),
    Chapter("Metrics", ("register_metrics",), ("plugin.metric.MetricSpec",)),
    Chapter(
        "Observers",
        (
            "executor_started",
            "encoding_progressed",
            "stage_started",
            "epoch_finished",
            "stage_finished",
            "cell_finished",
            "search_progressed",
        ),
        (
            "plugin.events.ExecutorStarted",
            "plugin.events.EncodingProgressed",
            "plugin.events.StageStarted",
            "plugin.events.EpochFinished",
            "plugin.events.StageFinished",
            "plugin.events.CellFinished",
            "plugin.events.SearchProgressed",
        ),
    ),
    Chapter(
        "Searches for settings",
        ("make_study",),
        (
            "plugin.study.StudyRequest",
            "plugin.study.Tuning",
            "plugin.ranges.SearchSpace",
            "plugin.ranges.Range",
            "plugin.ranges.Choice",
        ),
    ),
    Chapter(
        "Executors",
        ("make_executor",),
        (
            "plugin.executor.ExecutorRequest",
            "plugin.executor.Executor",
            "plugin.executor.TaskLink",
        ),
    ),
    Chapter("In specs of several kinds", (), ("plugin.settings.Settings",)),
)

ALIASES = (
    "arrays.Floats",
    "arrays.Indices",
    "arrays.Arrays",
    "ranges.Space",
    "backbone.Layers",
    "backbone.Invariance",
    "head.Predictor",
    "executor.Task",
    "transfer.Start",
    "metric.MAPE_FLOOR",
    "property.Scale",
    "property.Needs",
)
"""Names that stand for a type or a number, by their path below `harness.plugin`."""


def write_reference() -> None:
    """Writes the page."""
    PAGE.write_text(render_reference(), encoding="utf-8")


def render_reference() -> str:
    """Returns the page as Markdown; the same text for the same source and built-in plugins."""
    package = read_source("harness")
    users = find_users()
    parts = [HEAD]
    for chapter in CHAPTERS:
        parts.append(f"## {chapter.title}\n")
        parts += [_hook(package[f"plugin.hookspecs.{name}"], users[name]) for name in chapter.hooks]
        parts += [_type(package[path]) for path in chapter.types]
    parts.append("## Names of types and numbers\n")
    parts.append("".join(_alias(package[f"plugin.{path}"]) for path in ALIASES))
    return "\n".join(parts)


def find_users() -> dict[str, list[str]]:
    """Returns, for every hook, the built-in plugins and observers that use it."""
    registry = Registry()
    found: dict[str, list[str]] = {}
    for hook, caller in sorted(vars(registry.manager.hook).items()):
        if hook.startswith("_"):
            continue
        plugins = {i.plugin_name for i in caller.get_hookimpls()} & registry.built_in
        found[hook] = [getattr(registry.plugins[name], "__name__", name) for name in plugins]
        found[hook] += [f"{o.__module__}.{o.__name__}" for o in OBSERVERS if hasattr(o, hook)]
        found[hook].sort()
    return found


def _hook(hook: griffe.Function, users: Sequence[str]) -> str:
    who = ", ".join(f"`{name}`" for name in users)
    return f"### `{hook.signature()}`\n\n{read_text(hook)}\n\nUsed by {who}.\n"


def _type(kind: griffe.Class) -> str:
    lines = [*_fields(kind), *_methods(kind)]
    return "\n\n".join(filter(None, (f"### {kind.name}", read_text(kind), "\n".join(lines)))) + "\n"


def _fields(kind: griffe.Class) -> Iterator[str]:
    """Yields a line for every attribute with a meaning, those that a dataclass inherits first."""
    meanings = read_meanings(kind)
    is_data = "dataclass" in kind.labels
    promised = set() if is_data else _inherited(kind)
    for name, found in (kind.all_members if is_data else kind.members).items():
        member = found.final_target if isinstance(found, griffe.Alias) else found
        known = name in meanings and name not in promised
        if not known or not isinstance(member, griffe.Attribute):
            continue
        is_default = member.value is not None and "property" not in member.labels
        default = f" = {member.value}" if is_default else ""
        yield f"- `{name}: {_as_given(f'{member.annotation}{default}')}`: {meanings[name]}"


def _as_given(field: str) -> str:
    """What an author may give for a field that holds a function: text, too."""
    inside, function, default = field.removeprefix("Function[").rpartition("] = Function(")
    if not function:
        return field
    may_lack = default == "None)"
    return f"{inside.removesuffix(' | None')} | str{' | None = None' if may_lack else ''}"


def _inherited(kind: griffe.Class) -> set[str]:
    return {name for base in kind.mro() for name in base.members if name != "__init__"}


def _methods(kind: griffe.Class) -> Iterator[str]:
    """Yields lines for every method that does not only do what a base promises."""
    for name, method in kind.functions.items():
        if method.docstring is None or name in _inherited(kind):
            continue
        signature = method.signature().removesuffix(" -> None")
        if "classmethod" in method.labels:
            signature = f"{kind.name}.{signature}"
        must = " (abstract)" if "abstractmethod" in method.labels else ""
        signature = signature.replace("__init__", kind.name)
        yield f"- `{signature}`{must}: {on_one_line(read_text(method))}"
        yield from _details(method)


def _details(method: griffe.Function) -> Iterator[str]:
    """Yields lines for what a method takes, returns and raises."""
    for section in sections(method):
        if isinstance(section, griffe.DocstringSectionParameters):
            yield from (f"    - `{e.name}`: {on_one_line(e.description)}" for e in section.value)
        elif isinstance(section, griffe.DocstringSectionReturns):
            yield from (f"    - returns: {on_one_line(e.description)}" for e in section.value)
        elif isinstance(section, griffe.DocstringSectionRaises):
            yield from (
                f"    - raises `{e.annotation}`: {on_one_line(e.description)}"
                for e in section.value
            )


def _alias(alias: griffe.Attribute) -> str:
    meaning = f": {on_one_line(alias.docstring.value)}" if alias.docstring else ""
    return f"- `{alias.name} = {alias.value}`{meaning}\n"


if __name__ == "__main__":
    write_reference()
