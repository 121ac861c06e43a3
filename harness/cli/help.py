"""The help of commands: what they do, what they take, and two examples of each, in plain text."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

EXAMPLES = "Examples:"
"""Begins the part of a command's docstring that is shown as it is written, at the end."""

RUN, RESULTS, PREDICT, DATA = "Run", "Results", "Predict", "Data"
SHARE, PLUGINS = "Share", "Plugins and help"
SECTIONS = (RUN, RESULTS, PREDICT, DATA, SHARE, PLUGINS)
"""What commands are listed under, in this order."""

KINDS: dict[type, str] = {int: "N", float: "X", Path: "PATH", str: "TEXT"}
"""What stands for a value that has no word of its own."""

WIDEST, FIRST_COLUMN = 100, 30
"""Columns of the screen that help takes, and the first column of its lists, at most."""

Context = Any
"""The parser's, which is click's or, from Typer 0.26, Typer's own."""


class Command(TyperCommand):
    """A command whose help is laid out here."""

    def format_help(self, ctx: Context, formatter: Any) -> None:
        """Writes the help."""
        formatter.write("\n".join(_help_lines(self, ctx)) + "\n")

    def get_usage(self, ctx: Context) -> str:
        """Returns how the command is called."""
        return _usage(self, ctx)


class Group(TyperGroup):
    """A command with commands of its own, which its help lists by group."""

    def format_help(self, ctx: Context, formatter: Any) -> None:
        """Writes the help."""
        formatter.write("\n".join(_help_lines(self, ctx)) + "\n")

    def get_usage(self, ctx: Context) -> str:
        """Returns how the command is called."""
        return _usage(self, ctx)


class Commands(typer.Typer):
    """A Typer application whose commands have the help that is laid out here."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(
            **facts,
            cls=Group,
            no_args_is_help=True,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
        )

    def command(self, name: str | None = None, **facts: Any) -> Callable[[Any], Any]:
        """Registers a command, as Typer does."""
        return super().command(name, **{"cls": Command, **facts})


def _help_lines(command: Any, ctx: Context) -> Iterator[str]:
    width = min(shutil.get_terminal_size().columns, WIDEST)
    prose, examples = _parts(command.help or "")
    yield _usage(command, ctx)
    for paragraph in prose:
        yield ""
        yield _filled(paragraph, width)
    taken = [param for param in command.get_params(ctx) if not getattr(param, "hidden", False)]
    is_argument = [param.param_type_name == "argument" for param in taken]
    kinds = _kinds(command.callback)
    arguments = [
        (_argument(param), _told(param))
        for param, so in zip(taken, is_argument, strict=True)
        if so and _told(param)
    ]
    options = [
        (_option(param, kinds), _told(param))
        for param, so in zip(taken, is_argument, strict=True)
        if not so
    ]
    sections = [("Arguments", arguments)]
    if isinstance(command, TyperGroup):
        sections += _command_sections(command, ctx)
    for title, rows in (*sections, ("Options", options)):
        if rows:
            yield f"\n{title}:"
            yield from _list_lines(rows, width)
    if examples:
        yield f"\n{EXAMPLES}"
        yield from (f"  {line}" for line in examples)


def _usage(command: Any, ctx: Context) -> str:
    arguments = [p for p in command.get_params(ctx) if p.param_type_name == "argument"]
    named = [_argument(p) if p.required else f"[{_argument(p)}]" for p in arguments]
    further = ["COMMAND …"] if isinstance(command, TyperGroup) else []
    return " ".join(["Usage:", ctx.command_path, "[OPTIONS]", *named, *further])


def _command_sections(group: Any, ctx: Context) -> list[tuple[str, list[tuple[str, str]]]]:
    """The commands of a group, by the section that each was put in."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if not command.hidden:
            prose, _ = _parts(command.help or "")
            section = getattr(command, "rich_help_panel", None)
            title = section if isinstance(section, str) else "Commands"
            sections.setdefault(title, []).append((name, " ".join(prose[:1])))
    order = (*SECTIONS, *sections)
    return sorted(sections.items(), key=lambda section: order.index(section[0]))


def _parts(text: str) -> tuple[list[str], list[str]]:
    """Cuts a docstring into its paragraphs, each on one line, and the lines of its examples."""
    prose, _, examples = inspect.cleandoc(text).partition(EXAMPLES)
    paragraphs = [" ".join(part.split()) for part in prose.split("\n\n")]
    lines = textwrap.dedent(examples.lstrip("\n")).splitlines()
    return [part for part in paragraphs if part], [line for line in lines if line]


def _argument(param: Any) -> str:
    name = param.metavar or (param.name or "").upper().replace("_", "-")
    return name if param.nargs == 1 or name.endswith("…") else f"{name}…"


def _option(param: Any, kinds: dict[str, str]) -> str:
    """How an option is written, as `-o, --to PATH`; of names that mean the same, the first."""
    short = [name for name in param.opts if not name.startswith("--")][:1]
    long = [name for name in param.opts if name.startswith("--")][:1]
    against = [f"/{name}" for name in param.secondary_opts[:1]]
    written = ", ".join((*short, *long)) + "".join(against)
    if getattr(param, "is_flag", False):
        return written
    return f"{written} {param.metavar or kinds.get(param.name or '', 'TEXT')}"


def _kinds(function: Any) -> dict[str, str]:
    """What stands for the value of every parameter of a command, by the type it has in Python."""
    if function is None:
        return {}
    kinds = {}
    for name, hint in get_type_hints(inspect.unwrap(function)).items():
        inner = [one for one in (*get_args(hint), hint) if one is not NoneType]
        inner = [one for outer in inner for one in (*get_args(outer), outer)]
        kinds[name] = next((KINDS[one] for one in inner if one in KINDS), "TEXT")
    return kinds


def _told(param: Any) -> str:
    text = " ".join((param.help or "").split())
    default = getattr(param, "default", None)
    shown = getattr(param, "show_default", True) and isinstance(default, int | float | str | Path)
    if shown and not isinstance(default, bool) and str(default) not in ("", "."):
        return f"{text} [{default}]"
    is_needed = param.required and param.param_type_name == "option"
    return f"{text} [needed]" if is_needed else text


def _list_lines(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    first = min(max(len(name) for name, _ in rows), FIRST_COLUMN)
    indent = " " * (first + 4)
    for name, text in rows:
        lines = textwrap.wrap(text, width - len(indent), break_on_hyphens=False) or [""]
        head = f"  {name.ljust(first)}  "
        if len(name) > first:
            yield head.rstrip()
            head = indent
        yield (head + lines[0]).rstrip()
        yield from (indent + line for line in lines[1:])


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)
