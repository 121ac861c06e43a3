"""The head `linear` is the perceptron without hidden layers: one affine map per member."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from harness_heads import MlpSettings, register_heads

HEADS = {spec.name: spec for spec in register_heads()}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_it_equals_the_perceptron_without_hidden_layers_member_by_member() -> None:
    linear = HEADS["linear"].make(HEADS["linear"].settings(), 5, generators(1, 2, 3))
    mlp = HEADS["mlp"].make(MlpSettings(hidden=()), 5, generators(1, 2, 3))
    x = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    ours, theirs = linear(x), mlp(x)
    assert ours.shape == (3, 7)
    for member in range(3):
        assert torch.equal(ours[member], theirs[member])
        assert not torch.equal(ours[member], theirs[member - 1])


def test_it_is_affine_and_has_one_weight_per_feature() -> None:
    head = HEADS["linear"].make(HEADS["linear"].settings(), 5, generators(1))
    assert sum(p.numel() for p in head.parameters()) == 5 + 1
    a, b = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head((a + b) / 2), (head(a) + head(b)) / 2)


def test_it_has_no_settings() -> None:
    with pytest.raises(ValidationError):
        HEADS["linear"].settings.model_validate({"hidden": (3,)})
