"""Groups of a protocol's own: of all datasets together, and held to what leak-free promises."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from harness.errors import LeakError, PluginError
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.planning.planner import plan
from harness.plugin.locations import Locations
from harness.registry.registry import Registry

PROTOCOL = """
    from harness.plugin import ProtocolRules, ProtocolSpec, Settings, Split, hookimpl
    import numpy as np

    class Rules(ProtocolRules):
        leak_free = {leak_free}
        selection = "mae-log"
        offset = 0.0
        scaler_stage = "last"

        def group(self, rows, run):
            return [{group} for number, crystal in enumerate(rows.crystals)]

        def split(self, groups, run, seed):
            lithium = np.array(["Li" in name for name in groups])
            test, rest = np.flatnonzero(lithium), np.flatnonzero(~lithium)
            if len(groups) == 192 and {leaks}:  # Source
                return Split(np.append(rest[20:], test[:6]), rest[:10], rest[10:20])
            return Split(rest[10:], rest[:10], test)

        def scaler_rows(self, split):
            return split.train

    @hookimpl
    def register_protocols():
        return [ProtocolSpec("own", "for tests", Settings, lambda settings: Rules())]
"""
BY_LITHIUM = '"with Li" if "Li" in crystal.species else crystal.formula'


@pytest.fixture
def planned(tiny: Path, tmp_path: Path):
    def make(group: str = BY_LITHIUM, leaks: bool = False, leak_free: bool = True) -> Plan:
        path = tmp_path / "own.py"
        path.write_text(dedent(PROTOCOL).format(group=group, leaks=leaks, leak_free=leak_free))
        settings = {
            "name": "test",
            "train_on": ["Source"],
            "test_on": ["Toy"],
            "backbones": ["tiny"],
            "protocols": ["own"],
            "baselines": [],
            "runs": 2,
        }
        return plan(Benchmark.model_validate(settings), Registry([tiny, path]), Locations())

    return make


def test_no_test_row_overlaps_with_a_group_that_no_run_trains_on(planned) -> None:
    (scoring,) = planned().scorings
    assert all(len(rows) == 12 for rows in scoring.rows)
    assert not any(overlap.any() for overlap in scoring.overlap)


def test_a_leak_between_datasets_stops_a_leak_free_protocol(planned) -> None:
    with pytest.raises(LeakError, match=r"of Toy has the role 'test' .* the same group 'with Li'"):
        planned(leaks=True)
    (scoring,) = planned(leaks=True, leak_free=False).scorings
    assert all(overlap.all() for overlap in scoring.overlap)  # the group, not the formulas alone


def test_twins_in_two_groups_are_refused_where_no_leak_is_promised(planned) -> None:
    torn = 'f"{crystal.formula} {number // 192}"'  # Source, then Toy
    with pytest.raises(
        PluginError, match=r"Rules.group has rows of the reduced formula \w+ in two"
    ):
        planned(group=torn)
    assert planned(group=torn, leak_free=False)


def test_what_is_no_group_is_refused(planned) -> None:
    with pytest.raises(PluginError, match="gave 1 in run 1: expected the name of a group, or None"):
        planned(group="1")


def test_other_groups_are_another_stage(planned) -> None:
    (one,), (other,) = planned().stages, planned(group="crystal.formula").stages
    assert one.key != other.key
