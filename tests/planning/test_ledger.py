"""The role ledger: what every row was used for; each planted leak stops the run, named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError, LeakError
from harness.planning import ledger, stage_planner
from harness.planning.benchmark import Benchmark
from harness.planning.ledger import roles_of, stage_ledger
from harness.planning.plan import MemberOf, Plan
from harness.planning.planner import plan
from harness.plugin.locations import Locations
from harness.registry.registry import Registry

LEAKY_PROTOCOL = """
    from harness.plugin import ProtocolRules, ProtocolSpec, Settings, Split, hookimpl
    import numpy as np

    class Rules(ProtocolRules):
        leak_free = {leak_free}
        selection = "mae-log"
        offset = 0.0
        scaler_stage = "last"

        def split(self, formulas, run, seed):
            rows = np.arange(len(formulas))
            {split}

        def scaler_rows(self, split):
            {scaler_rows}

    @hookimpl
    def register_protocols():
        return [ProtocolSpec("leaky", "for tests", Settings, lambda settings: Rules())]
"""
CLEAN = "return Split(rows[:30], rows[30:36], rows[36:])"
TRAIN_ONLY = "return split.train"


@pytest.fixture
def planned(tiny: Path, tmp_path: Path):
    def make(
        split: str = CLEAN, scaler_rows: str = TRAIN_ONLY, leak_free: bool = True, **changes: Any
    ) -> Plan:
        path = tmp_path / "leaky.py"
        text = dedent(LEAKY_PROTOCOL)
        path.write_text(text.format(split=split, scaler_rows=scaler_rows, leak_free=leak_free))
        settings = {
            "name": "test",
            "train_on": ["Toy"],
            "test_on": ["Toy"],
            "backbones": ["tiny"],
            "protocols": ["leaky"],
            "baselines": [],
            "runs": 2,
            **changes,
        }
        registry = Registry([tiny, path])
        return plan(Benchmark.model_validate(settings), registry, Locations())

    return make


def test_a_clean_protocol_passes(planned) -> None:
    assert len(planned().scorings) == 1


@pytest.mark.parametrize(
    ("split", "role"),
    [
        ("return Split(rows[:37], rows[37:39], rows[36:])", "gradient"),
        ("return Split(rows[:30], rows[30:], rows[36:])", "selection"),
    ],
)
def test_a_test_row_in_another_role_is_named_with_both_roles(
    planned, split: str, role: str
) -> None:
    expected = rf"run 1: the row 'RbF' of Toy has the role 'test' in .* the role '{role}'"
    with pytest.raises(LeakError, match=expected):
        planned(split)


def test_a_scaler_that_has_seen_test_rows_is_caught(planned) -> None:
    everything = "return np.concatenate([split.train, split.validation, split.test])"
    with pytest.raises(LeakError, match=r"role 'test' in .* the role 'scaler'.*scaler_rows"):
        planned(scaler_rows=everything)


def test_twins_across_the_split_are_caught(planned) -> None:
    """TwinPairs has every material twice, and the split ignores that."""
    with pytest.raises(LeakError, match=r"of the same formula .* twins across the split"):
        planned(train_on=["TwinPairs"], test_on=["TwinPairs"])


def test_a_source_stage_with_a_test_group_is_caught(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core leaves such groups out; without that, the ledger stops the run."""
    two_stage = {"name": "two-stage", "source": "Source", "source_start": "random"}
    assert planned(transfers=[two_stage], protocols=["strict"])
    monkeypatch.setattr(stage_planner.StagePlanner, "_reserved_groups", lambda *arguments: set())
    expected = r"the source stage Source \(random\) uses .* has the role 'test'"
    with pytest.raises(LeakError, match=expected):
        planned(transfers=[two_stage], protocols=["strict"])


def test_a_dataset_fitted_alongside_with_a_test_group_is_caught(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = {"name": "joint", "source": "Source", "start": "random"}
    assert planned(transfers=[joint], protocols=["strict"])
    monkeypatch.setattr(stage_planner.StagePlanner, "_reserved_groups", lambda *arguments: set())
    expected = r"stage Toy with Source \(random\) uses .* of Source in the role .* role 'test'"
    with pytest.raises(LeakError, match=expected):
        planned(transfers=[joint], protocols=["strict"])


def test_members_are_looked_through_as_often_however_many_cells_they_have(
    planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source stage of thousands of rows serves all targets, and these all test sets."""
    looked: Counter[tuple[str, int]] = Counter()

    def roles(member: MemberOf) -> Any:
        looked[member.stage.key, member.index] += 1
        return roles_of(member)

    monkeypatch.setattr(ledger, "roles_of", roles)
    two_stage = {"name": "two-stage", "source": "Source", "source_start": "random"}
    names = ["Toy", "Twins"]
    planned(transfers=[two_stage], protocols=["strict"], train_on=names, test_on=names)
    assert len(looked) == 2 * 3, "runs × stages"
    assert set(looked.values()) == {2}, "for rows, and for what a source stage has seen"


def test_the_ledger_holds_the_rows_that_are_fitted_alongside(planned) -> None:
    joint = {"name": "joint", "source": "Source", "start": "random"}
    (stage,) = planned(transfers=[joint], protocols=["strict"]).stages
    used = stage_ledger(stage)
    counts = used[used["part"] == "Source"].groupby(["run", "role"]).size().to_dict()
    (other,) = stage.alongside
    assert counts == {
        (member.run, role): len(member.train)
        for member in other.members
        for role in ("scaler", "gradient")
    }


@pytest.mark.parametrize(
    ("split", "side"),
    [
        ("return Split(rows[:30], rows[30:], rows[:0])", "test"),
        ("return Split(rows[:30], rows[:0], rows[30:])", "validation"),
        ("return Split(rows[:0], rows[:10], rows[30:])", "train"),
        ("return Split(rows[:30], rows[30:], np.array([]))", "test"),
    ],
)
def test_a_side_with_no_rows_left_is_named(planned, split: str, side: str) -> None:
    with pytest.raises(DataError, match=f"No {side} rows are left for 'Toy' in run 1: it has 48"):
        planned(split)


def test_a_protocol_without_the_promise_is_not_stopped(planned) -> None:
    laid_out = planned("return Split(rows[:30], rows[30:], rows[30:])", leak_free=False)
    assert len(laid_out.scorings) == 1


def test_the_ledger_holds_every_role_of_every_run(planned) -> None:
    (stage,) = planned().stages
    used = stage_ledger(stage)
    counts = used.groupby(["run", "role"]).size().to_dict()
    assert counts == {
        (run, role): n
        for run in (1, 2)
        for role, n in (("scaler", 30), ("gradient", 30), ("selection", 6))
    }


def test_strict_and_its_composites_have_no_conflict(planned) -> None:
    laid_out = planned(
        protocols=["strict"], train_on=["Toy", "ToyAndTwins"], test_on=["Toy", "Twins"], runs=3
    )
    for scoring in laid_out.scorings:
        for (source,), rows in zip(scoring.sources, scoring.rows, strict=True):
            member = source.rows
            used = np.concatenate([member.train, member.validation, member.scaler_rows])
            data = scoring.target
            names = {(data.parts[row], data.ids[row]) for row in used}
            tested = {(scoring.dataset.parts[row], scoring.dataset.ids[row]) for row in rows}
            assert not names & tested
