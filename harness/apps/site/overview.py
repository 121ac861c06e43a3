"""What the first page shows besides the answer: a card for each leaderboard, the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.apps.site.leaderboard_pages import counts_of, title_of_leaderboard, troubles_of
from harness.apps.site.results import Results
from harness.plugin.dataset import Card
from harness.registry.registry import Registry
from harness.report.findings import tell_finding


@dataclass(frozen=True)
class LeaderboardCard:
    """One leaderboard.

    Attributes:
        name, title: of it.
        finding: what came out, in lines.
        summary: what it asks; shown where nothing is said of what came out.
        counts: what there is, by what it is.
        troubles: what a reader should be warned of.
    """

    name: str
    title: str
    finding: Sequence[str]
    summary: str
    counts: Mapping[str, str]
    troubles: Sequence[str]


def make_card(results: Results, told: bool) -> LeaderboardCard:
    """Gathers the card of a leaderboard.

    Args:
        results: of the leaderboard.
        told: whether what came out of it is told above.
    """
    leaderboard = results.leaderboard
    return LeaderboardCard(
        leaderboard.name,
        title_of_leaderboard(results),
        () if told else tell_finding(leaderboard, results.finding),
        leaderboard.settings["summary"],
        counts_of(results),
        troubles_of(results),
    )


def find_data(registry: Registry, results: Sequence[Results]) -> dict[str, Card]:
    """Returns the cards of all datasets that leaderboards train or test on, by name."""
    names = dict.fromkeys(
        name for result in results for cell in result.cells for name in cell.place
    )
    return {
        name: registry.datasets[name].read_card() for name in names if name in registry.datasets
    }
