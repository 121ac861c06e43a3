"""Cases of stacked modules, backbones and heads alike: members are independent, and can learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.apps.testing.cases import SettingsCases
from harness.apps.testing.promises import broken, promise, skip
from harness.apps.testing.properties import LOG_PROPERTY
from harness.apps.testing.randomness import global_seed
from harness.plugin.protocol import Scaler
from harness.registry.property_metrics import PropertyMetric

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.plugin.arrays import Floats, Indices
    from harness.plugin.backbone import Pool
    from harness.training.stack_fit import StackData

SEEDS = (11, 12, 13)
"""Of the members of a stack."""

BATCH = 4
"""Rows per member."""

EIGHT_KAPPA = 10.0 ** np.array([0.0, 2.1, 0.9, 0.3, 1.8, 0.6, 1.2, 1.5])
"""Targets in W/(m·K) that follow nothing: eight samples can only be learnt one by one."""

LEARNT_SHARE = 0.3
"""Error after training, as a share of that of the best constant."""

EPOCHS_AT_ONCE = 20


class Specimen(ABC):
    """A backbone or head under test, with rows to run it on.

    Attributes:
        samples: rows in the pool, eight at least, all different.
        tail: shape of the output of one row: `(width,)` or nothing.
        pool: the rows.
    """

    samples: int
    tail: tuple[int, ...]
    pool: Pool

    @abstractmethod
    def build(self, seeds: Sequence[int]) -> nn.Module:
        """Makes a stack, one member per seed."""

    @abstractmethod
    def whole(self, module: nn.Module, seeds: Sequence[int]) -> tuple[nn.Module, nn.Module]:
        """Completes the module to a backbone and a head that can be trained."""

    def graph(self, module: nn.Module, rows: Indices) -> Tensor:
        """Returns the output for `members × batch` rows, in evaluation mode, with its gradients."""
        output: Tensor = module.eval()(self.pool.batch(np.ascontiguousarray(rows)))
        return output

    def output(self, module: nn.Module, rows: Indices) -> Tensor:
        """Returns the output for `members × batch` rows, in evaluation mode."""
        return self.graph(module, rows).detach()

    def rows(self, members: int) -> Indices:
        """Returns other rows for every member, `members × BATCH`."""
        starts = np.arange(members)[:, None] * 2
        return (starts + np.arange(BATCH)) % self.samples

    def all_rows(self, members: int) -> Indices:
        """Returns every row for every member."""
        return np.tile(np.arange(self.samples), (members, 1))


class StackCases(SettingsCases):
    """What stacked modules promise.

    Attributes:
        tolerance: largest difference that counts as rounding, relative to the largest output.
        overfit_epochs: epochs in which eight samples must be learnt.
        overfit_lr: learning rate of Adam meanwhile.
    """

    tolerance = 1e-4
    overfit_epochs = 600
    overfit_lr = 3e-3

    def specimen(self, spec: Any) -> Specimen:
        """Makes what is under test."""
        raise NotImplementedError

    def test_output_has_its_shape(self, spec: Any) -> None:
        """The output has a members and a batch axis, and finite single-precision numbers."""
        import torch

        thing = self.specimen(spec)
        output = thing.output(thing.build(SEEDS), thing.rows(len(SEEDS)))
        wanted = (len(SEEDS), BATCH, *thing.tail)
        promise(
            tuple(output.shape) == wanted and output.dtype == torch.float32,
            f"output of shape {wanted} ({' × '.join(_AXES[: len(wanted)])}), float32",
            f"shape {tuple(output.shape)}, {output.dtype}",
            "see the docstring of the module's `forward` in the contract",
        )
        promise(
            bool(output.isfinite().all()),
            "finite numbers for every sample",
            f"{int((~output.isfinite()).sum())} of {output.numel()} are not",
            "look for divisions by zero, logarithms and overflowing exponentials",
        )

    def test_parameters_have_a_members_axis(self, spec: Any) -> None:
        """Every parameter is single-precision and begins with the members axis."""
        import torch

        module = self.specimen(spec).build(SEEDS)
        for name, parameter in module.named_parameters():
            promise(
                parameter.shape[:1] == (len(SEEDS),) and parameter.dtype == torch.float32,
                f"parameters are float32 and begin with the members axis ({len(SEEDS)})",
                f"{name!r} is {parameter.dtype} of shape {tuple(parameter.shape)}",
                "build with StackedLinear, or wrap the model in Stacked",
            )

    def test_weights_come_from_the_generators(self, spec: Any) -> None:
        """A member's weights depend on its own generator, and on nothing else."""
        import torch

        thing = self.specimen(spec)
        with global_seed(1):
            stack = with_parameters(thing.build(SEEDS))
        with global_seed(2):
            again, alone = thing.build(SEEDS), thing.build(SEEDS[1:2])
        differing = [
            name
            for name, parameter in stack.named_parameters()
            if not torch.equal(parameter, again.get_parameter(name))
            or not torch.equal(parameter[1], alone.get_parameter(name)[0])
        ]
        promise(
            not differing,
            "the same generators give the same weights, in a stack as alone",
            f"{', '.join(differing[:3])} differ",
            "draw each member's weights from its own generator, none from a global one",
        )

    def test_other_seeds_give_other_weights(self, spec: Any) -> None:
        """Members, and stacks of other seeds, begin with other weights."""
        thing = self.specimen(spec)
        stack = with_parameters(thing.build(SEEDS))
        rows = np.tile(thing.rows(1), (len(SEEDS), 1))
        first, second, _ = thing.output(stack, rows)
        promise(
            not first.equal(second),
            "members begin with weights of their own",
            "two members give the same output for the same rows",
            "draw each member's weights from its own generator",
        )

    def test_output_is_the_same_every_time(self, spec: Any) -> None:
        """In evaluation mode the output depends on weights and rows alone."""
        thing = self.specimen(spec)
        module = thing.build(SEEDS)
        with global_seed(1):
            first = thing.output(module, thing.rows(len(SEEDS)))
        with global_seed(2):
            second = thing.output(module, thing.rows(len(SEEDS)))
        promise(
            difference(first, second) <= self.tolerance,
            "the same output for the same rows",
            f"a relative difference of {difference(first, second):.1e}",
            "draw no random numbers in evaluation mode",
        )

    def test_member_in_a_stack_equals_it_alone(self, spec: Any) -> None:
        """A member gives the same output in a stack as alone."""
        thing = self.specimen(spec)
        rows = thing.rows(len(SEEDS))
        stacked = thing.output(thing.build(SEEDS), rows)
        for member, seed in enumerate(SEEDS):
            alone = thing.output(thing.build([seed]), rows[member : member + 1])
            self._same(
                stacked[member : member + 1],
                alone,
                "a member is the same in a stack as alone",
                f"member {member + 1}",
                "keep the members axis apart in every operation (torch.bmm, not torch.mm)",
            )

    def test_rows_of_other_members_change_nothing(self, spec: Any) -> None:
        """A member does not see the rows of the others."""
        thing = self.specimen(spec)
        module = thing.build(SEEDS)
        rows = thing.rows(len(SEEDS))
        others = (rows + 1) % thing.samples
        others[1] = rows[1]
        self._same(
            thing.output(module, rows)[1],
            thing.output(module, others)[1],
            "a member's output depends on its own rows",
            "other rows for its neighbours",
            "look for a mean or a normalisation over the members axis",
        )

    def test_weights_of_other_members_change_nothing(self, spec: Any) -> None:
        """A member does not see the weights of the others, and does see its own."""
        import torch

        thing = self.specimen(spec)
        module = with_parameters(thing.build(SEEDS))
        rows = thing.rows(len(SEEDS))
        before = thing.output(module, rows)
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter[1] += 0.1 * torch.randn(parameter[1].shape, generator=noise)
        after = thing.output(module, rows)
        for neighbour in (0, 2):
            self._same(
                before[neighbour],
                after[neighbour],
                "a member's output depends on its own weights",
                f"member {neighbour + 1}, member 2 having got other weights",
                "index parameters by member in every operation",
            )
        promise(
            difference(before[1], after[1]) > 0,
            "a member's weights decide its output",
            "other weights gave the same output",
            "see that `forward` uses the module's parameters",
        )

    def test_rest_of_the_batch_changes_nothing(self, spec: Any) -> None:
        """A row's output is the same alone as in a batch."""
        thing = self.specimen(spec)
        module = thing.build(SEEDS[:1])
        rows = thing.rows(1)
        together = thing.output(module, rows)
        for place in range(BATCH):
            alone = slice(place, place + 1)
            self._same(
                together[:, alone],
                thing.output(module, rows[:, alone]),
                "a row's output does not depend on the rest of the batch",
                f"row {place + 1} of {BATCH}, then alone",
                "look for a normalisation or a padding that the batch decides",
            )

    def test_gradients_reach_every_parameter(self, spec: Any) -> None:
        """Every trainable parameter has a gradient that is finite and somewhere not zero."""
        import torch

        from harness.apps.testing.modules import trainable

        thing = self.specimen(spec)
        module = with_parameters(thing.build(SEEDS[:2]))
        output = thing.graph(module, thing.all_rows(2))
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        named = trainable(module)
        promise(
            output.requires_grad,
            "the output can be differentiated",
            "it has no gradient",
            "do not detach, and compute with torch throughout",
        )
        gradients = torch.autograd.grad(
            (output * weights).sum(), list(named.values()), allow_unused=True
        )
        for name, gradient in zip(named, gradients, strict=True):
            reached = gradient is not None and bool(
                (gradient.reshape(len(gradient), -1) != 0).any(1).all()
            )
            promise(
                reached,
                f"training moves every trainable parameter ({thing.samples} samples tried)",
                f"the gradient of {name!r} is {'zero' if gradient is not None else 'absent'}",
                "take the parameter out, set requires_grad=False, or see why nothing depends on it",
            )
            promise(
                gradient is not None and bool(gradient.isfinite().all()),
                "gradients are finite",
                f"that of {name!r} is not",
                "look for square roots and norms at zero",
            )

    def test_saved_weights_give_the_same_output(self, spec: Any) -> None:
        """Saved weights, loaded into a fresh stack, give the same output, bit by bit."""
        import safetensors.torch

        thing = self.specimen(spec)
        module = thing.build(SEEDS)
        rows = thing.rows(len(SEEDS))
        expected = thing.output(module, rows)
        state = {name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
        fresh = thing.build([seed + 100 for seed in SEEDS])
        fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(state)))
        promise(
            thing.output(fresh, rows).equal(expected),
            "the weights are all that a stack has to remember",
            "a fresh stack with the saved weights gives another output",
            "make what the output depends on a parameter or a persistent buffer",
        )

    def test_training_overfits_eight_samples(self, spec: Any) -> None:
        """Training on eight samples learns them, far better than any constant could."""
        from harness.apps.testing.modules import CPU
        from harness.planning.member_training import MemberTraining
        from harness.planning.training_settings import TrainingSettings
        from harness.training.stack_fit import fit

        thing = self.specimen(spec)
        module = with_parameters(thing.build(SEEDS[:1]))
        backbone, head = thing.whole(module, SEEDS[:1])
        member_training = MemberTraining(
            TrainingSettings(
                epochs=EPOCHS_AT_ONCE, lr=self.overfit_lr, loss="mse", schedule="constant"
            )
        )
        constant = float(np.log10(EIGHT_KAPPA).std())
        share = float("nan")
        for _ in range(0, self.overfit_epochs, EPOCHS_AT_ONCE):
            result = fit(
                backbone, head, eight(thing), member_training, selection=RMSE_LOG, device=CPU
            )
            scores = [epoch[0] for epoch in result.history["score"]]
            share = float(np.nanmin(scores)) / constant if np.isfinite(scores).any() else share
            if share <= LEARNT_SHARE:
                return
        broken(
            f"eight samples are learnt in {self.overfit_epochs} epochs: an error at most "
            f"{LEARNT_SHARE:g} of that of the best constant",
            f"{share:.2g} of it",
            "see that samples differ in what the model sees and that gradients have sane sizes; "
            "or set `overfit_epochs` and `overfit_lr` of the cases",
        )

    def _same(self, one: Tensor, other: Tensor, promised: str, what: str, remedy: str) -> None:
        found = difference(one, other)
        promise(
            found <= self.tolerance,
            f"{promised}, to {self.tolerance:g} of the largest output",
            f"a difference of {found:.1e} for {what}",
            remedy,
        )


