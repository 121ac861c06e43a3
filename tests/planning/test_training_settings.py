"""Training settings: published defaults, the published schedule, and no torch."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from harness.planning.training_settings import TrainingSettings, loss_of
from harness_properties import KAPPA


def test_defaults_are_those_of_the_published_study() -> None:
    settings = TrainingSettings()
    assert (settings.epochs, settings.batch_size, settings.lr) == (300, 8, 1e-3)
    assert (settings.loss, loss_of(KAPPA), settings.weight_decay) == (None, "mape", 0.0)


def test_the_schedule_is_the_published_formula() -> None:
    settings = TrainingSettings(lr=2e-3)
    for epoch in range(300):
        expected = 2e-3 * (0.01 + 0.99 * 0.5 * (1 + math.cos(2 * math.pi * epoch / 1000)))
        assert settings.lr_at(epoch) == pytest.approx(expected, rel=1e-14)


def test_the_schedule_is_what_the_published_script_does_by_stepping_twice() -> None:
    settings = TrainingSettings()
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000, eta_min=1e-5)
    for epoch in range(300):
        assert settings.lr_at(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()
        schedule.step()


def test_a_constant_schedule_is_constant() -> None:
    settings = TrainingSettings(schedule="constant", lr=0.5)
    assert {settings.lr_at(epoch) for epoch in range(50)} == {0.5}


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": 0.0}, {"loss": "mean"}, {"batchsize": 8}, {"lr_floor_fraction": 1.5}],
)
def test_settings_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        TrainingSettings(**wrong)


def test_importing_them_loads_no_torch() -> None:
    code = "import sys, harness.planning.training_settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
