"""A leaderboard in one line: how far it is, and what leads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.plugin.cell import BASELINE
from harness.report.leaderboard import is_mostly_trained_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.plugin.metric import MetricSpec
    from harness.report.leaderboard import Leaderboard


@dataclass(frozen=True)
class Leader:
    """The model with the best mean over all test sets.

    Attributes:
        cell: its columns, without `test_on`.
        metric: by which it leads.
        mean: over its cells.
        tested_on: how many test sets that are.
    """

    cell: Mapping[str, str]
    metric: str
    mean: float
    tested_on: int

    def told(self, leaderboard: Leaderboard) -> str:
        """Says who leads, by the columns in which models differ, and with what."""
        over = f", mean over {self.tested_on} test sets" if self.tested_on > 1 else ""
        what = f"{leaderboard.label_of(self.cell)} on {self.cell['train_on']}"
        return f"{what}: {self.metric} {self.mean:.2f}{over}"


def distinguishing(cell: Mapping[str, str], leaderboard: Leaderboard) -> dict[str, str]:
    """Returns the columns of a cell that are needed to tell it from all others but by `test_on`."""
    varying = [
        column
        for column in leaderboard.identity
        if column != "test_on" and len({own[column] for own in leaderboard.cells}) > 1
    ]
    kept = dict.fromkeys(varying)
    for column in varying:  # what the others say already is left out, the plainest words first
        fewer = [name for name in kept if name != column]
        if column not in ("transfer", "train_on") and _tells_apart(cell, fewer, leaderboard):
            del kept[column]
    return {column: cell[column] for column in kept or ("train_on",)}


def _tells_apart(cell: Mapping[str, str], columns: list[str], leaderboard: Leaderboard) -> bool:
    same = [own for own in leaderboard.cells if all(own[c] == cell[c] for c in columns)]
    others = [c for c in leaderboard.identity if c != "test_on"]
    return len({tuple(own[c] for c in others) for own in same}) == 1


def find_leader(
    leaderboard: Leaderboard, metric: MetricSpec, *, trained: bool = False
) -> Leader | None:
    """Returns the model that leads; None where none has a number for every test set.

    Models that were tested mostly on what they had learnt take no part, nor do unchecked ones.

    Args:
        leaderboard: the leaderboard.
        metric: one that it scores.
        trained: leave the baselines out.
    """
    models: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    columns = [column for column in leaderboard.identity if column != "test_on"]
    rows = leaderboard.summary_rows("all", metric.name)
    for row in rows:
        models.setdefault(tuple(row[column] for column in columns), []).append(row)
    most = max((len(cells) for cells in models.values()), default=0)
    leaders = []
    for name, cells in models.items():
        cell = dict(zip(columns, name, strict=True))
        mean = sum(row[metric.name] for row in cells) / len(cells)
        unfit = any(is_mostly_trained_on(row["trained_on"]) for row in cells) or any(
            row.get("trust") == "unchecked" for row in cells
        )
        if unfit or len(cells) < most or math.isnan(mean):
            continue
        if not (trained and cell["transfer"] == BASELINE):
            leaders.append(Leader(cell, metric.name, mean, len(cells)))
    sign = -1 if metric.higher_is_better else 1
    return min(leaders, key=lambda leader: sign * leader.mean, default=None)


def by_order(order: int | None, name: str) -> tuple[bool, int, str]:
    """The key by which leaderboards are sorted: those with an `order` first, then by name."""
    return order is None, order or 0, name


def tell_state(leaderboard: Leaderboard) -> str:
    """Says how far a leaderboard is: complete, or how many of its cells are."""
    planned = leaderboard.settings["runs"]
    runs = leaderboard.summary(metrics=[])["runs"]
    done, all_of_them = int((runs >= planned).sum()), len(leaderboard.cells)
    failed = f", {len(leaderboard.failed)} failed" if leaderboard.failed else ""
    if done == all_of_them:
        return f"complete{failed}"
    return f"{done} of {all_of_them} cells{failed}"
