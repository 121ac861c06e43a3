"""Low-rank updates: they begin at nothing, leave the rest alone, and keep members apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.apps.testing.modules import CPU, RowPool, SmallHead, changed, copied
from harness.apps.testing.stacked import RMSE_LOG
from harness.errors import BenchmarkError
from harness.nn.stack import Stacked, StackedLinear
from harness.planning.adapted_weights import AdaptedWeight, find_adapted
from harness.planning.member_training import MemberTraining
from harness.planning.training_settings import TrainingSettings
from harness.plugin.protocol import Scaler
from harness.plugin.seeds import derive_seed
from harness.plugin.transfer import Adapter
from harness.training.checkpoint import CheckpointFile
from harness.training.low_rank_updates import LowRankUpdates
from harness.training.stack_fit import StackData, StackFit

ROWS, WIDTH = 24, 6
ALL = Adapter(("backbone",), rank=2, alpha=4.0)


def generators(members):
    return [torch.Generator().manual_seed(derive_seed(m, "member")) for m in members]


class Layers(nn.Module):
    """Two stacked layers; the weight of the first is split, as backbones of graphs do it."""

    def __init__(self, members) -> None:
        super().__init__()
        drawn = generators(members)
        self.first = StackedLinear(drawn, WIDTH, 5)
        self.second = StackedLinear(drawn, 5, 4)

    def forward(self, rows):
        left, right = self.first.weight.split(WIDTH // 2, 1)
        a, b = rows.split(WIDTH // 2, 2)
        return self.second(torch.tanh(torch.bmm(a, left) + torch.bmm(b, right) + self.first.bias))


class Plain(nn.Module):
    """An ordinary model, for `Stacked`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 5), nn.Linear(5, 4)

    def forward(self, rows):
        return self.second(torch.tanh(self.first(rows)))


class PlainRows(nn.Module):
    """A `Stacked` model on rows of numbers."""

    def __init__(self, members) -> None:
        super().__init__()
        stacked = Stacked(
            Plain,
            encode=lambda _crystal: {},
            collate=list,
            width=4,
            elements=["H"],
            encoding="none",
        )
        self.inner = stacked.build(generators(members))

    def forward(self, rows):
        return self.inner([(own, np.ones(len(own), dtype=bool)) for own in rows])


KINDS = pytest.mark.parametrize("kind", [Layers, PlainRows])


def model_of(kind, members) -> nn.ModuleDict:
    return nn.ModuleDict({"backbone": kind(members), "head": SmallHead(4, members)})


def fit_of(model, members, adapters=(ALL,), freeze=("backbone",), epochs=4):
    drawn = np.random.default_rng(0)
    rows = torch.from_numpy(drawn.normal(size=(ROWS, WIDTH)).astype(np.float32))
    labels = 10 ** drawn.normal(size=ROWS)
    training = TrainingSettings(epochs=epochs, lr=0.02, loss="mse", schedule="constant")
    data = StackData(
        pool=RowPool(rows),
        train=[np.arange(ROWS - 8)] * len(members),
        validation=[np.arange(ROWS - 8, ROWS)] * len(members),
        labels=np.tile(labels, (len(members), 1)),
        scalers=[Scaler.fit(labels, offset=0.0)] * len(members),
        seeds=[derive_seed(m, "batches") for m in members],
    )
    return StackFit(
        model,
        data,
        [MemberTraining(training)] * len(members),
        selection=RMSE_LOG,
        device=CPU,
        freeze=freeze,
        adapters=adapters,
    )


def finish(fit: StackFit):
    return fit.run(CheckpointFile(None, "", 0.0))


@KINDS
def test_updates_begin_at_nothing(kind) -> None:
    model = model_of(kind, [1, 2])
    before = copied(model)
    LowRankUpdates(find_adapted(model, [ALL]), [1, 2]).write()
    assert changed(before, model) == []


@KINDS
def test_weights_of_linear_layers_move_and_what_is_frozen_stays(kind) -> None:
    model = model_of(kind, [1, 2])
    before = copied(model)
    finish(fit_of(model, [1, 2]))
    moved = [name for name in changed(before, model) if name.startswith("backbone.")]
    assert sorted(moved) == sorted(
        find_adapted(nn.ModuleDict({"backbone": model["backbone"]}), [ALL])
    )
    assert all(parameter.requires_grad for parameter in model.parameters())


