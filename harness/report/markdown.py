"""The page `table.md`: settings in plain sight, a matrix per metric, gains, published cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.escaping import markdown_text, terminal_text
from harness.planning.benchmark import Model, check_settings
from harness.report.differences import Differences, Verdict, judge, stands_text
from harness.report.findings import finding_lines
from harness.report.leaderboard import Leaderboard
from harness.report.pivot import Layout, pivot
from harness.report.published import agreement_text, beside_published, side_by_side
from harness.report.tables import Wording, as_markdown, direction, markdown, markdown_legend
from harness.scoring.statistics import NAMES

if TYPE_CHECKING:
    import pandas as pd

    from harness.plugin.metric import MetricSpec


def render_markdown(
    leaderboard: Leaderboard, metrics: Mapping[str, MetricSpec], published: pd.DataFrame | None
) -> str:
    """Renders the page of a leaderboard."""
    tables = {
        name: pivot(leaderboard, metrics, Layout(metrics=(name,))) for name in leaderboard.metrics
    }
    lines = [f"# {markdown_text(leaderboard.title or leaderboard.name)}", ""]
    if summary := leaderboard.settings["summary"]:  # Markdown of whoever wrote the benchmark
        lines += [terminal_text(summary), ""]
    if found := finding_lines(leaderboard, metrics[leaderboard.metrics[0]]):
        lines += [f"**What came out.** {markdown_text(found[0])}", ""]
        lines += [part for line in found[1:] for part in (markdown_text(line), "")]
    lines += [*map(markdown_text, fact_lines(leaderboard)), ""]
    for line in dict.fromkeys(
        mark for t in tables.values() for mark in markdown_legend(t, list(tables.values()))
    ):
        lines += [line, ""]
    for name in leaderboard.metrics:
        spec = metrics[name]
        unit = f", {spec.unit}" if spec.unit else ""
        lines += [f"## {spec.title} (`{name}`{unit}; {direction(spec)})", ""]
        lines += [markdown(tables[name]), ""]
        if published is not None:
            lines += _published_section(leaderboard, published, name)
        if name == leaderboard.metrics[0]:
            lines += [*_overlap_section(leaderboard, spec), *_gain_section(leaderboard, spec)]
    return "\n".join(lines)


def _published_section(leaderboard: Leaderboard, published: pd.DataFrame, metric: str) -> list[str]:
    if not (cells := beside_published(leaderboard, published, metric)):
        return []
    table = side_by_side(leaderboard, published, metric)
    return [
        "### Beside the published study",
        "",
        (
            "`published` is the table of the paper's repository, `published, per run` what its "
            "per-run files give (≠ where the two disagree); then ours under every protocol, with "
            "the difference from the published mean in published standard deviations (of the "
            "per-run files where they are known)."
        ),
        "",
        *(f"{markdown_text(agreement_text(cells, own))}\n" for own in cells[0].ours),
        as_markdown(table),
        "",
    ]


def _overlap_section(leaderboard: Leaderboard, metric: MetricSpec) -> list[str]:
    whole, free = leaderboard.summary(), leaderboard.summary("overlap-free")
    sizes = whole.groupby("test_on", sort=False)["n"].first()
    counts = ", ".join(f"{name} {n:.1f}" for name, n in sizes.items())
    lines = [f"Test rows per run: {markdown_text(counts)}.", ""]
    for (weights, seen), transfers in leaderboard.pretraining.items():
        told, carriers = markdown_text(seen or "undeclared data"), ", ".join(transfers)
        lines += [
            (
                f"The weights `{weights.replace('`', '')}` ({markdown_text(carriers)}) were "
                f"trained on {told}: the same materials may be among the test rows; "
                "that is not known row by row and not counted as overlap."
            ),
            "",
        ]
    if (whole["n"] == free["n"]).all():
        return [*lines, "No test row has a formula of a training set: all is overlap-free.", ""]
    layout = Layout(metrics=(metric.name,), subset="overlap-free")
    table = pivot(leaderboard, {metric.name: metric}, layout)
    return [
        *lines,
        "### Overlap-free rows only",
        "",
        (
            "Without the test rows whose formula is in a training set of the chain; n is what is "
            "left per run, on average. Other metrics: `table-overlap-free.csv`."
        ),
        "",
        markdown(table, Wording(with_n=True)),
        "",
        *(f"{line}\n" for line in markdown_legend(table)),
    ]


def _gain_section(leaderboard: Leaderboard, metric: MetricSpec) -> list[str]:
    if not (leaderboard.runs["transfer"] == "scratch").any():
        return []
    try:
        differences = Differences(leaderboard, metric)
        gained = differences.gains()
    except StoreError as problem:  # a partner that was not run, or not wholly
        return ["### Gain over scratch", "", f"Cannot be told: {markdown_text(str(problem))}", ""]
    if gained.empty:
        return []
    named = (NAMES[kind] for kind in leaderboard.resampling)
    test = " or the ".join(f"{name} ({source})" for name, source in named)
    return [
        "### Gain over scratch",
        "",
        (
            f"Paired by run; positive is better. Interval and p by the {test}, p also "
            f"Holm-corrected over {differences.tests} tests: the leaderboard's "
            f"{differences.family} by this metric."
        ),
        "",
        as_markdown(gain_table(gained)),
        "",
    ]


def gain_table(
    gained: pd.DataFrame, worse: str = "negative transfer", digits: int = 3
) -> pd.DataFrame:
    """Turns the frame of `Differences.gains` into text; constant columns are left out.

    Args:
        gained: the frame.
        worse: what to call a loss: over `scratch`, `negative transfer`.
        digits: after the decimal point.
    """
    import pandas as pd

    columns = list(gained.columns)
    identity = columns[: columns.index("runs")]
    places = ("transfer", "train_on", "test_on")
    varied = [c for c in identity if c not in places and gained[c].nunique() > 1]
    shown = gained[["transfer", *varied, "train_on", "test_on"]].copy()
    shown["gain"] = [_number(x, digits) for x in gained["gain"]]
    shown["95 % interval"] = [
        "—" if math.isnan(low) else f"{low:.{digits}f} … {high:.{digits}f}"
        for low, high in zip(gained["low"], gained["high"], strict=True)
    ]
    shown["p"] = [_number(x, 3) for x in gained["p"]]
    shown["p, Holm"] = [_number(x, 3) for x in gained["p_holm"]]
    shown["verdict"] = [
        _told(judge(row["low"], row["high"], row["p_holm"]), row["tests"], worse)
        for _, row in gained.iterrows()
    ]
    return pd.DataFrame(shown)


def _told(verdict: Verdict, tests: int, worse: str) -> str:
    """Puts a verdict in words, with the family that it holds in."""
    if verdict == "unknown":
        return "cannot be told"
    if verdict == "none":
        return "no difference seen"
    what = "gain" if verdict.startswith("better") else worse
    return f"{what}, {stands_text(verdict, tests)}"


def _number(value: float, digits: int) -> str:
    return "—" if math.isnan(value) else f"{value:.{digits}f}"


def settings_lines(leaderboard: Leaderboard) -> Sequence[str]:
    """What a reader must know before the numbers: the settings they were made with."""
    summary = leaderboard.settings["summary"]
    return [*([summary, ""] if summary else []), *fact_lines(leaderboard)]


def fact_lines(leaderboard: Leaderboard) -> Sequence[str]:
    """The settings alone, as plain text."""
    settings = leaderboard.settings
    lines = []
    runs = settings["runs"]
    over = f"mean (standard deviation, ddof 1) over {runs} runs" if runs > 1 else "one run"
    how = ""
    if training := settings["training"]:  # several people's results have no common one
        how = (
            f"; epochs {training['epochs']}; batch {training['batch_size']}; loss "
            f"{training['loss']}; learning rate {training['lr']:g}, {training['schedule']}"
        )
    lines += [f"{over}; root seed {settings['seed']}{how}."]
    lines += _other_training(settings)
    rows = ", ".join(f"{name} {n}" for name, n in settings["rows"].items())
    lines += ["", f"Rows: {rows}."]
    if line := unusable_line(leaderboard):
        lines += ["", line]
    if len(skipped := leaderboard.skipped):
        cells = ", ".join(
            f"{row['transfer']} {row['train_on']} {row['skipped']}"
            for _, row in skipped.drop_duplicates(["transfer", "train_on", "protocol"]).iterrows()
        )
        lines += ["", f"Updates left out because the loss was not finite: {cells}."]
    return lines


def _other_training(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields which stages are trained in another way, and how."""
    for dataset, changes in settings["training_on"].items():
        yield f"Stages that fit {dataset}: {_changes_text(changes)}."
    for written in settings.get("models", ()):
        model: Model = check_settings(Model, written, "models")
        whose = f"Stages of {model.backbone.label} + {model.head.label}"
        if model.training:
            yield f"{whose}: {_changes_text(model.training)}."
        for dataset, changes in model.training_on.items():
            yield f"{whose} that fit {dataset}: {_changes_text(changes)}."


def _changes_text(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in changes.items())


def unusable_line(leaderboard: Leaderboard) -> str:
    """Says how many rows of which datasets could not be used; nothing where all could."""
    counts = ", ".join(f"{name} {n}" for name, n in leaderboard.unusable.items())
    return f"Rows that could not be used, and why, are in plan.json: {counts}." if counts else ""
