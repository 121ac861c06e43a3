"""Published cells, and how ours stand beside them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError
from harness.reading import UNREADABLE, read_text
from harness.report.leaderboard import Leaderboard
from harness.report.pivot import read_entry
from harness.report.tables import Wording, number_text

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("transfer", "train_on", "test_on", "metric", "mean", "std")
"""That every table of published cells has."""


def read_published(path: Path) -> pd.DataFrame:
    """Reads a table of published cells.

    Columns: transfer, train_on, test_on, metric, mean, std, and possibly others.

    Raises:
        BenchmarkError: the file does not exist, or is no such table.
    """
    import pandas as pd

    what = f"The published cells that the benchmark names, {path},"
    if not path.is_file():
        raise BenchmarkError(f"{what} are missing.")
    try:
        table = pd.read_csv(io.StringIO(read_text(path, strict=True)), comment="#")
    except UNREADABLE as problem:  # pandas' own errors are ValueErrors
        raise BenchmarkError(f"{what} cannot be read: {problem}") from None
    if lacking := [column for column in COLUMNS if column not in table]:
        raise BenchmarkError(
            f"{what} are no table of cells: expected the columns {', '.join(COLUMNS)}, and there "
            f"is no {lacking[0]}."
        )
    return table


def side_by_side(
    leaderboard: Leaderboard, published: pd.DataFrame, metric: str, digits: int = 2
) -> pd.DataFrame:
    """One row per published cell of a metric that we have too: theirs, then ours per protocol.

    Names of transfers are compared without their settings (`two-stage(source=AFLOW)` stands
    beside `two-stage`). Columns: transfer, train_on, test_on, `published` (the paper's table),
    `published, per run` where the file has it (the authors' own per-run files; marked `≠` where
    they do not agree with their table), and one per protocol of ours, all as `mean (std)`.
    """
    import pandas as pd

    summary = leaderboard.summary()
    transfer = summary["transfer"].str.partition("(")[0]
    rows = []
    for _, known in published[published["metric"] == metric].iterrows():
        place = (
            (transfer == known["transfer"])
            & (summary["train_on"] == known["train_on"])
            & (summary["test_on"] == known["test_on"])
        )
        if not place.any():
            continue
        row = {key: known[key] for key in ("transfer", "train_on", "test_on")}
        row["published"] = _mean_std(known["mean"], known["std"], digits)
        if "runs_mean" in known:
            differs = " ≠" if isinstance(known["note"], str) else ""
            row["published, per run"] = (
                _mean_std(known["runs_mean"], known["runs_std"], digits) + differs
            )
        for protocol in dict.fromkeys(summary["protocol"]):
            ours = summary[place & (summary["protocol"] == protocol)]
            entry = read_entry(ours.iloc[0], metric, leaderboard.identity) if len(ours) else None
            row[protocol] = number_text(entry, Wording(digits), leaderboard.settings["runs"])
        rows.append(row)
    return pd.DataFrame(rows)


def _mean_std(mean: float, std: float, digits: int) -> str:
    return f"{mean:.{digits}f} ({std:.{digits}f})"
