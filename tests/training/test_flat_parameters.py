"""One buffer for all parameters: views in, views out, and an Adam with a clock per member."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.errors import PluginError
from harness.training.flat_parameters import FlatParameters, StackedAdam

MEMBERS = 3


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (MEMBERS, 4, 5), "b": (MEMBERS, 1, 5), "c": (MEMBERS,)}
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in shapes.items()
    }


def test_parameters_keep_their_values_and_follow_the_buffer() -> None:
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    flat = FlatParameters(named, MEMBERS)
    assert all(torch.equal(named[name], before[name]) for name in named)
    flat.values[1] += 1
    for name in named:
        assert torch.equal(named[name][1], before[name][1] + 1)
        assert torch.equal(named[name][0], before[name][0])


def test_released_parameters_have_storage_of_their_own() -> None:
    named = parameters()
    flat = FlatParameters(named, MEMBERS)
    flat.release()
    before = named["a"].detach().clone()
    flat.values.zero_()
    assert torch.equal(named["a"], before)
    assert all(p.is_contiguous() for p in named.values())


def test_gradients_are_autograds_and_zero_for_what_was_not_used() -> None:
    named = parameters()
    flat = FlatParameters(named, MEMBERS)
    flat.gradients.fill_(7.0)
    flat.differentiate((named["a"] ** 2).sum() + named["c"].sum())
    rows = [torch.zeros(0)] * MEMBERS
    for member in range(MEMBERS):
        found = flat.gradients[member]
        rows[member] = found[found != 7.0]
        assert torch.equal(found[:20], 2 * named["a"][member].detach().reshape(-1))
        assert (found[32:37] == 0).all()  # `b` begins at a multiple of 16
        assert found[48] == 1


def test_each_member_moves_as_under_an_adam_of_its_own() -> None:
    named = parameters()
    alone = [
        [nn.Parameter(p.detach()[member].clone()) for p in named.values()]
        for member in range(MEMBERS)
    ]
    adams = [torch.optim.Adam(own, lr=0.1, weight_decay=0.02) for own in alone]
    flat = FlatParameters(named, MEMBERS)
    stacked = StackedAdam(flat, weight_decay=[0.02] * MEMBERS)
    for step in range(6):
        moving = [step % 2 == 0, True, step > 3]
        flat.differentiate(torch.stack([(p**2).sin().sum() for p in named.values()]).sum())
        stacked.step(moving, lr=[0.1] * MEMBERS)
        for own, adam, moves in zip(alone, adams, moving, strict=True):
            adam.zero_grad()
            sum((p**2).sin().sum() for p in own).backward()
            if moves:
                adam.step()
    assert stacked.clocks.tolist() == [[3], [6], [2]]
    for member in range(MEMBERS):
        for together, single in zip(named.values(), alone[member], strict=True):
            torch.testing.assert_close(together[member], single)


def test_a_member_that_does_not_move_keeps_every_bit() -> None:
    named = parameters()
    flat = FlatParameters(named, MEMBERS)
    adam = StackedAdam(flat, weight_decay=[0.0] * MEMBERS)
    before = flat.values.clone()
    flat.gradients.fill_(float("nan"))
    flat.gradients[2] = 1.0
    adam.step([False, False, True], lr=[0.1] * MEMBERS)
    assert torch.equal(flat.values[:2], before[:2])
    assert (adam.first[:2] == 0).all()
    assert (adam.second[:2] == 0).all()
    assert not torch.equal(flat.values[2], before[2])


@pytest.mark.parametrize("wrong", [torch.zeros(4, 5), torch.zeros(MEMBERS, 2, dtype=torch.float64)])
def test_parameters_that_cannot_be_stacked_are_named(wrong) -> None:
    with pytest.raises(PluginError, match=r"'odd'.*members axis"):
        FlatParameters({"odd": nn.Parameter(wrong)}, MEMBERS)
