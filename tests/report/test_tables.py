"""Tables as text: what a reader of each form sees."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.cli.output import print_pivot
from harness.errors import BenchmarkError
from harness.report.pivot import Layout, Pivot, pivot
from harness.report.tables import FORMS, Wording, caption, heads, html_table, number_text, render

SCORES = {
    ("scratch", "A", "A"): [0.30, 0.50, 0.40],
    ("scratch", "A", "B_1"): [0.1, 0.2, 0.3],
    ("pre<trained>", "A", "A"): [0.90, 1.10, 1.001],
    ("pre<trained>", "A", "B_1"): [0.4, None, 0.5],
    ("waiting & co", "A", "A"): [],
}


@pytest.fixture
def table(make_leaderboard, metrics) -> Pivot:
    return pivot(make_leaderboard(SCORES), metrics)


def test_markdown_groups_rows_and_marks_what_stands_out(table: Pivot) -> None:
    text = render(table, "markdown")
    assert text.startswith("**Mine. MAPE (lower is better), mean (std) over 3 runs. Everywhere: ")
    assert "**0.40 (0.10)**" in text
    assert "failed (1 rows)" in text
    assert "not run" in text
    assert "—" in text
    assert "**bold**: the best mean of its train-on → test-on in the leaderboard." in text


def test_n_interval_and_digits_on_demand(table: Pivot) -> None:
    text = render(table, "markdown", Wording(digits=3, with_n=True, with_interval=True))
    assert "0.400 (0.100) [0.3" in text
    assert ", n 20.0" in text


def test_a_cell_that_lacks_runs_says_so(make_leaderboard, metrics) -> None:
    (entry,) = pivot(
        make_leaderboard({("scratch", "A", "A"): [0.3, 0.5]}), metrics
    ).entries.values()
    assert number_text(entry, Wording(), 3) == "0.40 (0.14), 2 of 3 runs"


def test_heads_leave_out_what_the_row_above_has() -> None:
    keys = (("a", "x", "1"), ("a", "x", "2"), ("a", "y", "2"), ("b", "y", "2"))
    assert list(heads(keys)) == [
        ("a", "x", "1"),
        ("", "", "2"),
        ("", "y", "2"),
        ("b", "y", "2"),
    ]


def test_html_has_classes_and_escapes_names(table: Pivot) -> None:
    tree = ET.fromstring(html_table(table).replace("&nbsp;", " "))
    by_class = {cell.get("class", "").split()[-1]: cell.text for cell in tree.iter("td")}
    assert by_class["best"] == "0.40 (0.10)"
    assert by_class["missing"] in ("—", "not run", "failed (1 rows)")
    assert "pre<trained>" in [head.text for head in tree.iter("th")]
    (row,) = tree.findall("thead/tr")
    assert [head.text for head in row] == ["model", "train_on", "A", "B_1"]


def test_an_html_page_stands_alone(table: Pivot) -> None:
    page = render(table, "html")
    assert page.startswith("<!doctype html>")
    assert "<style>" in page
    assert "http" not in page


def test_csv_has_a_line_per_row(table: Pivot) -> None:
    rows = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    assert rows[0] == {
        "model": "scratch",
        "train_on": "A",
        "A": "0.40 (0.10)",
        "B_1": "0.20 (0.10)",
    }


def test_long_csv_has_every_number(shipped_leaderboard, metrics) -> None:
    table = pivot(shipped_leaderboard, metrics)
    rows = list(csv.DictReader(io.StringIO(render(table, "csv-long"))))
    assert len(rows) == len(shipped_leaderboard.cells)
    assert {"mean", "std", "low", "high", "n", "runs", "best", "undecided", "negative"} <= set(
        rows[0]
    )


def test_an_unknown_form_gets_a_suggestion(table: Pivot) -> None:
    with pytest.raises(BenchmarkError, match=r"No form of table 'latx'. Did you mean 'latex'"):
        render(table, "latx")


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_the_same_every_time(table: Pivot, form: str) -> None:
    assert render(table, form) == render(table, form)


def test_latex_is_booktabs_with_names_escaped(table: Pivot) -> None:
    text = render(table, "latex")
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert text.count(rule) == 1
    assert "model & train\\_on & A & B\\_1 \\\\" in text
    assert "\\textbf{0.40 (0.10)}" in text
    assert "waiting \\& co" in text
    assert "pre\\textless{}trained\\textgreater{}" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles_and_fits_the_page(shipped_leaderboard, metrics, tmp_path: Path) -> None:
    layout = Layout(metrics=("mape", "mae-log"))
    body = render(pivot(shipped_leaderboard, metrics, layout), "latex")
    (tmp_path / "doc.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def shown(table: Pivot, capsys, monkeypatch, width: int | None = None) -> str:
    if width is not None:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
    print_pivot(table, Wording())
    return (
        re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out) if width else capsys.readouterr().out
    )


def test_a_log_has_marks_in_place_of_styles(table: Pivot, capsys, monkeypatch) -> None:
    out = shown(table, capsys, monkeypatch)
    assert "0.40 (0.10) *" in out
    assert "\x1b" not in out


def test_columns_that_do_not_fit_go_below(
    shipped_leaderboard, metrics, capsys, monkeypatch
) -> None:
    table = pivot(shipped_leaderboard, metrics, Layout(columns=("train_on", "test_on")))
    wide = shown(table, capsys, monkeypatch, 400)
    narrow = shown(table, capsys, monkeypatch, 60)
    assert narrow.count("two-stage") > wide.count("two-stage")
    assert max(len(line) for line in narrow.splitlines()) <= 60
    for _, entries in table.lines():
        for entry in entries:
            assert number_text(entry, Wording(), table.runs) in narrow


LEAK = {("scratch", "A", "A"): [0.3, 0.3, 0.4], ("copied", "B", "A"): [0.05, 0.06, 0.05]}
SEEN = {
    "markdown": "| 0.05 (0.01) § |",
    "csv": ",0.05 (0.01) §",
    "latex": "0.05 (0.01)$^{\\mathsection}$",
    "html": 'trained-on" >0.05 (0.01) §<',
}


@pytest.mark.parametrize("form", SEEN)
def test_every_form_marks_a_cell_mostly_trained_on(make_leaderboard, metrics, form: str) -> None:
    text = render(pivot(make_leaderboard(LEAK, overlap_free=5), metrics), form)
    assert SEEN[form] in text
    assert form == "csv" or "more than half of the test rows" in text


def test_the_terminal_and_the_long_csv_mark_it_too(make_leaderboard, metrics, capsys) -> None:
    table = pivot(make_leaderboard(LEAK, overlap_free=5), metrics)
    print_pivot(table, Wording())
    assert "0.05 (0.01) §" in capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(render(table, "csv-long"))))
    assert [(row["trained_on"], row["best"]) for row in rows] == [("0", "False"), ("0.75", "False")]


HOSTILE = {("=cmd|' /C calc'!A0", "[a](http://x)", "\x1b[2J"): [0.3, 0.4, 0.3]}


@pytest.mark.parametrize("form", FORMS)
def test_names_of_others_are_text_in_every_form(make_leaderboard, metrics, form: str) -> None:
    text = render(pivot(make_leaderboard(HOSTILE), metrics), form)
    assert "\x1b" not in text
    if form.startswith("csv"):
        assert "'=cmd" in text
    if form == "markdown":
        assert "[a](" not in text


def test_captions_name_what_is_the_same_everywhere(shipped_leaderboard, metrics) -> None:
    only = {"transfer": ["scratch"], "backbone": ["megnet"]}
    text = caption(pivot(shipped_leaderboard, metrics, Layout(only=only, subset="overlap-free")))
    assert "Everywhere: backbone megnet" in text
    assert "protocol strict" in text
    assert "overlap-free rows only" in text
    table = pivot(shipped_leaderboard, metrics, Layout(columns=("train_on", "test_on")))
    assert "Columns: train_on, within it test_on" in caption(table)
