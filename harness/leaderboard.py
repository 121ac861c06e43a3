"""Tables made from result lines, and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchmarkError, did_you_mean
from harness.scores import CELL, SUBSETS

if TYPE_CHECKING:
    import pandas as pd

    from harness.contracts import MetricSpec
    from harness.store import Store

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Leaderboard:
    """The results of one benchmark.

    Attributes:
        name, title: of the benchmark.
        settings: the benchmark as it was run.
        metrics: names, the first being the one shown by default.
        cells: every cell of the plan in table order, as mappings over `CELL`.
        runs: one row per cell, run and subset: the cell's columns, `run`, `train_share` (rows
            trained on, of all in the dataset), `test_share` (rows tested on, overlap or not, of all
            in the dataset), `subset`, `n`, `failed`, and one column per metric (NaN where it could
            not be computed).
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    metrics: tuple[str, ...]
    cells: tuple[Mapping[str, str], ...]
    runs: pd.DataFrame

    @classmethod
    def read(cls, store: Store) -> Leaderboard:
        """Reads the results of the plan that was last run in this folder.

        Raises:
            StoreError: nothing was run there.
        """
        import pandas as pd

        plan = store.read_json(PLAN_FILE)
        keys = {cell["key"] for cell in plan["cells"]}
        rows = [
            {
                **{column: line[column] for column in CELL},
                "run": line["run"],
                "train_share": line["train_rows"] / line["datasets"][line["train_on"]]["rows"],
                "test_share": line["scores"]["all"]["n"]
                / line["datasets"][line["test_on"]]["rows"],
                "subset": subset,
                **{k: math.nan if v is None else v for k, v in line["scores"][subset].items()},
            }
            for line in store.read_results()
            if line["key"] in keys
            for subset in SUBSETS
        ]
        metrics = tuple(plan["benchmark"]["metrics"])
        columns = [*CELL, "run", "train_share", "test_share", "subset", "n", "failed", *metrics]
        return cls(
            plan["benchmark"]["name"],
            plan["benchmark"]["title"],
            plan["benchmark"],
            metrics,
            tuple({column: cell[column] for column in CELL} for cell in plan["cells"]),
            pd.DataFrame(rows, columns=columns),
        )

    def check_metric(self, metric: str) -> str:
        """Returns the metric's name.

        Raises:
            BenchmarkError: the benchmark does not score it.
        """
        if metric not in self.metrics:
            raise BenchmarkError(
                f"The leaderboard {self.name!r} has no metric {metric!r}."
                f"{did_you_mean(metric, self.metrics)}"
            )
        return metric

    def summary(self, subset: str = "all") -> pd.DataFrame:
        """One row per cell of the plan, in table order.

        Columns: those of `CELL`, `runs`, `n` (test rows per run, mean), `failed` (rows, summed
        over runs), and `<metric>`, `<metric>_std` (ddof 1) for every metric. A cell that has not
        been run has zero runs and NaN scores.
        """
        import pandas as pd

        runs = self.runs[self.runs["subset"] == subset]
        grouped = dict(list(runs.groupby(list(CELL), sort=False)))
        rows = []
        for cell in self.cells:
            group = grouped.get(tuple(cell[column] for column in CELL), runs.iloc[:0])
            row: dict[str, Any] = {
                **cell,
                "runs": len(group),
                "n": float(group["n"].mean()) if len(group) else 0.0,
                "failed": int(group["failed"].sum()),
            }
            for metric in self.metrics:
                values = group[metric].astype(float)
                row[metric] = float(values.mean(skipna=False)) if len(values) else math.nan
                row[f"{metric}_std"] = (
                    float(values.std(ddof=1, skipna=False)) if len(values) > 1 else math.nan
                )
            rows.append(row)
        return pd.DataFrame(rows)

    def matrix(self, metric: str, subset: str = "all", digits: int = 2) -> pd.DataFrame:
        """The train-on × test-on table of one metric as text, `mean (std)`.

        Rows are configurations and training sets, columns test sets. Columns of the row head that
        are the same everywhere (a single backbone, say) are left out.
        """
        import pandas as pd

        summary = self.summary(subset)
        head = [
            column
            for column in CELL[:-1]
            if column in ("transfer", "train_on") or summary[column].nunique() > 1
        ]
        tests = list(dict.fromkeys(summary["test_on"]))
        rows = []
        for names, group in summary.groupby(head, sort=False):
            by_test = {row["test_on"]: row for _, row in group.iterrows()}
            texts = [cell_text(by_test.get(test), metric, digits) for test in tests]
            rows.append([*names, *texts])
        return pd.DataFrame(rows, columns=[*head, *tests])


