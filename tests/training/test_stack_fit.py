"""The stacked trainer: members that do not know of each other, and a fit that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.errors import BenchmarkError, DataError, PluginError
from harness.nn.stack import StackedLinear
from harness.planning.member_training import MemberTraining
from harness.planning.training_settings import TrainingSettings
from harness.plugin.protocol import Scaler
from harness.plugin.seeds import derive_seed
from harness.plugin.transfer import ParameterGroup
from harness.registry.property_metrics import PropertyMetric
from harness.training.checkpoint import CheckpointFile
from harness.training.stack_fit import (
    Alongside,
    EpochReport,
    FitResult,
    StackData,
    StackFit,
    TaskData,
    fit,
    predict,
    resolve_device,
)
from harness.training.stop_signal import StopSignal
from harness_properties import KAPPA

CPU = torch.device("cpu")
CRYSTALS = 60


class Features:
    """A pool of feature vectors; `batches` remembers which rows were asked for."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self.batches: list[np.ndarray] = []
        self.before_batch: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.features)

    def batch(self, rows: np.ndarray) -> Tensor:
        self.before_batch()
        self.batches.append(rows)
        taken = torch.from_numpy(rows >= 0)
        return torch.where(taken[..., None], self.features[rows.clip(min=0)], 0.0)


class Backbone(nn.Module):
    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.first = StackedLinear(generators, 5, 7)
        self.second = StackedLinear(generators, 7, 6)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(batch))))


class Head(nn.Module):
    def __init__(self, generators: Sequence[torch.Generator], width: int) -> None:
        super().__init__()
        self.hidden = StackedLinear(generators, 6, width)
        self.last = StackedLinear(generators, width, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(embeddings))).squeeze(-1)


def modules(members: Sequence[int], width: int = 20) -> tuple[Backbone, Head]:
    generators = [torch.Generator().manual_seed(100 + member) for member in members]
    return Backbone(generators), Head(generators, width)


@dataclass(frozen=True)
class FeatureData(StackData):
    pool: Features


def stack_data(members: Sequence[int]) -> FeatureData:
    """Data of the named members: member m has 40 − 5·m training rows."""
    features = torch.randn(CRYSTALS, 5, generator=torch.Generator().manual_seed(1))
    kappa = 10 ** (1 + features[:, :2].sum(dim=1).double().numpy() / 2)
    orders = {m: np.random.default_rng(m).permutation(CRYSTALS) for m in members}
    train = [orders[m][: 40 - 5 * m] for m in members]
    return FeatureData(
        pool=Features(features),
        train=train,
        validation=[orders[m][40 : 55 + m] for m in members],
        labels=np.tile(kappa, (len(members), 1)),
        scalers=[Scaler.fit(kappa[rows], 1.0) for rows in train],
        seeds=[derive_seed(7, m) for m in members],
    )


def mape(targets: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(np.abs(predictions - targets) / targets))


def constant(targets: np.ndarray, predictions: np.ndarray) -> float:
    return 1.0


def settings_of(**given: Any) -> TrainingSettings:
    return TrainingSettings(**{"loss": "mape", **given})


def chosen_by(function: Any) -> PropertyMetric:
    return PropertyMetric("chosen", "", "", True, function, property=KAPPA)


LOWEST_MAPE = PropertyMetric("mape", "MAPE", "", False, mape, property=KAPPA)
SHORT = settings_of(epochs=6, lr=1e-2)


def run(
    backbone: nn.Module,
    head: nn.Module,
    data: StackData,
    settings: TrainingSettings = SHORT,
    selection: PropertyMetric = LOWEST_MAPE,
    groups: Sequence[ParameterGroup] = (),
    alongside: Sequence[Alongside] = (),
    weight: float = 1.0,
    **options,
) -> FitResult:
    member_training = MemberTraining(settings, tuple(groups), (weight,) * len(alongside))
    options |= {"selection": selection, "device": CPU, "alongside": alongside}
    return fit(backbone, head, data, member_training, **options)


