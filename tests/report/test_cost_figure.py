"""Scores against costs: what is drawn, and which models nothing beats that costs as little."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from harness.errors import BenchmarkError
from harness.report.cost_figure import Priced, draw_costs, pareto_front
from harness.report.pivot import Layout, pivot


def costs(leaderboard, seconds: float = 2.0) -> pd.DataFrame:
    labels = dict.fromkeys(leaderboard.label_of(cell) for cell in leaderboard.cells)
    rows = [(label, train) for label in labels for train in ("Dataset1", "Dataset2")]
    made = pd.DataFrame(rows, columns=["model", "train_on"])
    return made.assign(fit_seconds=seconds, encode_seconds=0.001, predict_seconds=0.002)


def test_every_model_stands_where_it_was_trained_and_tested(shipped_leaderboard, metrics) -> None:
    figure: Any = draw_costs(shipped_leaderboard, metrics, Layout(), costs(shipped_leaderboard))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Dataset1", "Dataset2"]
    means = pivot(shipped_leaderboard, metrics).frame().query("train_on == test_on")
    for axes in figure.axes:
        dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([5.0] * len(dots))
        assert sorted(float(dot.get_ydata()[0]) for dot in dots) == pytest.approx(
            sorted(means[means["test_on"] == axes.get_title()]["mean"])
        )


def test_without_any_cost_it_says_what_to_do(shipped_leaderboard, metrics) -> None:
    nobody = costs(shipped_leaderboard).assign(model="nobody")
    with pytest.raises(BenchmarkError, match="harness cost"):
        draw_costs(shipped_leaderboard, metrics, Layout(), nobody)


@pytest.mark.parametrize(
    ("higher_is_better", "front"), [(False, [(1, 0.5), (3, 0.2)]), (True, [(1, 0.5), (2, 0.9)])]
)
def test_the_front_holds_what_nothing_beats_that_costs_as_little(
    higher_is_better: bool, front: list[tuple[float, float]]
) -> None:
    entry: Any = None
    models = [Priced(s, score, entry) for s, score in ((3, 0.2), (2, 0.9), (1, 0.5), (4, 0.3))]
    found = pareto_front(models, higher_is_better)
    assert [(model.seconds, model.score) for model in found] == front
