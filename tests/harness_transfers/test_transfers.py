"""Transfer strategies return the stages of the published steps I, II and III."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness import Settings, Stage
from harness_transfers import register_transfers
from harness_transfers.strategies import TwoStage, pretrained, scratch, two_stage


def test_the_three_strategies_are_offered_with_their_settings() -> None:
    offered = {spec.name: (spec.settings, spec.stages) for spec in register_transfers()}
    assert offered == {
        "scratch": (Settings, scratch),
        "pretrained": (Settings, pretrained),
        "two-stage": (TwoStage, two_stage),
    }


def test_scratch_is_one_stage_from_random_weights() -> None:
    assert scratch(Settings(), "Dataset1") == (Stage("Dataset1", "random"),)


def test_pretrained_is_one_stage_from_pretrained_weights() -> None:
    assert pretrained(Settings(), "Dataset1") == (Stage("Dataset1", "pretrained"),)


def test_two_stage_fits_the_source_and_continues_on_the_target() -> None:
    stages = two_stage(TwoStage(source="AFLOW"), "Dataset1")
    assert stages == (Stage("AFLOW", "pretrained"), Stage("Dataset1", "previous"))


def test_two_stage_shares_its_first_stage_with_the_one_stage_strategies() -> None:
    from_pretrained = two_stage(TwoStage(source="AFLOW"), "Dataset1")
    from_random = two_stage(TwoStage(source="AFLOW", source_start="random"), "Dataset1")
    assert from_pretrained[0] == pretrained(Settings(), "AFLOW")[0]
    assert from_random[0] == scratch(Settings(), "AFLOW")[0]


def test_source_epochs_change_the_first_stage_only() -> None:
    source, target = two_stage(TwoStage(source="AFLOW", source_epochs=40), "Dataset1")
    assert source.training == {"epochs": 40}
    assert target.training == {}


def test_two_stage_makes_no_sense_for_its_own_source() -> None:
    assert two_stage(TwoStage(source="AFLOW"), "AFLOW") == ()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"source": "AFLOW", "source_start": "previous"},
        {"source": "AFLOW", "source_epochs": 0},
        {"source": "AFLOW", "sourc_epochs": 3},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TwoStage.model_validate(settings)


def test_the_override_is_a_training_setting() -> None:
    from harness.training_settings import TrainingSettings

    (source, _) = two_stage(TwoStage(source="AFLOW", source_epochs=40), "Dataset1")
    assert TrainingSettings(**source.training).epochs == 40
