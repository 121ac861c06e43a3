"""Printing never costs work, wherever it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

COMMAND = "import sys; from harness.cli import main; sys.argv = ['harness', *{!r}]; main()"


def start(*arguments: str, encoding: str = "utf-8") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "arguments", [("docs", "footguns"), ("datasets", "list"), ("plugins", "list")], ids=" ".join
)
def test_an_encoding_without_our_letters_stops_nothing(
    arguments: tuple[str, ...], encoding: str
) -> None:
    with start(*arguments, encoding=encoding) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.decode(encoding)


def test_json_loses_no_letter_to_an_encoding() -> None:
    told = []
    for encoding in ("ascii", "utf-8"):
        with start("datasets", "list", "--json", encoding=encoding) as process:
            told.append(json.loads(process.communicate()[0].decode(encoding)))
    assert told[0] == told[1]


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    with start("docs", "hooks") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
