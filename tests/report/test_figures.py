"""Figures: each draws what the table says, on real results; nothing to draw is an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.drawing.style import Sheet, write_figure
from harness.errors import BenchmarkError
from harness.plugin.cell import DEFAULT
from harness.report import figures, store_figures
from harness.report.differences import Differences
from harness.report.pivot import Layout, pivot
from harness.report.tables import Wording, number_text

FINE_TUNED = {"transfer": ["scratch", "pretrained"]}


def texts(figure) -> list[str]:
    """Everything written in a figure."""
    from matplotlib.text import Text

    return [found.get_text() for found in figure.findobj(Text) if found.get_visible()]


def test_the_heat_map_writes_every_number(shipped_leaderboard, metrics) -> None:
    layout = Layout(columns=("train_on", "test_on"))
    written = texts(figures.draw_cells(shipped_leaderboard, metrics, layout))
    for _, row in pivot(shipped_leaderboard, metrics, layout).lines():
        for entry in row:
            assert number_text(entry, Wording(), 9) in written
    assert written.count("Dataset1") == 4, "outer heads stand once, over their columns"


def test_the_heat_map_shows_failed_and_missing_cells(make_leaderboard, metrics) -> None:
    scores = {("scratch", "A", "A"): [0.3, 0.5], ("bad", "A", "A"): [None], ("late", "A", "A"): []}
    written = texts(figures.draw_cells(make_leaderboard(scores), metrics, Layout()))
    assert {"failed (1 rows)", "not run", "0.40 (0.14), 2 of 3 runs"} <= set(written)


def test_gains_are_those_of_the_table(shipped_leaderboard, metrics) -> None:
    figure: Any = figures.draw_gains(shipped_leaderboard, metrics, Layout())
    gained = Differences(shipped_leaderboard, metrics["mae-log"]).gains()
    drawn = {
        round(float(line.get_xdata()[0]), 9)
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_marker() in ("o", "v")
    }
    assert drawn == {round(gain, 9) for gain in gained["gain"]}


def test_gains_of_all_datasets_share_one_axis(shipped_leaderboard, metrics) -> None:
    figure = figures.draw_gains(shipped_leaderboard, metrics, Layout())
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    gained = Differences(shipped_leaderboard, metrics["mae-log"]).gains()
    assert len(names) == len(gained) + 9, "a line for each, and one for every train-on → test-on"
    assert {"Dataset1 → Dataset2", "Dataset2 → Dataset2"} <= set(names)


def test_heads_show_every_run(make_leaderboard, metrics) -> None:
    leaderboard = make_leaderboard({("scratch", "A", "A"): [0.3, 0.5, 0.4]})
    figure: Any = figures.draw_heads(leaderboard, metrics, Layout())
    points = [line for axes in figure.axes for line in axes.get_lines() if line.get_marker() == "."]
    assert [list(line.get_ydata()) for line in points] == [[0.3, 0.5, 0.4]]


def test_learning_curves_join_sizes_of_one_training_set(shipped_leaderboard, metrics) -> None:
    figure = figures.draw_learning([shipped_leaderboard], metrics, Layout(only=FINE_TUNED))
    dotted = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert len(dotted) == 2, "scratch and pretrained, across three training sets"
    assert "66\nDataset1" in texts(figure)


def test_learning_curves_of_one_training_set_have_a_panel_for_each_test_set(
    make_leaderboard, metrics
) -> None:
    whole = make_leaderboard({("scratch", "A", test): [0.3, 0.5] for test in "AB"})
    less = replace(whole, runs=whole.runs.assign(train_rows=whole.runs["train_rows"] // 2))
    figure = figures.draw_learning([whole, less], metrics, Layout())
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ["A → A", "A → B"]
    assert len({axes.get_yscale() for axes in figure.axes}) == 1


def test_learning_curves_need_two_sizes(shipped_leaderboard, metrics) -> None:
    layout = Layout(only={"train_on": ["Dataset1"]})
    with pytest.raises(BenchmarkError, match="trained on sets of two sizes"):
        figures.draw_learning([shipped_leaderboard], metrics, layout)


def test_losses_show_every_run_and_their_mean(shipped, shipped_leaderboard, metrics) -> None:
    layout = Layout(only=FINE_TUNED)
    figure: Any = store_figures.draw_losses(shipped, shipped_leaderboard, metrics, layout)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == 6, "a stage each"
    for axes in panels:
        curves = [line for line in axes.get_lines() if len(line.get_xdata()) == 300]
        widths = [line.get_linewidth() for line in curves]
        assert (widths.count(0.4), widths.count(1.5)) == (2 * 9, 2), "of runs, and their means"


def test_parity_shows_every_test_row(shipped, shipped_leaderboard, metrics) -> None:
    only = {"backbone": ["megnet"], "transfer": ["scratch"], "train_on": ["Dataset1"]}
    figure: Any = store_figures.draw_parity(
        shipped, shipped_leaderboard, metrics, Layout(only=only)
    )
    drawn = [
        sum(len(line.get_xdata()) for line in axes.get_lines() if line.get_linestyle() == "None")
        for axes in figure.axes
    ]
    summary = shipped_leaderboard.summary()
    cells = summary[(summary["backbone"] == "megnet") & (summary["transfer"] == "scratch")]
    expected = cells[cells["train_on"] == "Dataset1"]
    assert drawn == [round(n * 9) for n in expected["n"]]


def test_parity_shows_the_best_of_each_test_set_unless_cells_are_chosen(
    shipped, shipped_leaderboard, metrics
) -> None:
    figure = store_figures.draw_parity(shipped, shipped_leaderboard, metrics, Layout())
    summary = shipped_leaderboard.summary()
    best = summary.loc[summary.groupby("test_on", sort=False)["mae-log"].idxmin()]
    expected = [f"{row.train_on} → {row.test_on}" for row in best.itertuples()]
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert [title.rpartition("\n")[2] for title in titles] == expected


@pytest.mark.parametrize("draw", [figures.draw_cells, figures.draw_gains, figures.draw_heads])
def test_a_figure_for_a_column_is_as_wide_as_that_and_leaves_its_title_to_the_caption(
    shipped_leaderboard, metrics, draw: Any, tmp_path
) -> None:
    from PIL import Image

    sheet = Sheet(width=3.4, title=False)
    figure = draw(shipped_leaderboard, metrics, Layout(), sheet)
    with Image.open(write_figure(figure, tmp_path / "figure.png", sheet, 300)) as image:
        assert image.width == 1020
    assert figure.get_suptitle() == ""
    assert draw(shipped_leaderboard, metrics, Layout()).get_suptitle()


@pytest.mark.parametrize(
    ("draw", "layout", "said"),
    [
        ("gains", Layout(only={"transfer": ["baseline"]}), "one of `scratch`"),
        ("heads", Layout(only={"transfer": ["baseline"]}), "of a strategy"),
        ("losses", Layout(only={"transfer": ["baseline"]}), "trained by gradient"),
        ("cells", Layout(metrics=("mape", "mae")), "shows one metric"),
        ("parity", Layout(rows=("test_on",), columns=("train_on",)), "panels would not be read"),
    ],
)
def test_nothing_to_draw_says_why(
    shipped, shipped_leaderboard, metrics, draw: str, layout: Layout, said: str, monkeypatch
) -> None:
    monkeypatch.setattr("harness.drawing.style.PANELS", 20)
    module = store_figures if draw in ("losses", "parity") else figures
    given = (shipped,) if draw in ("losses", "parity") else ()
    with pytest.raises(BenchmarkError, match=said):
        getattr(module, f"draw_{draw}")(*given, shipped_leaderboard, metrics, layout)


def test_what_is_left_at_its_default_has_a_name_beside_what_is_not(
    make_leaderboard, metrics
) -> None:
    (entry,) = pivot(make_leaderboard({("scratch", "A", "A"): [0.3]}), metrics).entries.values()
    entries = [
        replace(entry, cell={**entry.cell, "tuning": tuning})
        for tuning in (DEFAULT, "tuned, 24 trials")
    ]
    assert figures.names_apart(entries, ()) == ["scratch", "tuned, 24 trials"]
    assert figures.names_apart(entries[:1], ()) == ["scratch"]