@KINDS
def test_what_is_added_has_the_rank_that_is_asked_for(kind) -> None:
    model = model_of(kind, [1, 2])
    before = copied(model)
    finish(fit_of(model, [1, 2]))
    for name in find_adapted(model, [ALL]):
        added = model.state_dict()[name] - before[name]
        assert torch.linalg.matrix_rank(added, rtol=1e-3).max() <= 2


@KINDS
def test_a_member_equals_the_same_run_alone(kind) -> None:
    together = model_of(kind, [1, 2, 3])
    finish(fit_of(together, [1, 2, 3]))
    for place, member in enumerate([1, 2, 3]):
        alone = model_of(kind, [member])
        finish(fit_of(alone, [member]))
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(
                together.state_dict()[name][place], tensor[0], atol=2e-5, rtol=1e-4
            )


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_sums_and_gradients_are_those_of_autograd(members, rows, columns, rank, first) -> None:
    drawn = torch.Generator().manual_seed(rows)
    weight = nn.Parameter(torch.randn(members, rows, columns, generator=drawn))
    own = AdaptedWeight(weight, first, min(rank, rows, columns), 0.5)
    updates = LowRankUpdates({"w": own}, range(members))
    left, right = updates.parameters["w.left"], updates.parameters["w.right"]
    with torch.no_grad():
        for factor in (left, right):
            factor.copy_(torch.randn(factor.shape, generator=drawn))
    updates.write()
    total = updates.start["w"] + 0.5 * left @ right
    torch.testing.assert_close(weight.detach(), total.detach())
    gradient = torch.randn(weight.shape, generator=drawn)
    expected = torch.autograd.grad((total * gradient).sum(), [left, right])
    for given_, wanted in zip(updates.gradients([gradient]), expected, strict=True):
        torch.testing.assert_close(given_, wanted)
    assert updates.gradients([None]) == [None, None]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True))
def test_a_member_draws_its_factors_from_its_own_seed(seeds) -> None:
    def drawn(own):
        weight = nn.Parameter(torch.zeros(len(own), 4, 3))
        return LowRankUpdates({"w": AdaptedWeight(weight, False, 2, 1.0)}, own).parameters

    together = drawn(seeds)
    for place, seed in enumerate(seeds):
        for name, alone in drawn([seed]).items():
            assert torch.equal(together[name][place], alone[0])


@KINDS
def test_a_fit_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(kind, tmp_path) -> None:
    def stop_early(report) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    whole, resumed = model_of(kind, [1, 2]), model_of(kind, [1, 2])
    finish(fit_of(whole, [1, 2]))
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit_of(model_of(kind, [1, 2]), [1, 2]).run(CheckpointFile(path, "same", 0.0), stop_early)
    assert path.exists()
    fit_of(resumed, [1, 2]).run(CheckpointFile(path, "same", 0.0))
    assert changed(copied(whole), resumed) == []


def test_a_smaller_stack_goes_on_as_the_larger_one_would_have() -> None:
    model, smaller = model_of(Layers, [1, 2, 3]), model_of(Layers, [8])
    fit = fit_of(model, [1, 2, 3])
    fit.train(until=2)
    finish(fit.of_members([1], smaller))
    finish(fit)
    for name, tensor in smaller.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name][1], tensor[0], atol=2e-5, rtol=1e-4)


def test_parameters_that_are_trained_are_counted() -> None:
    head = sum(p[0].numel() for p in model_of(Layers, [1])["head"].parameters())
    factors = 2 * (WIDTH + 5) + 2 * (5 + 4)
    assert fit_of(model_of(Layers, [1]), [1]).trained_parameters == head + factors
    assert fit_of(model_of(Layers, [1]), [1], adapters=()).trained_parameters == head


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ([Adapter(("backbone.frist",), 1, 1.0)], "matches no trainable weight of a linear layer"),
        ([Adapter(("backbone.first.bias",), 1, 1.0)], "matches no trainable weight"),
        ([Adapter(("backbone",), 6, 1.0)], "larger than every matrix"),
        ([ALL, Adapter(("backbone.first",), 1, 1.0)], "two adapters"),
    ],
)
def test_adapters_that_cannot_be_are_refused(adapters, message) -> None:
    with pytest.raises(BenchmarkError, match=message):
        find_adapted(model_of(Layers, [1]), adapters)


def test_smaller_matrices_have_updates_of_their_own_rank() -> None:
    adapted = find_adapted(model_of(Layers, [1]), [Adapter(("backbone",), 5, 10.0)])
    assert {name: (own.rank, own.scale) for name, own in adapted.items()} == {
        "backbone.first.weight": (5, 2.0),
        "backbone.second.weight": (4, 2.0),
    }
