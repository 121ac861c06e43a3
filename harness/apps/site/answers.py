"""What came out, on the pages: words and numbers of `report/findings.py`, each with its link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.apps.site.html_tables import Column, HtmlEntry, Table, metric_title, number
from harness.apps.site.results import Results
from harness.report.differences import CellName
from harness.report.findings import Finding, Standing, gains_text, leaky_text, never_beaten

NAMED = 8
"""More models that nothing beats are counted only."""


@dataclass(frozen=True)
class Answer:
    """What a leaderboard says, with links.

    Attributes:
        page: where it leads to: the leaderboard's own.
        told: the author's words; empty where nothing is written.
        leads: who leads on each dataset; None where nobody does.
        on: how many datasets these are.
        steady: the models that no test tells from the best on any of them, unless they are too
            many to be named.
        many: how many these are.
        helps: whether transfer does, in a few words; empty where nothing was tested.
        gains: how many gains stand, and among how many.
        standing: those that stand.
        leaky: of which protocols nothing is said, and why.
    """

    page: str
    told: str
    leads: Table | None
    on: int
    steady: Sequence[HtmlEntry]
    many: int
    helps: str
    gains: str
    standing: Sequence[HtmlEntry]
    leaky: str


def make_answer(results: Results, root: str = "") -> Answer:
    """Gathers what a leaderboard says.

    Args:
        results: of the leaderboard.
        root: leads from the page to the leaderboard's folder.
    """
    finding, leaderboard = results.finding, results.leaderboard
    pages = {cell.name: f"{root}cells/{cell.page}.html" for cell in results.cells}

    def label(name: CellName) -> str:
        return leaderboard.label_of(dict(zip(leaderboard.identity, name, strict=True)))

    models = {results.label(own): page for own, page in results.model_pages.items()}
    steady = never_beaten(finding, label)
    gains = finding.gains
    stand = (*gains.better, *gains.worse) if gains else ()
    return Answer(
        page=f"{root}index.html",
        told=" ".join(leaderboard.finding.split()),
        leads=_leads(finding, label, pages.__getitem__) if finding.leads else None,
        on=len(finding.leads),
        steady=[
            HtmlEntry(name, href=f"{root}models/{models[name]}.html")
            for name in steady
            if len(steady) <= NAMED
        ],
        many=len(steady),
        helps=_helps(finding),
        gains=gains_text(gains) if gains else "",
        standing=[_standing(gain, results, label, pages[gain.cell]) for gain in stand],
        leaky=leaky_text(finding.leaky) if finding.leaky else "",
    )


def _leads(
    finding: Finding, label: Callable[[CellName], str], page: Callable[[CellName], str]
) -> Table:
    def score(name: CellName | None, mean: float) -> tuple[HtmlEntry, HtmlEntry]:
        if name is None:
            return HtmlEntry("—"), HtmlEntry("")
        return HtmlEntry(label(name)), HtmlEntry(f"{mean:.2f}", mean, page(name))

    columns = (
        Column("trained and tested on", "name"),
        *(Column("best"), Column(finding.metric.title, "number")),
        *(Column("next"), Column("behind by", "number")),
        Column("others undecided", "number"),
        *(Column("best baseline"), Column("its score", "number")),
    )
    rows = tuple(
        (
            HtmlEntry(lead.dataset),
            *score(lead.leader, lead.mean),
            HtmlEntry(label(lead.second)),
            HtmlEntry(f"{lead.ahead:.2f}", lead.ahead, page(lead.second)),
            number(len(lead.undecided), text=f"{len(lead.undecided)} of {lead.others}"),
            *score(lead.baseline, lead.baseline_mean),
        )
        for lead in finding.leads
    )
    return Table("leads", metric_title(finding.metric), columns, rows)


def _helps(finding: Finding) -> str:
    if finding.gains is None:
        return ""
    better, worse = bool(finding.gains.better), bool(finding.gains.worse)
    told = {
        (True, False): "Where it can be told, yes",
        (False, True): "Where it can be told, no",
        (True, True): "Sometimes, and sometimes it harms",
        (False, False): "It cannot be told",
    }
    return told[better, worse]


def _standing(
    gain: Standing, results: Results, label: Callable[[CellName], str], page: str
) -> HtmlEntry:
    cell = dict(zip(results.leaderboard.identity, gain.cell, strict=True))
    place = f"{cell['train_on']} → {cell['test_on']}"
    numbers = f"{gain.gain:+.3f} ({gain.low:.3f} … {gain.high:.3f})".replace("-", "−")
    return HtmlEntry(f"{label(gain.cell)}, {place}: {numbers}", gain.gain, page)
