"""Which stages share a stack: those of one shape, up to the number of members asked for."""

from __future__ import annotations

from typing import Any

import pytest

from harness import api
from harness.planning.benchmark import Benchmark
from harness.planning.plan import Plan
from harness.planning.stacks import share_stacks, stacks_of

BENCHMARK: dict[str, Any] = {
    "name": "stacks",
    "train_on": ["Toy", "Twins"],
    "test_on": ["Toy"],
    "backbones": ["tiny"],
    "heads": [{"name": "mlp", "hidden": [8]}],
    "transfers": ["scratch", {"name": "two-stage", "source": "Source", "source_start": "random"}],
    "baselines": [],
    "runs": 2,
    "metrics": ["mae-log"],
    "training": {"epochs": 2, "loss": "mae-log"},
}
EVERYTHING = 1000


@pytest.fixture
def planned(tiny):
    def lay_out(**changes: Any) -> Plan:
        benchmark = Benchmark.model_validate({**BENCHMARK, **changes})
        return api.prepare(benchmark, registry=api.registry_of(benchmark, plugins=[tiny]))

    return lay_out


def titles(plan: Plan, members: int | None) -> list[list[str]]:
    return [[stage.title for stage in stack] for stack in share_stacks(plan.stages, members)]


def test_every_stage_is_alone_unless_asked(planned):
    assert {len(stack) for stack in titles(planned(), None)} == {1}


def test_datasets_share_a_stack_but_no_stage_shares_one_with_what_it_goes_on_from(planned):
    assert titles(planned(), EVERYTHING) == [
        ["Toy (random)", "Twins (random)"],
        ["Source (random)"],  # has four times the rows
        ["Toy (after Source)", "Twins (after Source)"],
    ]


def test_no_stack_is_wider_than_asked_but_by_a_stage_that_is_alone(planned):
    plan = planned(train_on=["Toy", "Twins", "TwinPairs"], protocols=["strict", "published"])
    for members in range(1, 20):
        stacks = share_stacks(plan.stages, members)
        widths = [sum(len(stage.members) for stage in stack) for stack in stacks]
        assert all(
            width <= members or len(stack) == 1 for width, stack in zip(widths, stacks, strict=True)
        )
        assert {stage.key for stack in stacks for stage in stack} == {
            stage.key for stage in plan.stages
        }


@pytest.mark.parametrize(
    "change",
    [
        {"training_on": {"Twins": {"epochs": 3}}},
        {"training_on": {"Twins": {"batch_size": 4}}},
        {"train_on": ["Toy", "Source"]},  # four times the steps
        {"heads": ["nearest"], "backbones": ["composition"]},  # in closed form
    ],
    ids=["epochs", "batch", "steps", "closed form"],
)
def test_what_stages_must_have_in_common(planned, change):
    plan = planned(transfers=["scratch"], **change)
    assert {len(stack) for stack in share_stacks(plan.stages, EVERYTHING)} == {1}


@pytest.mark.parametrize(
    "change",
    [
        {"training_on": {"Twins": {"lr": 0.01}}},
        {"training_on": {"Twins": {"loss": "mse"}}},
        {"training_on": {"Twins": {"patience": 1}}},
    ],
    ids=["lr", "loss", "patience"],
)
def test_what_stages_may_differ_in(planned, change):
    plan = planned(transfers=["scratch"], **change)
    assert {len(stack) for stack in share_stacks(plan.stages, EVERYTHING)} == {2}


def test_stages_that_train_different_parameters_do_not_share_a_stack(planned):
    whole = BENCHMARK["transfers"][1]
    plan = planned(train_on=["Toy"], transfers=[whole, {**whole, "name": "frozen"}])
    assert len(plan.stages) == 3
    assert {len(stack) for stack in share_stacks(plan.stages, EVERYTHING)} == {1}


def test_what_is_left_of_a_plan_stays_in_its_stacks(planned):
    plan = planned(stack_members=4, protocols=["strict", "published"])
    shared = share_stacks(plan.stages, 4)
    assert {len(stack) for stack in shared} == {1, 2}
    for number in range(2 ** len(plan.stages)):
        left = [own for place, own in enumerate(plan.stages) if number >> place & 1]
        found = [tuple(own for own in stack if own in left) for stack in shared]
        assert set(stacks_of(plan, left)) == {stack for stack in found if stack}


def test_a_stage_that_is_not_of_the_plan_is_alone(planned):
    plan, other = planned(stack_members=EVERYTHING), planned(runs=3)
    assert {len(stack) for stack in stacks_of(plan, other.stages)} == {1}