def weights(*stacks: nn.Module) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": tensor.clone()
        for number, stack in enumerate(stacks)
        for name, tensor in stack.state_dict().items()
    }


def member_of(state: dict[str, Tensor], member: int) -> dict[str, Tensor]:
    return {name: tensor[member] for name, tensor in state.items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- members do not know of each other -----------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("loss", ["mape", "mae-log", "mse", "huber"])
def test_a_member_of_a_stack_equals_the_same_run_alone(loss, clip_norm) -> None:
    # Rows, updates and clocks are the same; what may differ is the order of the sums inside a
    # batched matrix product: MKL takes another path where the batch is of one matrix (seen for
    # n × 1 products, and with two threads). A relative 1e-5 allows for 30 updates of that; one row
    # or moment of a neighbour shifts weights by 1e-2.
    settings = SHORT.model_copy(update={"loss": loss, "clip_norm": clip_norm})
    together = modules([0, 1, 2])
    result = run(*together, stack_data([0, 1, 2]), settings)
    for member in range(3):
        alone = modules([member])
        single = run(*alone, stack_data([member]), settings)
        assert single.best_epoch == (result.best_epoch[member],)
        np.testing.assert_allclose(
            np.array(single.history["train_loss"])[:, 0],
            np.array(result.history["train_loss"])[:, member],
            rtol=1e-5,
        )
        state = weights(*together)
        for name, tensor in weights(*alone).items():
            torch.testing.assert_close(state[name][member], tensor[0], rtol=1e-5, atol=1e-6)


def test_neighbours_change_not_one_bit_of_a_member() -> None:
    # Member 2 has the fewest rows: beside member 0 it waits for two steps in every epoch.
    stacks = [modules(members) for members in ([2, 2, 2], [2, 0, 1])]
    results = [
        run(*stack, stack_data(members))
        for stack, members in zip(stacks, ([2, 2, 2], [2, 0, 1]), strict=True)
    ]
    one, other = (member_of(weights(*stack), 0) for stack in stacks)
    assert equal(one, other)
    first, second = (np.array(result.history["train_loss"])[:, 0] for result in results)
    assert np.array_equal(first, second)


def test_a_member_is_what_plain_pytorch_makes_of_it() -> None:
    settings = settings_of(epochs=4, lr=1e-2, weight_decay=1e-3, cosine_period_epochs=10)
    stack = modules([0, 1])
    data = stack_data([0, 1])
    plain = _plain_model(*stack, member=1)
    expected = _plain_fit(plain, data, 1, settings)
    # `constant` never improves on epoch 1, so each epoch count asks for that epoch's weights
    run(*stack, data, settings, chosen_by(_growing()))
    found = predict(*stack, data.pool, data.validation, data.scalers, device=CPU)[1]
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def _growing() -> Callable[[np.ndarray, np.ndarray], float]:
    """A metric under which every epoch is better than the one before."""
    calls = iter(range(10**6))
    return lambda targets, predictions: float(next(calls))


def _plain_model(backbone: Backbone, head: Head, member: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for stacked, activation in (
        (backbone.first, nn.Tanh()),
        (backbone.second, nn.Tanh()),
        (head.hidden, nn.ReLU()),
        (head.last, nn.Identity()),
    ):
        linear = nn.Linear(*stacked.weight.shape[1:])
        linear.weight.data = stacked.weight[member].detach().T.clone()
        linear.bias.data = stacked.bias[member, 0].detach().clone()
        layers += [linear, activation]
    return nn.Sequential(*layers)


def _plain_fit(
    model: nn.Sequential, data: FeatureData, member: int, settings: TrainingSettings
) -> np.ndarray:
    scaler, features = data.scalers[member], data.pool.features
    adam = torch.optim.Adam(model.parameters(), weight_decay=settings.weight_decay)
    for epoch in range(settings.epochs):
        adam.param_groups[0]["lr"] = settings.lr_at(epoch)
        generator = np.random.default_rng(derive_seed(data.seeds[member], "shuffle", epoch))
        order = generator.permutation(data.train[member])
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            kappa = torch.tensor(data.labels[member, rows], dtype=torch.float32)
            decoded = 10 ** (model(features[rows])[:, 0] * scaler.std + scaler.mean) - scaler.offset
            adam.zero_grad()
            ((decoded - kappa).abs() / kappa).mean().backward()
            adam.step()
    rows = data.validation[member]
    return scaler.decode(model(features[rows])[:, 0].detach().numpy())


def test_any_module_that_wants_to_know_is_told_of_every_epoch() -> None:
    class Listener(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[int] = []

        def begin_epoch(self, epoch: int) -> None:
            self.told.append(epoch)

    backbone, head = modules([0])
    head.listener = Listener()
    run(backbone, head, stack_data([0]), replace_epochs(3))
    assert head.listener.told == [0, 1, 2]


def test_every_member_sees_each_of_its_rows_once_per_epoch() -> None:
    data = stack_data([0, 1, 2])
    run(*modules([0, 1, 2]), data, SHORT.model_copy(update={"epochs": 1}))
    training = data.pool.batches[:5]  # 40 rows at most, 8 at a time
    for member in range(3):
        seen = np.concatenate([rows[member] for rows in training])
        assert sorted(seen[seen >= 0]) == sorted(data.train[member])


def test_epochs_differ_in_their_order_and_repeats_do_not() -> None:
    data, again = stack_data([0]), stack_data([0])
    run(*modules([0]), data)
    run(*modules([0]), again)
    first, second = data.pool.batches[0], data.pool.batches[6]
    assert not np.array_equal(first, second)
    assert all(map(np.array_equal, data.pool.batches, again.pool.batches))


def test_the_same_fit_twice_is_the_same_to_the_last_bit() -> None:
    one, two = modules([0, 1, 2]), modules([0, 1, 2])
    first, second = run(*one, stack_data([0, 1, 2])), run(*two, stack_data([0, 1, 2]))
    assert equal(weights(*one), weights(*two))
    assert first.history == second.history


# --- numbers that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize("label", [np.inf, np.nan])
def test_a_member_that_is_not_finite_harms_no_neighbour_and_is_counted(label: float) -> None:
    healthy, data = modules([0, 1, 2]), stack_data([0, 1, 2])
    run(*healthy, data)
    spoiled, spoiled_data = modules([0, 1, 2]), stack_data([0, 1, 2])
    spoiled_data.labels[1, data.train[1][3]] = label
    result = run(*spoiled, spoiled_data)
    assert result.skipped == (0, SHORT.epochs, 0)  # the row is in one batch per epoch
    for member in (0, 2):
        assert equal(member_of(weights(*spoiled), member), member_of(weights(*healthy), member))
    assert np.isfinite(np.array(result.history["train_loss"])).all()
    assert all(torch.isfinite(tensor).all() for tensor in weights(*spoiled).values())
    assert result.best_epoch[1] > 0


def test_a_gradient_too_long_for_adam_is_skipped_though_its_loss_is_finite() -> None:
    data = stack_data([0, 1])
    data.scalers[1] = Scaler(0.0, 28.0, 0.5)  # κ̂ near 1e28, squared gradients overflow
    before = modules([0, 1])
    initial = member_of(weights(*before), 1)
    result = run(*before, data)
    assert result.skipped == (0, SHORT.epochs * 5)
    assert equal(member_of(weights(*before), 1), initial)


def test_predictions_that_are_not_finite_are_never_selected() -> None:
    data = stack_data([0, 1])
    data.scalers[1] = Scaler(0.0, 400.0, 1.0)  # κ̂ = 10^400
    stack = modules([0, 1])
    initial = weights(*stack)
    result = run(*stack, data, selection=chosen_by(constant))
    assert result.best_epoch == (1, 0)
    assert np.isnan(np.array(result.history["score"])[:, 1]).all()
    assert equal(member_of(weights(*stack), 1), member_of(initial, 1))
    assert not equal(member_of(weights(*stack), 0), member_of(initial, 0))


# --- the epoch that is kept ----------------------------------------------------------------------


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_the_weights_kept_are_those_of_the_best_epoch(higher_is_better: bool) -> None:
    metric = PropertyMetric("mape", "", "", higher_is_better, mape, property=KAPPA)
    stack, data = modules([0, 1, 2]), stack_data([0, 1, 2])
    result = run(*stack, data, settings_of(epochs=15, lr=0.05), metric)
    scores = np.array(result.history["score"])
    best = scores.argmax(axis=0) if higher_is_better else scores.argmin(axis=0)
    assert result.best_epoch == tuple(best + 1)
    assert min(result.best_epoch) < 15  # else nothing had to be restored
    predictions = predict(*stack, data.pool, data.validation, data.scalers, device=CPU)
    for member, prediction in enumerate(predictions):
        labels = data.labels[member, data.validation[member]]
        assert mape(labels, prediction) == scores[best[member], member]


def test_a_member_out_of_patience_stops_and_its_neighbours_go_on() -> None:
    data = stack_data([0, 1])
    data.scalers[1] = Scaler(0.0, 400.0, 1.0)  # never has a score
    settings = settings_of(epochs=9, patience=3)
    result = run(
        *modules([0, 1]),
        data,
        settings,
        chosen_by(_growing()),
    )
    assert result.best_epoch == (9, 0)
    assert result.member_epochs == 9 + 3
    assert np.isnan(np.array(result.history["train_loss"])[3:, 1]).all()


def test_a_fit_ends_when_all_members_are_out_of_patience() -> None:
    settings = settings_of(epochs=50, patience=4)
    flat = PropertyMetric("constant", "", "", False, constant, property=KAPPA)
    result = run(*modules([0, 1]), stack_data([0, 1]), settings, flat)
    assert result.best_epoch == (1, 1)
    assert len(result.history["score"]) == 5


def test_reports_say_what_the_history_says() -> None:
    reports = []
    result = run(*modules([0, 1]), stack_data([0, 1]), on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [list(report.score) for report in reports] == result.history["score"]
    assert result.member_epochs == 12


# --- what is trained -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freeze", "still"),
    [
        ((), ()),
        (("backbone",), ("0.",)),
        (("head",), ("1.",)),
        (("backbone.first", "head.last"), ("0.first.", "1.last.")),
    ],
)
def test_frozen_parameters_stay_and_all_others_move(freeze, still) -> None:
    stack = modules([0, 1])
    before = weights(*stack)
    run(*stack, stack_data([0, 1]), freeze=freeze)
    for name, tensor in weights(*stack).items():
        for member in range(2):
            stays = torch.equal(tensor[member], before[name][member])
            assert stays == name.startswith(still or "none"), name
    assert all(p.requires_grad for part in stack for p in part.parameters())


def test_no_gradient_is_computed_for_frozen_parameters() -> None:
    backbone, head = modules([0, 1])
    seen = []

    def look(report: EpochReport) -> None:
        seen.append([p.requires_grad for part in (backbone, head) for p in part.parameters()])

    run(backbone, head, stack_data([0, 1]), freeze=["backbone"], on_epoch=look)
    assert seen == [[False] * 4 + [True] * 4] * SHORT.epochs


def test_a_group_asleep_for_two_thirds_moves_in_the_last_third_only() -> None:
    stack, seen = modules([0, 1]), []

    def look(report: EpochReport) -> None:
        seen.append(stack[0].first.weight.detach().clone())

    late = ParameterGroup(("backbone.first",), asleep_for=2 / 3)
    before = stack[0].first.weight.detach().clone()
    run(*stack, stack_data([0, 1]), groups=[late], on_epoch=look)
    assert [torch.equal(values, before) for values in seen] == [True] * 4 + [False] * 2


def test_a_strong_pull_keeps_parameters_near_where_they_started() -> None:
    def moved(*groups: ParameterGroup) -> float:
        stack = modules([0, 1])
        before = stack[0].first.weight.detach().clone()
        run(*stack, stack_data([0, 1]), replace_epochs(40), groups=groups)
        return float((stack[0].first.weight - before).detach().norm())

    assert moved(ParameterGroup(("backbone",), pull=100.0)) < 0.3 * moved()


def test_a_group_with_the_same_settings_as_the_others_changes_nothing() -> None:
    one, other = modules([0, 1]), modules([0, 1])
    run(*one, stack_data([0, 1]))
    run(*other, stack_data([0, 1]), groups=[ParameterGroup(("backbone",))])
    for a, b in zip(weights(*one).values(), weights(*other).values(), strict=True):
        torch.testing.assert_close(a, b)


# --- datasets fitted alongside --------------------------------------------------------------------


def beside(members: Sequence[int]) -> Alongside:
    """A second dataset of 23 rows whose κ falls where that of the first one rises."""
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(2))
    kappa = 10 ** (1 - features[:, :2].sum(dim=1).double().numpy() / 2)
    generators = [torch.Generator().manual_seed(500 + member) for member in members]
    data = TaskData(
        pool=Features(features),
        train=[np.arange(m, m + 23) for m in members],
        labels=np.tile(kappa, (len(members), 1)),
        scalers=[Scaler.fit(kappa, 1.0) for _ in members],
        seeds=[derive_seed(8, m) for m in members],
    )
    return Alongside(Head(generators, 20), data)


def replace_epochs(epochs: int) -> TrainingSettings:
    return SHORT.model_copy(update={"epochs": epochs, "loss": "mae-log"})


def test_every_step_takes_a_batch_of_each_dataset_pass_after_pass() -> None:
    data, other = stack_data([0, 1]), beside([0, 1])
    run(*modules([0, 1]), data, alongside=[other])
    pool: Any = other.data.pool
    for member, (own, theirs) in enumerate(zip(data.train, other.data.train, strict=True)):
        steps = -(-len(own) // SHORT.batch_size)  # of one epoch
        rows = np.concatenate([batch[member] for batch in pool.batches])
        rows = rows[rows >= 0]
        assert len(rows) == SHORT.epochs * steps * SHORT.batch_size
        for start in range(0, len(rows) - 22, 23):
            assert sorted(rows[start : start + 23]) == theirs.tolist()


def test_members_fitted_alongside_equal_the_same_runs_alone() -> None:
    settings = SHORT.model_copy(update={"loss": "mae-log", "lr": 1e-3})
    together, second = modules([0, 1, 2]), beside([0, 1, 2])
    run(*together, stack_data([0, 1, 2]), settings, alongside=[second])
    for member in range(3):
        alone, own = modules([member]), beside([member])
        run(*alone, stack_data([member]), settings, alongside=[own])
        mine = member_of(weights(*together, second.head), member)
        theirs = member_of(weights(*alone, own.head), 0)
        for name, tensor in theirs.items():
            torch.testing.assert_close(mine[name], tensor, atol=2e-5, rtol=1e-4)


def test_both_datasets_are_learnt_each_by_its_own_head() -> None:
    (backbone, head), second = modules([0, 1], width=40), beside([0, 1])
    data = stack_data([0, 1])
    run(backbone, head, data, replace_epochs(150), alongside=[second])
    for own, task in ((head, data), (second.head, second.data)):
        found = predict(backbone, own, task.pool, task.train, task.scalers, device=CPU)
        for member, prediction in enumerate(found):
            truth = task.labels[member, task.train[member]]
            error = np.abs(np.log10(prediction + 1) - np.log10(truth + 1)).mean()
            assert error < 0.4 * np.log10(truth + 1).std()


def test_a_weight_of_almost_nothing_leaves_the_fit_as_it_is_without_the_other_dataset() -> None:
    alone, beside_other = modules([0, 1]), modules([0, 1])
    run(*alone, stack_data([0, 1]))
    run(*beside_other, stack_data([0, 1]), alongside=[beside([0, 1])], weight=1e-12)
    for a, b in zip(weights(*alone).values(), weights(*beside_other).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_a_fit_alongside_that_is_interrupted_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    def fitted(stop_after: int | None, checkpoint: Path) -> dict[str, Tensor]:
        stack, second = modules([0, 1]), beside([0, 1])
        pulled = ParameterGroup(("backbone.first",), lr_factor=0.5, asleep_for=0.3, pull=0.1)

        def look(report: EpochReport) -> None:
            if report.epoch == stop_after:
                raise KeyboardInterrupt

        run(
            *stack,
            stack_data([0, 1]),
            groups=[pulled],
            alongside=[second],
            checkpoint=checkpoint,
            checkpoint_seconds=0.0,
            on_epoch=look,
        )
        return weights(*stack, second.head)

    with pytest.raises(KeyboardInterrupt):
        fitted(4, tmp_path / "one")
    assert equal(fitted(None, tmp_path / "one"), fitted(None, tmp_path / "other"))


def test_a_prefix_ends_at_a_dot() -> None:
    with pytest.raises(BenchmarkError, match=r"'backbone\.fir' .*Did you mean 'backbone\.first'\?"):
        run(*modules([0]), stack_data([0]), freeze=["backbone.fir"])


def test_freezing_everything_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="leaves no parameter to train"):
        run(*modules([0]), stack_data([0]), freeze=["backbone", "head"])


def test_a_module_without_members_axis_is_an_error() -> None:
    _, head = modules([0, 1])
    with pytest.raises(PluginError, match=r"'backbone\.weight'.*members axis"):
        run(nn.Linear(5, 6), head, stack_data([0, 1]))


@pytest.mark.parametrize("loss", ["mape", "mae-log", "mse", "huber"])
def test_it_can_overfit_eight_samples(loss: Any) -> None:
    data = stack_data([0, 1])
    few = [rows[:8] for rows in data.train]
    settings = settings_of(epochs=250, lr=1e-2, loss=loss, cosine_period_epochs=500)
    eight = replace(data, train=few, validation=few)
    result = run(*modules([0, 1], width=64), eight, settings)
    for member in range(2):
        scores = np.array(result.history["score"])[:, member]
        assert scores.min() < 0.03 < scores[0]


def test_trained_weights_can_be_saved_as_they_are(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    backbone, head = modules([0, 1])
    run(backbone, head, stack_data([0, 1]))
    save_file(dict(head.state_dict()), tmp_path / "head.safetensors")


# --- going on after an interruption --------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process: nothing may rely on catching it."""


def run_until(batches: int, end: type[BaseException], path: Path, **options) -> None:
    """Fits, and ends with an exception when that many batches have been asked for."""
    data = stack_data([0, 1, 2])

    def stop() -> None:
        if len(data.pool.batches) == batches:
            raise end

    data.pool.before_batch = stop
    with pytest.raises(end):
        run(*modules([0, 1, 2]), data, checkpoint=path, **options)


@pytest.mark.parametrize("batches", [0, 3, 6, 8, 17, 23, 35])
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(batches: int, tmp_path: Path) -> None:
    undisturbed = modules([0, 1, 2])
    expected = run(*undisturbed, stack_data([0, 1, 2]))
    path = tmp_path / "checkpoint"
    run_until(batches, Killed, path, checkpoint_seconds=0.0)
    resumed, data = modules([0, 1, 2]), stack_data([0, 1, 2])
    result = run(*resumed, data, checkpoint=path)
    assert equal(weights(*resumed), weights(*undisturbed))
    assert result.history == expected.history
    assert (result.best_epoch, result.member_epochs) == (expected.best_epoch, 18)
    assert len(data.pool.batches) == 6 * (6 - batches // 6)  # 5 steps and 1 validation per epoch


def test_skipped_updates_are_counted_across_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"

    def spoiled() -> FeatureData:
        data = stack_data([0, 1, 2])
        data.labels[2, data.train[2][0]] = np.inf
        return data

    def stop(report: EpochReport) -> None:
        if report.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        run(*modules([0, 1, 2]), spoiled(), checkpoint=path, checkpoint_seconds=0.0, on_epoch=stop)
    result = run(*modules([0, 1, 2]), spoiled(), checkpoint=path)
    assert result.skipped == (0, 0, 6)


def test_a_fit_that_is_told_to_stop_finishes_its_epoch_and_saves_it(tmp_path: Path) -> None:
    path, stop, stopped = tmp_path / "checkpoint", StopSignal(), stack_data([0, 1, 2])

    def ask_in_the_third_epoch() -> None:
        if len(stopped.pool.batches) == 3 * 6 + 2:
            stop.set()

    stopped.pool.before_batch = ask_in_the_third_epoch
    with pytest.raises(KeyboardInterrupt):
        run(*modules([0, 1, 2]), stopped, checkpoint=path, stop=stop)
    undisturbed, resumed, data = modules([0, 1, 2]), modules([0, 1, 2]), stack_data([0, 1, 2])
    run(*undisturbed, stack_data([0, 1, 2]))
    run(*resumed, data, checkpoint=path)
    assert len(data.pool.batches) == 2 * 6
    assert equal(weights(*resumed), weights(*undisturbed))


@pytest.mark.parametrize("other", ["settings", "identity", "rows", "damaged"])
def test_a_checkpoint_of_another_fit_is_ignored_with_a_warning(other: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    settings = SHORT.model_copy(update={"lr": 0.5}) if other == "settings" else SHORT
    run_until(20, Killed, path, checkpoint_seconds=0.0, settings=settings)
    if other == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    data, undisturbed, resumed = stack_data([0, 1, 2]), modules([0, 1, 2]), modules([0, 1, 2])
    if other == "rows":
        data.train[0] = data.train[0][::-1]
    run(*undisturbed, data)
    with pytest.warns(UserWarning, match="Ignoring the checkpoint"):
        run(*resumed, data, checkpoint=path, identity="new" if other == "identity" else "")
    assert equal(weights(*resumed), weights(*undisturbed))


# --- edges ---------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    stack, data = modules([0, 1, 2]), stack_data([0, 1, 2])
    rows = [np.arange(CRYSTALS), np.arange(7), np.arange(0)]
    whole = predict(*stack, data.pool, rows, data.scalers, device=CPU)
    pieces = predict(*stack, data.pool, rows, data.scalers, device=CPU, batch_size=4)
    assert [len(prediction) for prediction in whole] == [60, 7, 0]
    for one, other in zip(whole, pieces, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_training_mode_is_on_for_training_and_off_for_predictions() -> None:
    (backbone, head), data = modules([0, 1]), stack_data([0, 1])
    modes = []
    head.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    run(backbone, head, data, SHORT.model_copy(update={"epochs": 2}))
    assert modes == ([True] * 5 + [False]) * 2


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_member_without_rows_is_an_error(role: str) -> None:
    data = stack_data([0, 1])
    changed: dict[str, Any] = {role: [data.train[0], data.train[1][:0]]}
    with pytest.raises(DataError, match=f"Member 2 of the stack has no {role} row"):
        replace(data, **changed)


def test_parts_that_do_not_fit_together_are_an_error() -> None:
    with pytest.raises(DataError, match="stack of 2 members"):
        replace(stack_data([0, 1]), labels=np.ones((2, 5)))


def test_devices_are_resolved_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == CPU
    with pytest.raises(BenchmarkError, match="Unknown device 'gpu'"):
        resolve_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU
    with pytest.raises(BenchmarkError, match="no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


# --- members that are trained differently ---------------------------------------------------------

PULLED = ("backbone.first",)
UNLIKE = [
    MemberTraining(settings_of(epochs=7, lr=1e-3, loss="mae-log"), (ParameterGroup(PULLED),)),
    MemberTraining(
        settings_of(epochs=4, lr=1e-2, weight_decay=0.1, loss="mape", clip_norm=0.5),
        (ParameterGroup(PULLED, lr_factor=0.2, pull=0.3),),
    ),
    MemberTraining(
        settings_of(epochs=6, lr=3e-3, loss="mse", schedule="constant", patience=2),
        (ParameterGroup(PULLED, asleep_for=0.5),),
    ),
    MemberTraining(
        settings_of(epochs=7, lr=2e-3, loss="huber", cosine_period_epochs=9),
        (ParameterGroup(PULLED, pull=0.1),),
    ),
]


def unlike(members: Sequence[int], beside_other: bool = False) -> tuple[StackFit, nn.ModuleDict]:
    backbone, head = modules(members)
    model = nn.ModuleDict({"backbone": backbone, "head": head})
    member_trainings = [UNLIKE[member] for member in members]
    others = []
    if beside_other:
        other = beside(members)
        model["alongside"] = nn.ModuleList([other.head])
        member_trainings = [
            replace(member_training, alongside=(0.5 * member,))
            for member_training, member in zip(member_trainings, members, strict=True)
        ]
        others = [other.data]
    made = StackFit(
        model,
        stack_data(members),
        member_trainings,
        selection=LOWEST_MAPE,
        device=CPU,
        alongside=others,
    )
    return made, model


def finish(made: StackFit) -> FitResult:
    return made.run(CheckpointFile(None, "", 0.0))


@pytest.mark.parametrize("beside_other", [False, True])
def test_members_with_recipes_of_their_own_equal_the_same_runs_alone(beside_other) -> None:
    together, model = unlike([0, 1, 2, 3], beside_other)
    result = finish(together)
    for member in range(4):
        alone, single = unlike([member], beside_other)
        own = finish(alone)
        assert result.best_epoch[member] == own.best_epoch[0]
        mine = member_of(weights(model), member)
        for name, tensor in member_of(weights(single), 0).items():
            torch.testing.assert_close(mine[name], tensor, atol=2e-5, rtol=1e-4)
    assert result.member_epochs <= sum(
        member_training.training.epochs for member_training in UNLIKE
    )


@pytest.mark.parametrize("beside_other", [False, True])
@pytest.mark.parametrize("kept", [[0], [1, 3], [3, 2]])
def test_members_that_stay_in_a_smaller_stack_do_as_they_would_have(kept, beside_other) -> None:
    whole, model = unlike([0, 1, 2, 3], beside_other)
    expected = finish(whole)
    started, _ = unlike([0, 1, 2, 3], beside_other)
    assert started.train(until=3)
    _, fresh = unlike(kept, beside_other)
    smaller = started.of_members(kept, fresh)
    result = finish(smaller)
    assert result.best_epoch == tuple(expected.best_epoch[member] for member in kept)
    for place, member in enumerate(kept):
        mine = member_of(weights(fresh), place)
        for name, tensor in member_of(weights(model), member).items():
            torch.testing.assert_close(mine[name], tensor, atol=2e-5, rtol=1e-4)


def test_a_fit_that_pauses_ends_as_one_that_does_not() -> None:
    whole, expected = unlike([0, 1])
    finish(whole)
    paused, found = unlike([0, 1])
    assert [paused.train(until=epoch) for epoch in (1, 2, 5, 9)] == [True, True, True, False]
    finish(paused)
    assert equal(weights(found), weights(expected))