_AXES = ("members", "batch", "width")


def _rmse_log(targets: Floats, predictions: Floats) -> float:
    floored = np.maximum(predictions, 1e-12)
    return float(np.sqrt(np.mean((np.log10(floored) - np.log10(targets)) ** 2)))


RMSE_LOG = PropertyMetric(
    "rmse-log", "RMSE log₁₀ κ", "decades", False, _rmse_log, property=LOG_PROPERTY
)
"""Chooses the epoch; the registered one belongs to a plugin."""


def eight(thing: Specimen) -> StackData:
    """Returns the first eight samples, to train on and to validate with, for one member."""
    from harness.training.stack_fit import StackData

    rows: list[Indices] = [np.arange(len(EIGHT_KAPPA))]
    labels = np.full((1, thing.samples), np.nan)
    labels[0, : len(EIGHT_KAPPA)] = EIGHT_KAPPA
    scaler = Scaler.fit(EIGHT_KAPPA, offset=0.0)
    return StackData(
        pool=thing.pool, train=rows, validation=rows, labels=labels, scalers=[scaler], seeds=[0]
    )


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of two outputs, relative to the largest number in either; NaN if any is.

    Outputs of another shape are infinitely different.
    """
    if one.shape != other.shape:
        return float("inf")
    scale = max(float(one.abs().max()), float(other.abs().max()), 1e-12)
    return float((one - other).abs().max()) / scale


def with_parameters(module: nn.Module) -> nn.Module:
    """Returns the module; skips the case where there is nothing to train.

    Raises:
        unittest.SkipTest: no parameter is trainable.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        skip("there is no parameter to train")
    return module
