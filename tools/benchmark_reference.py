"""The page on the benchmark file, `docs/benchmark-file.md`: written from what reads such files.

`make docs` writes it again. Types, limits and defaults are pydantic's, meanings are docstrings'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docstrings import ROOT, read_meanings, read_source, read_text
from harness.planning.benchmark import Baseline, Benchmark, Committee, Model
from harness.planning.chosen_settings import Chosen, Setting
from harness.planning.configurations import ROWS_TO_FIT
from harness.planning.training_settings import TrainingSettings
from harness.plugin.dataset import DatasetSpec
from harness.plugin.head import FIT_ON, HeadSpec
from harness.plugin.metric import MetricSpec
from harness.plugin.settings import Settings
from harness.plugin.study import SpaceChanges, Tuning
from harness.registry.catalog import Catalog
from harness.registry.registry import Registry

if TYPE_CHECKING:
    import griffe

PAGE = ROOT / "harness" / "docs" / "benchmark-file.md"

HEAD = """\
# The benchmark file

Written by `make docs` from the source; do not edit.

A benchmark is a TOML file, `leaderboards/NAME/benchmark.toml`; its results lie beside it. Unknown
keys and wrong values are refused, with the line. `--set training.epochs=10` on the command line
goes over what is written.

What comes from a plugin (a backbone, a head, a transfer, a protocol) is written by its name,
`"mlp"`, or with settings as a table, `{ name = "mlp", hidden = [64, 64] }`. The names here are
those of the built-in plugins; `harness plugins list` has those of all that are installed.
"""


@dataclass(frozen=True)
class Table:
    """A table of the file.

    Attributes:
        title: as it is written in the file.
        model: what it is read by.
        about: what the docstring of the model does not say.
    """

    title: str
    model: type[Settings]
    about: str = ""


TABLES = (
    Table("At the top of the file", Benchmark),
    Table(
        "`[training]`, `[training_on.DATASET]`",
        TrainingSettings,
        "`[training_on.AFLOW]` changes some of them for stages that fit that dataset; a transfer "
        "may change them for its stages, which goes over both.",
    ),
    Table("`[[models]]`", Model),
    Table("`[[committees]]`", Committee),
    Table("`[[baselines]]`", Baseline),
    Table("`[tuning]`", Tuning),
    Table("`[tuning.space]`", SpaceChanges),
    Table(
        "`[[chosen]]`",
        Chosen,
        "`harness tune` writes these tables into `best.toml`; nobody needs to write one by hand.",
    ),
    Table("`[chosen.setting]`", Setting),
)

KINDS = {
    "backbones": "Backbones",
    "heads": "Heads, and baselines",
    "transfers": "Transfers",
    "protocols": "Protocols",
}
"""Catalogs whose names take settings, with their titles."""

ABOUT = {
    "heads": f"""\
Those fitted in closed form choose nothing by validation rows, and take a key that is none of their
settings:

