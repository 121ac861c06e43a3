"""What came out, in words: derived here and nowhere else from the leaderboard's statistics.

Who leads where a model is tested on the dataset it was trained on, and by how much; how many others
the paired test leaves undecided; the best baseline; how many gains over scratch stand. Nothing of
that is said of protocols that do not keep test rows out of all else: their scores do not tell which
model is best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.plugin.cell import BASELINE
from harness.report.differences import CellName, Differences, Verdict, judge

if TYPE_CHECKING:
    from harness.plugin.metric import MetricSpec
    from harness.report.leaderboard import Leaderboard

STANDING: tuple[Verdict, ...] = ("better", "worse")

Label = Callable[[CellName], str]
"""Names the configuration of a cell."""


@dataclass(frozen=True)
class Lead:
    """Who leads on the test rows of the dataset that was trained on.

    Attributes:
        dataset: trained and tested on.
        protocol: label.
        leader: the cell with the best mean.
        mean: its mean.
        second: the next one.
        ahead: by how much the leader's mean is better; 0 or more, in the metric's unit.
        undecided: the others that the paired test does not tell from the leader.
        others: how many there are.
        baseline: the best of the benchmark's baselines; None where there is none.
        baseline_mean: its mean; NaN without one.
    """

    dataset: str
    protocol: str
    leader: CellName
    mean: float
    second: CellName
    ahead: float
    undecided: tuple[CellName, ...]
    others: int
    baseline: CellName | None
    baseline_mean: float


@dataclass(frozen=True)
class Standing:
    """A gain over scratch that stands after Holm's correction.

    Attributes:
        cell: whose gain it is.
        gain, low, high: the paired difference and its interval; positive is better.
    """

    cell: CellName
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Gains:
    """How the gains over scratch came out.

    Attributes:
        better, worse: those that stand, as a gain or as a loss.
        tests: how many there are.
    """

    better: tuple[Standing, ...]
    worse: tuple[Standing, ...]
    tests: int


@dataclass(frozen=True)
class Finding:
    """What the statistics of a leaderboard say.

    Attributes:
        metric: by which.
        leads: one for each dataset that was both trained and tested on, in table order.
        gains: over scratch; None where there are none.
        leaky: protocols of which nothing is said.
    """

    metric: MetricSpec
    leads: Sequence[Lead]
    gains: Gains | None
    leaky: Sequence[str]


def derive_finding(leaderboard: Leaderboard, metric: MetricSpec) -> Finding:
    """Reads what came out from the statistics; of several protocols, the first is told of."""
    differences = Differences(leaderboard, metric)
    return Finding(
        metric,
        tuple(_leads(leaderboard, metric, differences)),
        _gains(leaderboard, differences),
        leaderboard.leaky,
    )


def _leads(
    leaderboard: Leaderboard, metric: MetricSpec, differences: Differences
) -> Iterator[Lead]:
    columns = leaderboard.identity
    rows = leaderboard.summary_rows("all", metric.name)
    known = {tuple(row[column] for column in columns): row for row in rows}
    places: dict[str, dict[str, list[CellName]]] = {}
    for name in differences.best_of:
        row = known[name]
        if row["train_on"] == row["test_on"] and row["protocol"] not in leaderboard.leaky:
            places.setdefault(row["train_on"], {}).setdefault(row["protocol"], []).append(name)
    sign = -1 if metric.higher_is_better else 1
    for dataset, protocols in places.items():
        protocol, names = next(iter(protocols.items()))
        leader = differences.best_of[names[0]]
        means = {name: float(known[name][metric.name]) for name in names}
        others = sorted((n for n in names if n != leader), key=lambda n: sign * means[n])
        baselines = (n for n in (leader, *others) if known[n]["transfer"] == BASELINE)
        baseline = next(baselines, None)
        yield Lead(
            dataset,
            protocol,
            leader,
            means[leader],
            others[0],
            abs(means[others[0]] - means[leader]),
            tuple(name for name in others if differences.is_undecided(name)),
            len(others),
            baseline,
            math.nan if baseline is None else means[baseline],
        )


def _gains(leaderboard: Leaderboard, differences: Differences) -> Gains | None:
    found: list[Any] = differences.gains(lenient=True).to_dict("records")
    rows = [
        row
        for row in found
        if row["protocol"] not in leaderboard.leaky and not math.isnan(row["p"])
    ]
    if not rows:
        return None
    standing: dict[Verdict, list[Standing]] = {}
    for row in rows:
        cell = tuple(row[column] for column in leaderboard.identity)
        verdict = judge(row["low"], row["high"], row["p_holm"])
        gain = Standing(cell, row["gain"], row["low"], row["high"])
        standing.setdefault(verdict, []).append(gain)
    better, worse = (tuple(standing.get(verdict, ())) for verdict in STANDING)
    return Gains(better, worse, len(rows))


def never_beaten(finding: Finding, label: Label) -> list[str]:
    """Returns the labels of models that lead, or are undecided, wherever somebody leads."""
    rivals = [[label(name) for name in (lead.leader, *lead.undecided)] for lead in finding.leads]
    return [name for name in (rivals[0] if rivals else ()) if all(name in own for own in rivals)]


# --- in words -----------------------------------------------------------------------------------


def finding_lines(leaderboard: Leaderboard, metric: MetricSpec) -> list[str]:
    """Returns what came out as one or two lines of plain text: the author's words, or derived."""
    return tell_finding(leaderboard, derive_finding(leaderboard, metric))


