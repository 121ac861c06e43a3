"""The figures of `harness plot` that a leaderboard's page shows."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.api.costs import read_costs
from harness.apps.site.results import Results
from harness.drawing.style import Sheet, show_as_written
from harness.report.cost_figure import draw_costs
from harness.report.figures import draw_gains, draw_learning
from harness.report.pivot import Layout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIALS = "trials.svg"
"""Written by a search, beside its results."""

UNTITLED = Sheet(title=False)

KEEP = re.compile(r"\(keep=[^,)]*\)|keep=[^,)]*, |, keep=[^,)]*")
"""The setting of a protocol that makes learning curves, as labels have it."""


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name: of its file.
        title: its heading on the page.
        note: what it shows.
        draw: makes its SVG.
    """

    name: str
    title: str
    note: str
    draw: Callable[[], str]


def find_figures(results: Results) -> Iterator[Drawn]:
    """Yields the figures that a leaderboard has something for, none of them drawn yet."""
    leaderboard, metrics, folder = results.leaderboard, results.metrics, results.folder
    entries = results.entries[leaderboard.metrics[0], "all"].values()
    if any(
        entry.state == "scored"
        and entry.cell["train_on"] == entry.cell["test_on"]
        and (entry.label, entry.cell["train_on"]) in results.costs
        for entry in entries
    ):
        yield Drawn(
            "cost",
            "Score against cost",
            "Trained and tested on the same dataset. Seconds of one core, to fit one run and to "
            "encode and predict 1,000 new crystals; what was trained by gradient as its record has "
            "it. The line leads along the Pareto front; hollow: baselines.",
            lambda: _svg(
                draw_costs(leaderboard, metrics, Layout(), read_costs(folder), UNTITLED), "cost"
            ),
        )
    if _has_sizes(results):
        yield Drawn(
            "learning",
            "Learning curves",
            "Mean and 95 % interval over runs, against the number of training rows.",
            lambda: _svg(draw_learning([leaderboard], metrics, Layout(), UNTITLED), "learning"),
        )
    if (folder / TRIALS).is_file():
        yield Drawn(
            "trials",
            "Everything that was tried",
            "All trials of the search for settings: validation scores, mean and std, and which "
            "settings mattered.",
            lambda: (folder / TRIALS).read_text(encoding="utf-8"),
        )
    if any(entry.gain is not None for entry in entries):
        yield Drawn(
            "gain",
            "Gains over scratch",
            "95 % interval of the paired difference; ▽ negative transfer; filled: stands after "
            "Holm’s correction.",
            lambda: _svg(draw_gains(leaderboard, metrics, Layout(), UNTITLED), "gain"),
        )


def _has_sizes(results: Results) -> bool:
    """Whether some configuration was trained on parts of one dataset, by `keep` of a protocol."""
    sizes: dict[tuple[str, ...], set[float]] = {}
    for cell in results.cells:
        if results.entries[results.leaderboard.metrics[0], "all"][cell.name].runs:
            kept = {**cell.columns, "protocol": KEEP.sub("", cell.columns["protocol"])}
            rows = results.leaderboard.runs_of(cell.name)["train_rows"]
            sizes.setdefault(tuple(kept.values()), set()).add(float(rows.mean()))
    return any(len(found) > 1 for found in sizes.values())


def _svg(figure: Figure, name: str) -> str:
    """A figure as text, small since it leaves letters to the reader's fonts."""
    import matplotlib

    show_as_written(figure)
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return file.getvalue()
