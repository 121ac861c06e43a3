"""Help that fits any terminal, says what to type, and shows it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from harness.cli import app
from harness.cli.help import SECTIONS


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields every command, with the words that call it."""
    if isinstance(command, TyperGroup):
        for name, own in command.commands.items():
            yield from commands(own, (*path, name))
    else:
        yield path, command


ALL = dict(commands(typer.main.get_command(app)))


def examples_of(text: str) -> list[str]:
    return [line.strip() for line in text.partition("Examples:\n")[2].splitlines() if line]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_shows_two_examples_that_it_would_take(path, harness) -> None:
    _, out, _ = harness(*path, "--help")
    examples = examples_of(out)
    assert len(examples) >= 2
    known = {name for param in ALL[path].params for name in (*param.opts, *param.secondary_opts)}
    for example in examples:
        words = shlex.split(example)
        assert words[: 1 + len(path)] == ["harness", *path]
        assert {word for word in words if word.startswith("-")} <= known, example


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("path", [(), *ALL], ids=lambda path: " ".join(path) or "harness")
def test_help_fits_the_terminal_and_names_values_in_capitals(
    path, width: int, harness, monkeypatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = harness(*path, "--help")
    body = out.partition("Examples:")[0]
    assert max(map(len, body.splitlines())) <= width
    assert not any(word in body for word in ("<str>", "<path>", "<int", "<bool>", "INTEGER"))


def test_commands_stand_in_groups(harness) -> None:
    _, out, _ = harness("--help")
    places = [out.index(f"\n{section}:\n") for section in SECTIONS]
    assert places == sorted(places)


def test_square_brackets_in_help_are_no_markup(harness) -> None:
    assert "`[tuning]`" in harness("tune", "--help")[1]


def test_the_option_for_results_and_the_one_for_output_have_names_of_their_own(harness) -> None:
    _, out, _ = harness("table", "--help")
    assert "--results FOLDER" in out
    assert "-o, --to FILE" in out
    assert "--out" not in out


def test_a_shell_completes_commands_and_benchmarks(harness, tmp_path, monkeypatch) -> None:
    (tmp_path / "leaderboards" / "mine").mkdir(parents=True)
    (tmp_path / "leaderboards" / "mine" / "benchmark.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_HARNESS_COMPLETE", "complete_bash")
    for words, completed in (("harness ta", "table"), ("harness run m", "mine")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        _, out, _ = harness()
        assert completed in out.split()