def tell_finding(leaderboard: Leaderboard, finding: Finding) -> list[str]:
    """As `finding_lines`, of a finding that is there already."""
    if leaderboard.finding:
        return [" ".join(leaderboard.finding.split())]
    identity = leaderboard.identity
    return tell(finding, lambda name: leaderboard.label_of(dict(zip(identity, name, strict=True))))


def tell(finding: Finding, label: Label) -> list[str]:
    """Puts a finding in words, a line for each of its parts.

    Args:
        finding: the finding.
        label: what to call configurations.
    """
    lines = []
    if finding.leads:
        told = "; ".join(lead_text(lead, label) for lead in finding.leads)
        lines.append(f"By {finding.metric.title}, tested on the dataset trained on: {told}.")
    if finding.gains:
        lines.append(f"{gains_text(finding.gains)}.")
    if finding.leaky:
        lines.append(leaky_text(finding.leaky))
    return lines


def lead_text(lead: Lead, label: Label) -> str:
    """Says who leads on a dataset, by how much, and whether that can be told."""
    remark = ", a baseline," if lead.baseline == lead.leader else ""
    parts = [
        f"on {lead.dataset} {label(lead.leader)}{remark} leads with {lead.mean:.2f}",
        f"{lead.ahead:.2f} ahead of {label(lead.second)}",
        f"{len(lead.undecided)} of {lead.others} others undecided",
    ]
    if lead.baseline is not None and not remark:
        parts.append(f"best baseline {label(lead.baseline)} {lead.baseline_mean:.2f}")
    return ", ".join(parts)


def gains_text(gains: Gains) -> str:
    """Says how many gains over scratch stand, and among how many tests."""
    better, worse = len(gains.better), len(gains.worse)
    if not better + worse:
        return (
            f"None of the {gains.tests} gains over scratch stands after Holm's correction, as "
            "better or as worse: all are undecided"
        )
    return (
        f"Of {gains.tests} gains over scratch {better} {_stand(better)} as better and {worse} as "
        f"worse after Holm's correction; {gains.tests - better - worse} are undecided"
    )


def _stand(number: int) -> str:
    return "stands" if number == 1 else "stand"


def leaky_text(protocols: Sequence[str]) -> str:
    """Says what scores are for whose test rows had a say in the training."""
    named = ", ".join(f"`{protocol}`" for protocol in protocols)
    several = len(protocols) > 1
    return (
        f"{'Protocols' if several else 'Protocol'} {named} {'let' if several else 'lets'} test "
        "rows have another role too, as in the choice of epochs: these scores are for comparing "
        "with results that were made the same way, and do not say which model predicts best."
    )
