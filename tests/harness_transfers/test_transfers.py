"""Transfer strategies return their stages: the published steps I, II and III, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.plugin import Adapter, ParameterGroup, Settings, Stage, Target
from harness_transfers import register_transfers
from harness_transfers.strategies import (
    BitFit,
    Frozen,
    GradualUnfreeze,
    Joint,
    L2Sp,
    LayerwiseLr,
    Lora,
    TwoStage,
    bitfit,
    fixed,
    frozen,
    gradual_unfreeze,
    joint,
    l2_sp,
    layerwise_lr,
    lora,
    pretrained,
    scratch,
    two_stage,
)

LAYERS = (("backbone.embedding", "backbone.encoder"), ("backbone.block1",), ("head",))
TARGET = Target("Dataset1", LAYERS)
AFLOW = Target("AFLOW", LAYERS)
FINE_TUNING: list[tuple[Any, Any]] = [
    (frozen, Frozen),
    (gradual_unfreeze, GradualUnfreeze),
    (layerwise_lr, LayerwiseLr),
    (l2_sp, L2Sp),
    (bitfit, BitFit),
    (lora, Lora),
]


def test_all_strategies_are_offered_with_their_settings() -> None:
    offered = {spec.name: (spec.settings, spec.stages) for spec in register_transfers()}
    assert offered == {
        "fixed": (Settings, fixed),
        "scratch": (Settings, scratch),
        "pretrained": (Settings, pretrained),
        "two-stage": (TwoStage, two_stage),
        "frozen": (Frozen, frozen),
        "gradual-unfreeze": (GradualUnfreeze, gradual_unfreeze),
        "layerwise-lr": (LayerwiseLr, layerwise_lr),
        "l2-sp": (L2Sp, l2_sp),
        "bitfit": (BitFit, bitfit),
        "lora": (Lora, lora),
        "joint": (Joint, joint),
    }


def test_fixed_is_one_stage() -> None:
    assert fixed(Settings(), TARGET) == (Stage("Dataset1", "random"),)


def test_scratch_is_one_stage_from_random_weights() -> None:
    assert scratch(Settings(), TARGET) == (Stage("Dataset1", "random"),)


def test_pretrained_is_one_stage_from_pretrained_weights() -> None:
    assert pretrained(Settings(), TARGET) == (Stage("Dataset1", "pretrained"),)


def test_two_stage_fits_the_source_and_continues_on_the_target() -> None:
    stages = two_stage(TwoStage(source="AFLOW"), TARGET)
    assert stages == (Stage("AFLOW", "pretrained"), Stage("Dataset1", "previous"))


def test_two_stage_shares_its_first_stage_with_the_one_stage_strategies() -> None:
    from_pretrained = two_stage(TwoStage(source="AFLOW"), TARGET)
    from_random = two_stage(TwoStage(source="AFLOW", source_start="random"), TARGET)
    assert from_pretrained[0] == pretrained(Settings(), AFLOW)[0]
    assert from_random[0] == scratch(Settings(), AFLOW)[0]


def test_source_epochs_change_the_first_stage_only() -> None:
    source, target = two_stage(TwoStage(source="AFLOW", source_epochs=40), TARGET)
    assert source.training == {"epochs": 40}
    assert target.training == {}


@pytest.mark.parametrize(
    "strategy",
    [
        lambda target: two_stage(TwoStage(source="AFLOW"), target),
        lambda target: joint(Joint(source="AFLOW"), target),
        *(
            lambda target, make=make, kind=kind: make(kind(source="AFLOW"), target)
            for make, kind in FINE_TUNING
        ),
    ],
)
def test_no_strategy_makes_sense_for_its_own_source(
    strategy: Callable[[Target], Sequence[Stage]],
) -> None:
    assert strategy(AFLOW) == ()
    assert strategy(TARGET)


@pytest.mark.parametrize(("strategy", "settings"), FINE_TUNING)
def test_fine_tuning_starts_from_published_weights_or_from_a_source(strategy, settings) -> None:
    (alone,) = strategy(settings(), TARGET)
    source, after = strategy(settings(source="AFLOW"), TARGET)
    assert (alone.dataset, alone.start) == ("Dataset1", "pretrained")
    assert source == two_stage(TwoStage(source="AFLOW"), TARGET)[0]
    assert (after.dataset, after.start) == ("Dataset1", "previous")
    assert replace(after, start="pretrained") == alone


def test_frozen_trains_the_head_alone() -> None:
    (stage,) = frozen(Frozen(), TARGET)
    assert stage.freeze == ("backbone",)
    assert stage.groups == ()


def test_frozen_leaves_the_last_layers_free_if_asked_to() -> None:
    *backbone, _ = LAYERS
    (stage,) = frozen(Frozen(layers=1), TARGET)
    assert stage.freeze == tuple(backbone[0])
    (whole,) = frozen(Frozen(layers=len(backbone) + 5), TARGET)
    assert whole.freeze == ("backbone",)


def test_bitfit_keeps_all_of_the_backbone_but_its_biases() -> None:
    shapes = {"backbone.block1.weight": (3, 2), "backbone.block1.bias": (1, 2), "head.weight": (2,)}
    (stage,) = bitfit(BitFit(lr_factor=3.0), Target("Dataset1", LAYERS, shapes))
    assert stage.freeze == ("backbone.block1.weight",)
    assert stage.lr_factor == 3.0
    (without,) = bitfit(BitFit(), Target("Dataset1", LAYERS, {"backbone.block1.weight": (3, 2)}))
    assert without.freeze == ("backbone",)


@pytest.mark.parametrize(
    ("settings", "prefixes"),
    [
        ({}, ("backbone",)),
        ({"layers": 1}, ("backbone.block1",)),
        ({"layers": 9}, ("backbone",)),
        ({"prefixes": ["backbone.encoder"]}, ("backbone.encoder",)),
    ],
)
def test_lora_updates_layers_from_the_output_or_those_that_are_named(settings, prefixes) -> None:
    (stage,) = lora(Lora(rank=2, alpha=6.0, **settings), TARGET)
    assert stage.freeze == ("backbone",)
    assert stage.adapters == (Adapter(prefixes, 2, 6.0),)


def test_lora_is_told_once_where_to_go() -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        Lora(layers=1, prefixes=("backbone",))


def test_a_target_may_have_a_new_head_after_a_source() -> None:
    source, target = two_stage(TwoStage(source="AFLOW", new_head=True), TARGET)
    assert (source.new_head, target.new_head) == (False, True)


def test_a_source_stage_has_a_learning_rate_of_its_own() -> None:
    source, after = two_stage(TwoStage(source="AFLOW", source_lr=0.002), TARGET)
    assert (source.training, after.training) == ({"lr": 0.002}, {})


def test_gradual_unfreeze_wakes_layers_from_the_head_down_until_all_are_awake() -> None:
    (stage,) = gradual_unfreeze(GradualUnfreeze(until=0.6), TARGET)
    assert stage.groups == (
        ParameterGroup(("backbone.block1",), asleep_for=0.3),
        ParameterGroup(("backbone.embedding", "backbone.encoder"), asleep_for=0.6),
    )


def test_layerwise_lr_falls_by_one_factor_a_layer_below_the_head() -> None:
    (stage,) = layerwise_lr(LayerwiseLr(decay=0.5), TARGET)
    assert stage.groups == (
        ParameterGroup(("backbone.block1",), lr_factor=0.5),
        ParameterGroup(("backbone.embedding", "backbone.encoder"), lr_factor=0.25),
    )


def test_l2_sp_pulls_the_backbone_and_not_the_head() -> None:
    (stage,) = l2_sp(L2Sp(strength=0.2), TARGET)
    assert stage.groups == (ParameterGroup(("backbone",), pull=0.2),)


def test_joint_is_one_stage_with_the_source_alongside() -> None:
    assert joint(Joint(source="AFLOW", source_weight=0.3), TARGET) == (
        Stage("Dataset1", "pretrained", alongside={"AFLOW": 0.3}),
    )


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (TwoStage, {}),
        (TwoStage, {"source": "AFLOW", "source_start": "previous"}),
        (TwoStage, {"source": "AFLOW", "source_epochs": 0}),
        (TwoStage, {"source": "AFLOW", "sourc_epochs": 3}),
        (TwoStage, {"source": None}),
        (Joint, {}),
        (Joint, {"source": "AFLOW", "source_weight": 0}),
        (GradualUnfreeze, {"until": 1.0}),
        (LayerwiseLr, {"decay": 1.5}),
        (L2Sp, {"strength": -1}),
    ],
)
def test_wrong_settings_are_refused(model: type[Settings], settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(settings)


def test_the_override_is_a_training_setting() -> None:
    from harness.planning.training_settings import TrainingSettings

    (source, _) = two_stage(TwoStage(source="AFLOW", source_epochs=40), TARGET)
    assert TrainingSettings(**source.training).epochs == 40


def test_sources_are_fitted_one_after_the_other() -> None:
    settings = TwoStage.model_validate({"sources": ["AFLOW", "MIX"], "source_epochs": 7})
    first, second, last = two_stage(settings, TARGET)
    assert (first.dataset, first.start, first.training) == ("AFLOW", "pretrained", {"epochs": 7})
    assert (second.dataset, second.start, second.training) == ("MIX", "previous", {"epochs": 7})
    assert last == Stage("Dataset1", "previous")


def test_several_sources_are_fitted_at_once() -> None:
    settings = Joint.model_validate({"sources": ["AFLOW", "MIX"], "source_weight": 0.5})
    (stage,) = joint(settings, TARGET)
    assert stage.alongside == {"AFLOW": 0.5, "MIX": 0.5}


@pytest.mark.parametrize("given", [{}, {"sources": []}, {"source": "A", "sources": ["B"]}])
def test_sources_are_named_once(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TwoStage.model_validate(given)


def test_a_target_among_the_sources_has_no_stages() -> None:
    settings = TwoStage.model_validate({"sources": ["AFLOW", "Dataset1"]})
    assert two_stage(settings, TARGET) == ()
