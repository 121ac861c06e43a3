"""The head `mlp`: stacked, of any depth, and what a plain PyTorch perceptron computes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness.plugin import StackedDropout
from harness_heads import MlpSettings, register_heads

SPEC = register_heads()[0]
ACTIVATIONS = {"relu": nn.ReLU, "softplus": nn.Softplus, "silu": nn.SiLU}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def plain_member(head: nn.Module, member: int, activation: str) -> nn.Sequential:
    """The same perceptron built of PyTorch's own layers, with the weights of one member."""
    layers: list[nn.Module] = []
    for stacked in head.layers:
        n_in, n_out = stacked.weight.shape[1:]
        linear = nn.Linear(n_in, n_out)
        linear.weight.data = stacked.weight[member].detach().T
        linear.bias.data = stacked.bias[member, 0].detach()
        layers += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (12, 5, 9)])
def test_each_member_computes_what_a_plain_perceptron_would(hidden, activation) -> None:
    head = SPEC.make(MlpSettings(hidden=hidden, activation=activation), 4, generators(1, 2, 3))
    x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    outputs = head(x)
    assert outputs.shape == (3, 6)
    for member in range(3):
        expected = plain_member(head, member, activation)(x[member]).squeeze(-1)
        torch.testing.assert_close(outputs[member], expected)


def test_the_published_sizes_are_the_default() -> None:
    head = SPEC.make(MlpSettings(), 16, generators(1))
    widths = [layer.weight.shape[1] for layer in head.layers] + [1]
    assert widths == [16, 450, 350, 350, 1]
    expected = sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))
    assert sum(p.numel() for p in head.parameters()) == expected


def test_a_member_is_initialised_by_its_own_generator_alone() -> None:
    stack = SPEC.make(MlpSettings(hidden=(8,)), 4, generators(5, 6))
    alone = SPEC.make(MlpSettings(hidden=(8,)), 4, generators(6))
    for together, single in zip(stack.parameters(), alone.parameters(), strict=True):
        assert torch.equal(together[1], single[0])
        assert not torch.equal(together[0], single[0])


@pytest.mark.parametrize(
    "wrong", [{"hidden": [0]}, {"hidden": [-3]}, {"activation": "tanhh"}, {"dropout": 1.0}]
)
def test_settings_that_make_no_head_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        MlpSettings(**wrong)


# --- dropout ------------------------------------------------------------------------------------


def dropping(*seeds: int) -> nn.Module:
    settings = MlpSettings(hidden=(40, 30), dropout=0.4)
    return SPEC.make(settings, 4, generators(*seeds))


def test_dropout_masks_belong_to_a_member_and_an_epoch() -> None:
    x = torch.ones(3, 6, 4)
    together, alone = dropping(1, 2, 3), dropping(2)
    first = together(x)
    torch.testing.assert_close(first[1], alone(x[:1])[0])
    assert not torch.equal(together(x), first), "the next step of the same epoch"
    for module in together.modules():
        if hasattr(module, "begin_epoch"):
            module.begin_epoch(0)
    assert torch.equal(together(x), first), "the first step of the epoch again"


def test_dropout_is_for_training_alone_and_keeps_the_mean() -> None:
    head = dropping(1).eval()
    x = torch.rand(1, 5, 4)
    assert torch.equal(head(x), head(x))
    layer = StackedDropout(generators(7), 0.25)
    kept = layer(torch.ones(1, 200, 200))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)


def test_settings_without_dropout_are_recorded_as_before_there_was_any() -> None:
    assert "dropout" not in MlpSettings().model_dump(mode="json")
    assert MlpSettings(dropout=0.1).model_dump()["dropout"] == 0.1