| key | expected | unless given | meaning |
|---|---|---|---|
| `{FIT_ON}` | {" or ".join(f'`"{rows}"`' for rows in ROWS_TO_FIT)} | `"{ROWS_TO_FIT[0]}"` | Rows \
that the head is fitted on. With validation rows among them, no row is left to choose settings by \
in a search, nor to calibrate the interval of a bundle. |
""",
}
"""What holds for all of a catalog."""

CLOSED_FORM = f"Fitted in closed form: takes `{FIT_ON}` too."
"""Said of the heads that are."""

NAMED = {"datasets": "Datasets", "metrics": "Metrics"}
"""Catalogs whose names stand alone."""


def write_reference() -> None:
    """Writes the page."""
    PAGE.write_text(render_reference(), encoding="utf-8")


def render_reference() -> str:
    """Returns the page as Markdown; the same text for the same source and built-in plugins."""
    registry = Registry()
    parts = [HEAD]
    for table in TABLES:
        parts.append(f"## {table.title}\n")
        parts += [f"{text}\n" for text in (read_text(_source_of(table.model)), table.about) if text]
        parts.append(_keys(table.model))
    for name, title in KINDS.items():
        parts += [f"## {title}\n", *([ABOUT[name]] if name in ABOUT else ())]
        parts += [_component(spec) for spec in _built_in(getattr(registry, name), registry)]
    for name, title in NAMED.items():
        parts.append(f"## {title}\n")
        parts.append("".join(_named(spec) for spec in _built_in(getattr(registry, name), registry)))
    return "\n".join(parts)


def _built_in(catalog: Catalog[Any], registry: Registry) -> Iterator[Any]:
    for name in sorted(catalog):
        if catalog.owner(name) in registry.built_in:
            yield catalog[name]


def _component(spec: Any) -> str:
    closed_form = f" {CLOSED_FORM}" if isinstance(spec, HeadSpec) and spec.fit else ""
    parts = [f"### `{spec.name}`\n", f"{_sentence(spec.summary)}{closed_form}\n"]
    if spec.settings.model_fields:
        parts.append(_keys(spec.settings))
    return "\n".join(parts)


def _named(spec: DatasetSpec | MetricSpec) -> str:
    what = spec.read_card().title if isinstance(spec, DatasetSpec) else spec.title
    return f"- `{spec.name}`: {what}\n"


# --- keys -------------------------------------------------------------------------------------


def _keys(model: type[Settings]) -> str:
    """A table of the keys of a model."""
    schema, meanings = model.model_json_schema(), read_meanings(_source_of(model))
    lines = ["| key | expected | unless given | meaning |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        cells = (
            f"`{key}`",
            describe_type(field, schema.get("$defs", {})),
            _default(key, field, key in schema.get("required", ())),
            _sentence(meanings[key]),
        )
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(key: str, field: Mapping[str, Any], required: bool) -> str:
    if required and key != "name":  # that one comes from the folder
        return "must be given"
    value = field.get("default")
    if value in (None, "", {}, []) or field.get("$ref", _COMPONENT) != _COMPONENT:
        return ""
    return f"`{_as_toml(value)}`"


def _as_toml(value: Any) -> str:
    """Returns a default as a benchmark file would have it."""
    if isinstance(value, Mapping):
        if value.keys() == {"name"}:
            return json.dumps(value["name"])
        inside = ", ".join(f"{key} = {_as_toml(of_key)}" for key, of_key in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list):
        shown = [_as_toml(item) for item in value]
        if len(shown) > LONGEST_LIST:
            shown = [*shown[:2], "…", shown[-1]]
        return f"[{', '.join(shown)}]"
    return json.dumps(value, ensure_ascii=False)


def describe_type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Returns, in words of a TOML file, what a JSON schema takes.

    Raises:
        ValueError: there are no words yet for such a schema.
    """
    if "$ref" in field:
        return _of_model(field["$ref"])
    if "anyOf" in field:
        kinds = [describe_type(kind, definitions) for kind in field["anyOf"] if not _is_null(kind)]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in map(_as_toml, field["enum"]))
    if "const" in field:
        return f"`{_as_toml(field['const'])}`"
    describe = _WORDS.get(field.get("type", ""))
    if describe is None:
        raise ValueError(f"no words for {field}")
    return describe(field, definitions)


def _is_null(field: Mapping[str, Any]) -> bool:
    return field.get("type") == "null"


def _of_model(reference: str) -> str:
    if reference == _COMPONENT:
        return "name, or table"
    name = reference.rpartition("/")[2]
    titles = [table.title for table in TABLES if table.model.__name__ == name]
    return titles[0] if titles else "table"


def _number(kind: str) -> Callable[[Mapping[str, Any], Mapping[str, Any]], str]:
    def describe(field: Mapping[str, Any], _definitions: Mapping[str, Any]) -> str:
        limits = [
            f"{sign} {field[limit]:,}"
            for limit, sign in _LIMITS.items()
            if limit in field and abs(field[limit]) < _NO_LIMIT
        ]
        return " ".join((kind, *filter(None, (", ".join(limits),))))

    return describe


LONGEST_LIST = 5
"""Items of a default that are shown."""

_COMPONENT = "#/$defs/ComponentRef"
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_NO_LIMIT = 2**53
"""From here on a limit says what fits into a number, which no reader of the table asks."""


def _list(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    each: Mapping[str, Any] = field.get("items") or next(iter(field.get("prefixItems", ())), {})
    return f"list: {describe_type(each, definitions)}" if each else "list"


def _table(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return "table"


def _text(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return "text"


def _truth(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    return "`true` or `false`"


_WORDS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], str]] = {
    "integer": _number("whole number"),
    "number": _number("number"),
    "array": _list,
    "object": _table,
    "string": _text,
    "boolean": _truth,
}


def _source_of(model: type[Settings]) -> griffe.Class:
    """Returns a class as it stands in its file: at run time, fields have no docstrings."""
    package, *path = (*model.__module__.split("."), model.__name__)
    found: griffe.Class = read_source(package)[".".join(path)]
    return found


def _sentence(text: str) -> str:
    """Returns text that begins and ends like a sentence."""
    ended = text if text.endswith(".") else f"{text}."
    return f"{ended[0].upper()}{ended[1:]}"


if __name__ == "__main__":
    write_reference()
