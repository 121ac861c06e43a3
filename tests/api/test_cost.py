"""What a run does besides training grows with its cells, and no faster: counted, not timed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.planning import ledger
from harness.results import row_tables
from harness.results.records import ResultLine
from harness.results.store import Store
from harness.training import stage_trainer

BENCHMARK = """
train_on = {names}
test_on = {names}
backbones = ["tiny"]
heads = ["nearest"]
baselines = []
protocols = ["strict"]
runs = 2
metrics = ["mae-log"]
"""
DATASETS = ["Toy", "Twins", "Source", "TwinPairs"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often results are read and the machine is asked, since this was last cleared."""
    counts: Counter[str] = Counter()

    def count(home: Any, name: str, what: str) -> None:
        original: Callable[..., Any] = getattr(home, name)

        def counting(*arguments: Any) -> Any:
            counts[what] += 1
            return original(*arguments)

        monkeypatch.setattr(home, name, counting)

    count(ResultLine, "read", "result lines read")
    count(row_tables, "read_table", "tables of rows read")
    count(Store, "read_plan", "plans read")
    count(stage_trainer, "environment", "the machine asked")
    count(ledger.Use, "of", "uses of rows laid out")
    return counts


def carry_out(folder: Path, tiny: Path, size: int) -> int:
    """Runs a matrix of that size; returns how many result lines it has."""
    folder.mkdir(exist_ok=True)
    (folder / "benchmark.toml").write_text(BENCHMARK.format(names=DATASETS[:size]))
    api.run(folder, plugins=[tiny])
    return len((folder / "results.jsonl").read_text().splitlines())


@pytest.mark.parametrize("again", [False, True], ids=["begun", "with nothing to do"])
def test_every_result_is_read_as_often_in_a_large_matrix_as_in_a_small_one(
    again: bool, counted: Counter[str], tiny: Path, tmp_path: Path
) -> None:
    reads = {}
    for size in (2, 4):
        if again:
            carry_out(tmp_path / str(size), tiny, size)
        counted.clear()
        lines = carry_out(tmp_path / str(size), tiny, size)
        assert lines == 2 * size**2
        reads[size] = {
            "lines": math.ceil(counted["result lines read"] / lines),  # the last is not read back
            "tables": (counted["tables of rows read"] - again * size) / lines,
            "plans": counted["plans read"],
            "asked": counted["the machine asked"],
            "uses": counted["uses of rows laid out"] / size,
        }
    assert reads[4] == reads[2]
    assert reads[4]["lines"] <= 4
    assert reads[4]["tables"] == again / 2, "a file of rows has two runs"
    assert reads[4]["asked"] == (not again), "not once for every stage"
