"""What it gains to train the trials of a search side by side, each with settings of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn

from harness import TrainingSettings
from harness.planning.member_training import MemberTraining
from harness.training.stack_fit import StackFit

LOSSES: tuple[Literal["mae-log", "mse", "huber"], ...] = ("mae-log", "mse", "huber")
TRIALS = [
    MemberTraining(
        TrainingSettings(
            epochs=1, lr=1e-3 * (trial + 1), weight_decay=1e-5 * trial, loss=loss, batch_size=8
        )
    )
    for trial, loss in enumerate(LOSSES * 3)
]
"""Nine trials that differ in learning rate, weight decay and loss."""


@pytest.mark.benchmark(group="tuning: one epoch of nine trials")
def test_trials_in_one_stack_are_faster_than_one_at_a_time(
    make_stack, threads: Callable[[int], None], alternate, report
) -> None:
    threads(1)
    stacks = [make_stack(members=range(len(TRIALS)))]
    alone = [make_stack(members=[trial]) for trial in range(len(TRIALS))]

    def train(stack, member_trainings):
        model = nn.ModuleDict({"backbone": stack.backbone, "head": stack.head})
        device = torch.device("cpu")
        StackFit(
            model, stack.data, member_trainings, selection=stack.selection, device=device
        ).train()

    own, other = alternate(
        lambda: train(stacks[0], TRIALS),
        lambda: [
            train(stack, [member_training])
            for stack, member_training in zip(alone, TRIALS, strict=True)
        ],
    )
    report(
        ratio_by_processor_seconds=other.cpu / own.cpu,
        ratio_by_the_clock=other.wall / own.wall,
        trials_per_minute_and_epoch=60 * len(TRIALS) / own.wall,
    )
    assert other.cpu / own.cpu > 1
