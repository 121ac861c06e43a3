"""Groups of parameters: their own learning rate, a late start, a pull to where they came from."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from harness.errors import BenchmarkError, PluginError
from harness.planning.trainable import find_trainable, lies_under
from harness.plugin.transfer import ParameterGroup
from harness.training.flat_parameters import FlatParameters, Segment, StackedAdam

MEMBERS = 3


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(MEMBERS, *shape, generator=generator))

        self.backbone = nn.ParameterDict({"low": draw(4, 3), "high": draw(5)})
        self.head = nn.ParameterDict({"last": draw(2)})


def adam(model: Model, groups: Sequence[ParameterGroup], weight_decay: float = 0.0):
    trainable = find_trainable(model, (), groups)
    flat = FlatParameters({n: p for t in trainable for n, p in t.parameters.items()}, MEMBERS)
    segments = [Segment(flat.columns(t.parameters), [t.group] * MEMBERS) for t in trainable]
    return flat, StackedAdam(flat, [weight_decay] * MEMBERS, segments)


def loss(model: nn.Module) -> Tensor:
    terms = [(p.sin() * (k + 1)).sum() for k, p in enumerate(model.parameters())]
    return torch.stack(terms).sum()


LOW, HIGH = ("backbone.low",), ("backbone.high",)


def test_a_group_moves_as_under_torchs_adam_at_its_own_rate() -> None:
    model, twin = Model(), Model()
    groups = [ParameterGroup(LOW, lr_factor=0.1), ParameterGroup(HIGH, lr_factor=3.0)]
    flat, ours = adam(model, groups, weight_decay=0.03)
    rates = {"backbone.low": 0.1, "backbone.high": 3.0, "head.last": 1.0}
    theirs = torch.optim.Adam(
        [{"params": [p], "lr": 0.02 * rates[n]} for n, p in twin.named_parameters()],
        weight_decay=0.03,
    )
    for _ in range(5):
        flat.differentiate(loss(model))
        ours.step([True] * MEMBERS, [0.02] * MEMBERS)
        theirs.zero_grad()
        loss(twin).backward()
        theirs.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_group_sleeps_for_its_share_of_the_epochs_and_wakes_with_a_fresh_clock() -> None:
    model = Model()
    flat, ours = adam(model, [ParameterGroup(LOW, asleep_for=0.5)])
    before = model.backbone["low"].detach().clone()
    for epoch in range(4):
        flat.differentiate(loss(model))
        ours.rest([epoch / 4] * MEMBERS)
        ours.step([True] * MEMBERS, [0.02] * MEMBERS, [epoch / 4] * MEMBERS)
        assert torch.equal(model.backbone["low"], before) == (epoch < 2)
    assert ours.clocks.tolist() == [[4, 2]] * MEMBERS


def test_sleeping_parameters_do_not_count_in_the_norm_of_the_gradient() -> None:
    model = Model()
    flat, ours = adam(model, [ParameterGroup(LOW, asleep_for=0.5)])
    flat.differentiate(loss(model))
    ours.rest([0.25] * MEMBERS)
    named = list(model.named_parameters())
    awake = torch.cat([p.cos() * (k + 1) for k, (n, p) in enumerate(named) if n not in LOW], 1)
    torch.testing.assert_close(flat.gradients.norm(dim=1), awake.norm(dim=1))


def test_the_pull_is_the_gradient_of_the_l2_sp_penalty() -> None:
    model, twin = Model(), Model()
    flat, ours = adam(model, [ParameterGroup(("backbone",), pull=0.7)])
    start = [p.detach().clone() for p in twin.parameters()]
    theirs = torch.optim.Adam(twin.parameters(), lr=0.05)
    for _ in range(6):
        flat.differentiate(loss(model))
        ours.step([True] * MEMBERS, [0.05] * MEMBERS)
        theirs.zero_grad()
        pulled = zip(list(twin.parameters())[:2], start[:2], strict=True)
        (loss(twin) + sum(0.7 / 2 * (p - p0).square().sum() for p, p0 in pulled)).backward()
        theirs.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_members_that_do_not_move_are_left_alone_by_every_group() -> None:
    model = Model()
    flat, ours = adam(model, [ParameterGroup(LOW, lr_factor=0.5, pull=0.2)])
    before = flat.values.clone()
    flat.differentiate(loss(model))
    ours.step([True, False, True], [0.02] * MEMBERS)
    assert torch.equal(flat.values[1], before[1])
    assert (flat.values[[0, 2]] != before[[0, 2]]).any(dim=1).all()
    assert ours.clocks.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_parameters_in_no_group_come_first_and_every_group_is_one_run_of_columns() -> None:
    model = Model()
    trainable = find_trainable(model, (), [ParameterGroup(HIGH), ParameterGroup(LOW, 0.5)])
    names = [list(part.parameters) for part in trainable]
    assert names == [["head.last"], ["backbone.high"], ["backbone.low"]]


def test_a_parameter_in_two_groups_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"'backbone\.low' is in two groups"):
        find_trainable(Model(), (), [ParameterGroup(("backbone",)), ParameterGroup(LOW, 0.5)])


def test_a_group_that_matches_nothing_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BenchmarkError, match=r"'backbon' matches no.*Did you mean 'backbone'"):
        find_trainable(Model(), (), [ParameterGroup(("backbon",))])


@pytest.mark.parametrize(
    "wrong", [{"lr_factor": 0.0}, {"asleep_for": 1.0}, {"asleep_for": -0.1}, {"pull": -1.0}]
)
def test_settings_of_a_group_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(PluginError, match=r"expected lr_factor > 0.*belong in `freeze`"):
        ParameterGroup(("backbone",), **wrong)


def test_a_prefix_names_whole_parts_of_a_name() -> None:
    assert lies_under("head.layers.1.weight", ["backbone", "head.layers.1"])
    assert lies_under("head", ["head"])
    assert not lies_under("head.layers.10.weight", ["head.layers.1"])
    assert not lies_under("head.layers", ["head.layers.1"])
    assert not lies_under("head", [])
