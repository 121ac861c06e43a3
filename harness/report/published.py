"""Published cells, and how ours stand beside them."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BenchmarkError
from harness.reading import UNREADABLE, read_text
from harness.report.leaderboard import Leaderboard
from harness.report.pivot import PivotEntry, read_entry
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


@dataclass(frozen=True)
class PublishedCell:
    """A published cell and ours beside it.

    Attributes:
        transfer, train_on, test_on: which cell.
        mean, std: as published, in the paper's table.
        from_runs: mean and std as the authors' own per-run files give them, where they are known.
        disagrees: these are not what the table says.
        ours: by protocol; None where it has no such cell.
    """

    transfer: str
    train_on: str
    test_on: str
    mean: float
    std: float
    from_runs: tuple[float, float] | None
    disagrees: bool
    ours: Mapping[str, PivotEntry | None]

    def deviation(self, protocol: str) -> float:
        """By how many published standard deviations ours is above the published mean.

        What the per-run files give counts where it is known. NaN where one of them is not known.
        """
        entry = self.ours[protocol]
        mean, std = self.from_runs or (self.mean, self.std)
        return (entry.mean - mean) / std if entry is not None and std > 0 else math.nan


def beside_published(
    leaderboard: Leaderboard, published: pd.DataFrame, metric: str
) -> list[PublishedCell]:
    """Returns the published cells of a metric that we have too, in the order of their table.

    Names of transfers are compared without their settings (`two-stage(source=AFLOW)` stands
    beside `two-stage`).
    """
    summary = leaderboard.summary()
    transfer = summary["transfer"].str.partition("(")[0]
    cells = []
    for known in published[published["metric"] == metric].to_dict("records"):
        place = (
            (transfer == known["transfer"])
            & (summary["train_on"] == known["train_on"])
            & (summary["test_on"] == known["test_on"])
        )
        if not place.any():
            continue
        found: dict[str, PivotEntry | None] = {}
        for protocol in dict.fromkeys(summary["protocol"]):
            ours = summary[place & (summary["protocol"] == protocol)]
            found[protocol] = (
                read_entry(ours.iloc[0], metric, leaderboard.identity) if len(ours) else None
            )
        cells.append(
            PublishedCell(
                str(known["transfer"]),
                str(known["train_on"]),
                str(known["test_on"]),
                float(known["mean"]),
                float(known["std"]),
                (float(known["runs_mean"]), float(known["runs_std"]))
                if "runs_mean" in known
                else None,
                isinstance(known.get("note"), str),
                found,
            )
        )
    return cells


def side_by_side(
    leaderboard: Leaderboard, published: pd.DataFrame, metric: str, digits: int = 2
) -> pd.DataFrame:
    """One row per published cell of a metric that we have too, as text.

    Columns: transfer, train_on, test_on, `published` (the paper's table), `published, per run`
    where the file has it (the authors' own per-run files; marked `≠` where they do not agree with
    their table), and one per protocol of ours, all as `mean (std)`; ours with the difference in
    published standard deviations.
    """
    import pandas as pd

    rows = []
    for cell in beside_published(leaderboard, published, metric):
        row = {"transfer": cell.transfer, "train_on": cell.train_on, "test_on": cell.test_on}
        row["published"] = _mean_std(cell.mean, cell.std, digits)
        if cell.from_runs:
            differs = " ≠" if cell.disagrees else ""
            row["published, per run"] = _mean_std(*cell.from_runs, digits) + differs
        for protocol, entry in cell.ours.items():
            text = number_text(entry, Wording(digits), leaderboard.settings["runs"])
            row[protocol] = f"{text}{_deviation_text(cell.deviation(protocol))}"
        rows.append(row)
    return pd.DataFrame(rows)


def agreement(cells: Sequence[PublishedCell], protocol: str) -> tuple[int, int, int]:
    """Counts cells by how far ours are from the published ones.

    Returns:
        Those within one published standard deviation, those within two, and all that both have.
    """
    off = [abs(cell.deviation(protocol)) for cell in cells]
    known = [value for value in off if not math.isnan(value)]
    return sum(value <= 1 for value in known), sum(value <= 2 for value in known), len(known)


def agreement_text(cells: Sequence[PublishedCell], protocol: str) -> str:
    """Says what `agreement` counts."""
    one, two, known = agreement(cells, protocol)
    return (
        f"{protocol}: {one} of {known} cells within one published standard deviation, "
        f"{two} within two."
    )


def _deviation_text(deviation: float) -> str:
    return "" if math.isnan(deviation) else f", {deviation:+.1f} σ".replace("-", "−")


def _mean_std(mean: float, std: float, digits: int) -> str:
    return f"{mean:.{digits}f} ({std:.{digits}f})"
