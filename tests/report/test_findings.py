"""What came out, in words: derived from the statistics, and the author's words where written."""

from __future__ import annotations

from dataclasses import replace

from harness.report.differences import Differences
from harness.report.findings import derive_finding, finding_lines, never_beaten
from harness.report.pivot import pivot


def test_who_leads_is_the_best_of_the_table(shipped_leaderboard, metrics) -> None:
    finding = derive_finding(shipped_leaderboard, metrics["mae-log"])
    frame = pivot(shipped_leaderboard, metrics).frame()
    for lead in finding.leads:
        home = frame.query(f"train_on == test_on == '{lead.dataset}'")
        assert lead.mean == home["mean"].min()
        assert len(lead.undecided) == home["undecided"].sum()
        assert lead.others == len(home) - 1


def test_models_that_nothing_beats_are_best_or_undecided_everywhere(
    shipped_leaderboard, metrics
) -> None:
    finding = derive_finding(shipped_leaderboard, metrics["mae-log"])
    identity = shipped_leaderboard.identity

    def label(name: tuple[str, ...]) -> str:
        return shipped_leaderboard.label_of(dict(zip(identity, name, strict=True)))

    frame = pivot(shipped_leaderboard, metrics).frame().query("train_on == test_on")
    fit = frame[frame["best"] | frame["undecided"]]
    names = [label(tuple(row)) for row in fit[list(identity)].to_numpy().tolist()]
    assert sorted(never_beaten(finding, label)) == sorted(n for n in {*names} if names.count(n) > 1)


def test_gains_that_stand_are_those_of_the_table(make_leaderboard, metrics) -> None:
    scores = {
        ("scratch", "A", "A"): [0.80, 0.81, 0.79],
        ("pretrained", "A", "A"): [0.20, 0.22, 0.19],
    }
    leaderboard = make_leaderboard(scores)
    gains = derive_finding(leaderboard, metrics["mape"]).gains
    gained = Differences(leaderboard, metrics["mape"]).gains()
    stand = gained["p_holm"] < 0.05
    assert gains is not None
    assert (len(gains.better) + len(gains.worse), gains.tests) == (stand.sum(), len(gained))
    assert [gain.gain for gain in gains.better] == gained[stand]["gain"].tolist()


def test_the_author_has_the_first_word(shipped_leaderboard, metrics) -> None:
    written = replace(shipped_leaderboard, finding="Nobody\nknows.")
    assert finding_lines(written, metrics["mae-log"]) == ["Nobody knows."]