def cell_text(row: Any, metric: str, digits: int) -> str:
    """Returns `mean (std)`, or what is to be said where there is no such number."""
    if row is None:
        return "—"
    if not row["runs"]:
        return "not run"
    mean, std = row[metric], row[f"{metric}_std"]
    if math.isnan(mean):
        return f"failed ({row['failed']} rows)" if row["failed"] else "no rows"
    spread = "" if math.isnan(std) else f" ({std:.{digits}f})"
    return f"{mean:.{digits}f}{spread}"


def read_published(path: Path) -> pd.DataFrame:
    """Reads a table of published cells.

    Columns: transfer, train_on, test_on, metric, mean, std, and possibly others.

    Raises:
        BenchmarkError: the file does not exist.
    """
    import pandas as pd

    if not path.is_file():
        raise BenchmarkError(f"The published cells that the benchmark names, {path}, are missing.")
    return pd.read_csv(path, comment="#")


def side_by_side(
    board: Leaderboard, published: pd.DataFrame, metric: str, digits: int = 2
) -> pd.DataFrame:
    """One row per published cell of a metric: the published `mean (std)`, then ours per protocol.

    The strategies' names are compared without their settings (`two-stage(source=AFLOW)` stands
    beside `two-stage`).
    """
    summary = board.summary()
    summary["strategy"] = summary["transfer"].str.partition("(")[0]
    rows = []
    for _, known in published[published["metric"] == metric].iterrows():
        place = (
            (summary["strategy"] == known["transfer"])
            & (summary["train_on"] == known["train_on"])
            & (summary["test_on"] == known["test_on"])
        )
        row = {key: known[key] for key in ("transfer", "train_on", "test_on")}
        row["published"] = f"{known['mean']:.{digits}f} ({known['std']:.{digits}f})"
        for protocol in dict.fromkeys(summary["protocol"]):
            ours = summary[place & (summary["protocol"] == protocol)]
            row[protocol] = (
                cell_text(ours.iloc[0], metric, digits) if len(ours) else "not in the benchmark"
            )
        rows.append(row)
    import pandas as pd

    return pd.DataFrame(rows)


def as_markdown(table: pd.DataFrame) -> str:
    """Renders a table of text as GitHub Markdown."""
    from tabulate import tabulate

    text: str = tabulate(
        table.values.tolist(), headers=list(table.columns), tablefmt="github", disable_numparse=True
    )
    return text


def render_markdown(
    board: Leaderboard, metrics: Mapping[str, MetricSpec], published: pd.DataFrame | None
) -> str:
    """Renders the page `table.md`: settings in plain sight, then a matrix per metric."""
    lines = [f"# {board.title or board.name}", "", *settings_lines(board), ""]
    for metric in board.metrics:
        spec = metrics[metric]
        unit = f", {spec.unit}" if spec.unit else ""
        arrow = "higher is better" if spec.higher_is_better else "lower is better"
        lines += [f"## {spec.title} (`{metric}`{unit}; {arrow})", ""]
        lines += [as_markdown(board.matrix(metric)), ""]
        if published is not None and (published["metric"] == metric).any():
            lines += ["### Beside the published table", ""]
            lines += [as_markdown(side_by_side(board, published, metric)), ""]
    return "\n".join(lines)


def settings_lines(board: Leaderboard) -> Sequence[str]:
    """What a reader must know before the numbers: the settings they were made with."""
    settings = board.settings
    training = settings["training"]
    lines = [settings["summary"], ""] if settings["summary"] else []
    lines += [
        f"mean (standard deviation, ddof 1) over {settings['runs']} runs; root seed "
        f"{settings['seed']}; epochs {training['epochs']}; batch {training['batch_size']}; "
        f"loss {training['loss']}; learning rate {training['lr']:g}, {training['schedule']}."
    ]
    for dataset, changes in settings["training_on"].items():
        shown = ", ".join(f"{key} {value}" for key, value in changes.items())
        lines += [f"Stages that fit {dataset}: {shown}."]
    rows = ", ".join(f"{name} {n}" for name, n in settings["rows"].items())
    lines += ["", f"Rows: {rows}."]
    return lines
