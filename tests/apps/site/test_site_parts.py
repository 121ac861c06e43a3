"""Colours, axes and tables of the site, as laws."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.apps.site import build, plots
from harness.apps.site.html_tables import (
    SHADES,
    Column,
    HtmlEntry,
    Scale,
    entry_html,
    flat,
    linked,
    number,
    p_value,
    significant,
)
from harness.apps.site.predictions import draw_parity, worst_materials
from harness.apps.site.results import rank_cells
from harness.apps.site.tested_rows import CellRows, RowSet
from harness.report.pivot import PivotEntry
from harness_properties import KAPPA

steady = settings(deadline=None, derandomize=True, max_examples=60)

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@steady
@given(VALUES, st.booleans())
def test_a_better_value_never_has_a_worse_shade(values: list[float], higher: bool) -> None:
    scale = Scale.of(values, higher)
    ordered = sorted(values, reverse=not higher)
    shades = [scale.shade(value) for value in ordered]
    assert shades == sorted(shades)
    assert all(0 <= shade < SHADES for shade in shades)


@steady
@given(VALUES, st.booleans())
def test_the_legend_holds_the_shades_of_all_values(values: list[float], higher: bool) -> None:
    scale = Scale.of(values, higher)
    listed = [entry.shade for entry in scale.legend()]
    assert listed == sorted(listed, reverse=True), "best first"
    assert {scale.shade(value) for value in values} <= set(listed)


def test_one_model_that_fails_leaves_colours_to_the_others() -> None:
    scale = Scale.of([*np.linspace(0.2, 0.3, 90), 1e9], higher_is_better=False)
    assert len({scale.shade(value) for value in np.linspace(0.2, 0.3, 90)}) == SHADES
    assert scale.shade(1e9) == 0


def test_what_is_no_number_has_no_shade() -> None:
    assert Scale.of([1.0, math.nan], higher_is_better=True).shade(math.nan) is None
    assert Scale.of([], higher_is_better=True).legend() == ()


@steady
@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=20), st.booleans())
def test_an_axis_keeps_order_and_holds_all_values(values: list[float], log: bool) -> None:
    axis = plots.make_axis("x", np.array(values), 50.0, 400.0, log=log)
    places = axis.place(np.sort(values))
    assert (np.diff(places) >= 0).all()
    assert ((places >= 50) & (places <= 400)).all()
    at = [place for place, _ in axis.ticks]
    assert at == sorted(at)
    assert all(50 <= place <= 400 for place in at)


def test_ticks_stand_where_their_numbers_do() -> None:
    axis = plots.make_axis("κ", np.array([0.5, 2000.0]), 0.0, 100.0, log=True)
    for place, label in axis.ticks:
        assert place == pytest.approx(float(axis.place(np.array(float(label)))), abs=0.05)
    assert [label for _, label in axis.ticks] == ["1", "10", "100", "1000"]


@steady
@given(
    st.lists(st.floats(0, 600).map(abs) | st.integers(0, 8800).map(lambda n: n / 20), min_size=1)
)
def test_positions_are_rounded_to_one_decimal(values: list[float]) -> None:
    texts = [f"{value:.1f}".removesuffix(".0") for value in values]
    path = "".join(f"M{text} {text}h0" for text in texts)
    assert plots.dots(np.array(values), np.array(values)) == path


def test_a_curve_is_interrupted_where_a_loss_is_not_finite() -> None:
    path = plots.line(np.arange(4.0), np.array([1.0, math.nan, 2.0, 3.0]))
    assert path == "M0 1M2 2L3 3"


def rows_of(predictions: list[float], overlap: bool = False) -> pd.DataFrame:
    n = len(predictions)
    return pd.DataFrame(
        {
            "run": [1] * n,
            "part": ["A"] * n,
            "id": [f"m{i}" for i in range(n)],
            "target": [10.0] * n,
            "prediction": predictions,
            "overlap": [overlap] * n,
        }
    )


def test_a_parity_plot_draws_every_prediction_once_and_counts_the_rest() -> None:
    plot = draw_parity(rows_of([10.0, 20.0, 1e12, math.nan]), KAPPA)
    (drawn,) = (mark for mark in plot.marks if mark.style.startswith("row"))
    assert drawn.path.count("M") == 3
    assert "on its edge: 1 prediction." in plot.note
    assert "not drawn: 1 prediction." in plot.note


def test_overlapping_rows_are_drawn_apart() -> None:
    styles = [mark.style for mark in draw_parity(rows_of([5.0, 6.0], overlap=True), KAPPA).marks]
    assert "row overlap" in styles
    assert "row" not in styles


def test_worst_materials_come_with_failures_first_then_by_their_error() -> None:
    frame = rows_of([11.0, 100.0, math.nan, 1.0, 30.0])
    table = worst_materials(CellRows(frame, RowSet.of(frame, {})), KAPPA)
    titles = [column.title for column in table.columns]
    shown = [[entry.text for entry in row] for row in table.rows]
    assert [row[titles.index("id")] for row in shown] == ["m2", "m1", "m3", "m4", "m0"]
    assert [row[titles.index("factor off")] for row in shown] == ["—", "10.0", "10.0", "3.0", "1.1"]
    assert "dataset" not in titles, "the same for all"


@pytest.mark.parametrize(
    ("value", "text"), [(1774.2, "1770"), (0.01184, "0.0118"), (math.inf, "∞"), (math.nan, "—")]
)
def test_conductivities_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert significant(value).text == text


def test_a_small_p_is_not_shown_as_nothing() -> None:
    assert p_value(1e-9).text == "< 0.001"
    assert p_value(math.nan).text == "—"
    assert number(math.nan).value is None


def test_settings_are_flat_and_without_what_is_empty() -> None:
    nested = {"a": {"b": 1, "c": None}, "d": [1, "x"], "e": [], "f": [{"g": 2.5}]}
    assert flat(nested) == {"a.b": "1", "d": "1, x", "f": "g 2.5"}


# --- colours that everyone can tell apart -------------------------------------------------------

STYLE = (build.HERE / "assets" / "style.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", part))
    for part in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_letters_can_be_read_on_every_shade(theme: dict[str, str]) -> None:
    for shade in range(SHADES):
        letters = theme["on-low" if shade < 6 else "on-high"]
        assert contrast(theme[f"s{shade}"], letters) >= 4.5, shade


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_shades_get_steadily_darker_or_lighter(theme: dict[str, str]) -> None:
    light = [luminance(theme[f"s{shade}"]) for shade in range(SHADES)]
    assert light == sorted(light) or light == sorted(light, reverse=True)
    steps = [contrast(theme[f"s{i}"], theme[f"s{i + 1}"]) for i in range(SHADES - 1)]
    assert min(steps) > 1.05, "neighbours can be told apart"


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_links_and_marks_stand_out_from_the_ground(theme: dict[str, str]) -> None:
    for name in ("text", "quiet", "link"):
        assert contrast(theme[name], theme["ground"]) >= 4.5, name
        assert contrast(theme[name], theme["raised"]) >= 4.5, name
    for name in ("blue", "orange", "focus", "care-edge"):
        assert contrast(theme[name], theme["ground"]) >= 3, name
    assert contrast(theme["text"], theme["care"]) >= 4.5


def test_the_style_sheet_has_as_many_shades_as_the_tables() -> None:
    assert {f"s{shade}" for shade in range(SHADES)} <= LIGHT.keys() & DARK.keys()
    assert f"s{SHADES}" not in LIGHT


def test_templates_and_assets_are_named_in_no_other_place() -> None:
    used = {path.name for path in Path(build.HERE / "templates").iterdir()}
    source = (build.HERE / "build.py").read_text() + "".join(
        path.read_text() for path in (build.HERE / "templates").iterdir()
    )
    assert all(name in source for name in used)


# --- ranks, entries, papers ----------------------------------------------------------------------


def entry_of(name: str, mean: float, **facts: Any) -> PivotEntry:
    cell = {"protocol": "strict", "train_on": "A", "test_on": "A"}
    nothing: dict[str, Any] = dict.fromkeys(("std", "low", "high"), math.nan)
    known = {"state": "scored", "runs": 9, "n": 20.0, "failed": 0, "trained_on": 0.0, **facts}
    return PivotEntry(name=(name,), cell=cell, metric="mae-log", mean=mean, **nothing, **known)


def test_what_is_undecided_may_be_anything_from_first_to_its_own_place() -> None:
    entries = [
        entry_of("worse", 0.5),
        entry_of("best", 0.2, best=True),
        entry_of("wide", 0.4, undecided=True),
        entry_of("learnt by heart", 0.1, trained_on=0.9),
        entry_of("failed", math.nan, state="failed"),
    ]
    assert rank_cells(entries, False) == {("best",): "1", ("wide",): "1–2", ("worse",): "3"}
    assert rank_cells(entries[:1], False) == {}, "one that is alone, or where none is best"


def test_an_entry_holds_text_not_markup() -> None:
    shown = entry_html(HtmlEntry('<b>"x"</b>', href='a"b', tag="<i>"), Column("model", "name"))
    assert "<b>" not in shown and "<i>" not in shown and 'a"b' not in shown


def test_papers_are_linked_by_doi_and_arxiv_number() -> None:
    told = linked("Chen et al. <1>, doi 10.1021/acs.chemmater.9b01294, arXiv 2106.09685.")
    assert "https://doi.org/10.1021/acs.chemmater.9b01294" in told
    assert 'href="https://arxiv.org/abs/2106.09685">arXiv 2106.09685</a>.' in told
    assert "&lt;1&gt;" in told
