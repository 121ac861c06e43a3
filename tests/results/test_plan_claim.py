"""A results folder belongs to one plan at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.results.plan_claim import claim, differences
from harness.results.records import PlanFile, PlannedCell
from harness.results.store import Store

SETTINGS = {
    "name": "toy",
    "title": "",
    "summary": "",
    "runs": 2,
    "seed": 0,
    "metrics": ["mae-log"],
    "test_on": ["Toy"],
    "training": {},
    "training_on": {},
    "rows": {},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path)


def plan_of(**settings: Any) -> PlanFile:
    cell = PlannedCell(
        key="0" * 16,
        backbone="tiny",
        head="mlp",
        transfer="scratch",
        protocol="published",
        train_on="Toy",
        test_on="Toy",
        leak_free=False,
        chain=("1" * 16,),
    )
    benchmark = {**SETTINGS, **settings}
    return PlanFile(benchmark=benchmark, datasets={}, cells=(cell,))


def test_processes_on_the_same_plan_share_a_folder(store: Store) -> None:
    with claim(store, plan_of()) as first, claim(store, plan_of()) as second:
        assert (first, second) == (True, False)


def test_another_plan_is_refused_by_what_differs_and_changes_nothing(store: Store) -> None:
    with claim(store, plan_of(seed=1)):
        other = claim(store, plan_of(seed=2, runs=3, limit=5))
        with pytest.raises(StoreError, match="runs is 2 there and 3 here; seed is 1 there and 2"):
            other.__enter__()
        assert store.read_plan() == plan_of(seed=1)


def test_the_next_plan_takes_over_a_folder_that_is_free(store: Store) -> None:
    for seed in (1, 2):
        with claim(store, plan_of(seed=seed)) as alone:
            assert alone
        assert store.read_plan() == plan_of(seed=seed)


def test_differences_are_named_by_their_place() -> None:
    theirs, ours = {"a": {"b": 1, "c": 2}, "d": 0}, {"a": {"b": 1, "c": 3}, "e": "x"}
    assert list(differences(theirs, ours)) == [
        "a.c is 2 there and 3 here",
        "d is 0 there and null here",
        'e is null there and "x" here',
    ]
