"""Printing never costs work, wherever it goes."""

from __future__ import annotations

import json
import math
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


def test_a_structure_that_could_not_be_read_has_no_formula() -> None:
    from harness.apps.predict.prediction_table import columns_of, lay_out
    from harness.cli.predict import prediction_row
    from harness_properties import KAPPA

    row = {name: float("nan") for name in columns_of(KAPPA)}
    texts = {"id": "x", "reason": "no file", "in_training": None, "warnings": ""}
    printed = prediction_row({**row, **texts}, lay_out([("own", KAPPA)]))
    assert {name: text for name, text in printed.items() if text} == {
        "id": "x",
        "remarks": "no file",
    }


def test_what_several_bundles_remark_is_said_once() -> None:
    from harness.apps.predict.prediction_table import columns_of, lay_out
    from harness.cli.predict import prediction_row
    from harness_properties import BAND_GAP, KAPPA

    layout = lay_out([("a", KAPPA), ("b", BAND_GAP)])
    row = {one.column(name): math.nan for one in layout for name in columns_of(one.spec)}
    texts = {"id": "x", "kappa_in_training": True, "band_gap_in_training": False}
    texts |= {"kappa_warnings": "1 atom alone", "band_gap_warnings": "1 atom alone; far: 2"}
    texts |= {"kappa_reason": "", "band_gap_reason": ""}
    remarks = prediction_row({**row, **texts}, layout)["remarks"]
    assert remarks == "1 atom alone; κ: a training row has this formula; E_g: far: 2"


def test_a_narrow_terminal_cuts_no_id(capsys, monkeypatch) -> None:
    from harness.cli.output import print_table

    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "40", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    name = "a-very-long-id-of-a-material-" * 3
    print_table("Rows", [{"id": name, "remarks": "as it should be"}])
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("-") == name.count("-")


@pytest.mark.parametrize(
    ("sorted_by_name", "conventional"),
    [("Br4K2Pd", "K2PdBr4"), ("ClNa", "NaCl"), ("AsGa", "GaAs"), ("", "")],
)
def test_a_prediction_bears_the_formula_that_chemists_write(
    sorted_by_name: str, conventional: str
) -> None:
    from harness.apps.predict.prediction_table import columns_of, lay_out
    from harness.cli.predict import prediction_row
    from harness_properties import KAPPA

    row = dict.fromkeys(columns_of(KAPPA), 1.0)
    texts = {"id": "x", "formula": sorted_by_name, "reason": "", "in_training": False}
    printed = prediction_row({**row, **texts, "warnings": ""}, lay_out([("own", KAPPA)]))
    assert printed["formula"] == conventional
    assert printed["centre"] == "1"
