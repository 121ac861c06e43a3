"""What all figures share: equal files for equal figures, and series that can be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from harness.drawing.style import FORMATS, series_style, show_as_written, write_figure
from harness.errors import BenchmarkError, StoreError


@pytest.fixture
def figure() -> Any:
    made = Figure()
    made.subplots().plot([0, 1], [0, 1], **series_style(0))
    return made


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_are_the_same_every_time(figure: Any, tmp_path: Path, suffix: str) -> None:
    written = [write_figure(figure, tmp_path / f"x{suffix}").read_bytes() for _ in range(2)]
    assert written[0] == written[1]
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_other_formats_and_folders_are_refused(figure: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"written as \.png, \.svg, \.pdf"):
        write_figure(figure, tmp_path / "x.jpg")
    with pytest.raises(StoreError, match="Cannot write"):
        write_figure(figure, tmp_path / "absent" / "x.png")


def test_series_differ_in_more_than_colour() -> None:
    styles = [tuple(series_style(number).values()) for number in range(56)]
    assert len(set(styles)) == 56


def test_names_of_others_are_no_mathematics(figure: Any, tmp_path: Path) -> None:
    (axes,) = figure.axes
    names = ["$\\frac{1}{$", "$x^2$"]
    axes.set(title=names[0], xlabel=names[1])
    axes.set_xticks([0, 1], names)
    axes.legend(axes.lines, names[:1])
    text = write_figure(figure, tmp_path / "x.svg").read_text()
    assert text.count("<!-- $\\frac{1}{$ -->") == 3, "title, tick and legend, letter by letter"
    show_as_written(figure).draw_without_rendering()
