"""Leaderboards to lay out: one made by hand, and one that is shipped with its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.plugin.cell import CELL
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store
from harness.scoring.scores import SUBSETS
from harness_properties import KAPPA

LEADERBOARDS = Path(__file__).resolve().parents[2] / "leaderboards"
SETTINGS: dict[str, Any] = {"seed": 0, "runs": 3, "test_on": ["A"], "rows": {}}

Scores = Mapping[tuple[str, str, str], list[float | None]]
MakeLeaderboard = Callable[..., Leaderboard]


@pytest.fixture(scope="session")
def shipped() -> Store:
    """Results of a real benchmark: 81 cells, nine runs."""
    return Store(LEADERBOARDS / "learn-first")


@pytest.fixture(scope="session")
def shipped_leaderboard(shipped: Store) -> Leaderboard:
    return Leaderboard.read(shipped)


@pytest.fixture(scope="session")
def make_leaderboard() -> MakeLeaderboard:
    """Makes a leaderboard of scores by (transfer, train_on, test_on), one per run; None failed."""

    def make(scores: Scores, n: int = 20, planned: int = 3, **sizes: int) -> Leaderboard:
        cells, lines = [], []
        for (transfer, train_on, test_on), values in scores.items():
            named = {"transfer": transfer, "train_on": train_on, "test_on": test_on}
            cell = {c: named.get(c, "strict" if c == "protocol" else f"the {c}") for c in CELL}
            cells.append(cell)
            for subset in SUBSETS:
                size = sizes.get(subset.replace("-", "_"), n) if transfer != "scratch" else n
                for run, value in enumerate(values, start=1):
                    failed = int(value is None)
                    lines.append(
                        {**cell, "run": run, "train_rows": 70, "train_share": 0.7,
                         "test_share": 0.2, "skipped": 0, "subset": subset, "n": size,
                         "failed": failed, "mape": float("nan") if failed else value}
                    )  # fmt: skip
        settings = {**SETTINGS, "runs": planned}
        return Leaderboard(
            "mine",
            "Mine",
            settings,
            KAPPA.name,
            ("mape",),
            {},
            {},
            tuple(cells),
            pd.DataFrame(lines),
        )

    return make
