"""Losses per member: hand-worked numbers, torchmetrics, and empty places that cannot do harm."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.plugin.protocol import Scaler
from harness.training.losses import Decoder, Targets, member_losses

CPU = torch.device("cpu")
LOSSES = ("mape", "mae-log", "mse", "huber")


def targets(
    kappa: torch.Tensor, scalers: list[Scaler], used: torch.Tensor | None = None
) -> Targets:
    pairs = zip(scalers, kappa.double().numpy(), strict=True)
    scaled = [torch.from_numpy(scaler.encode(own)) for scaler, own in pairs]
    return Targets(
        kappa,
        torch.stack(scaled).float(),
        torch.ones_like(kappa, dtype=torch.bool) if used is None else used,
    )


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # κ = 9 and 99 are scaled to 0 and 2; outputs 0.5 and 2 decode to 10^1.25 − 1 and 99
        ("mape", ((10**1.25 - 10) / 9 + 0) / 2),
        ("mae-log", (0.5 + 0) / 2),
        ("mse", (0.25 + 0) / 2),
        ("huber", (0.5 * 0.25 + 0) / 2),
    ],
)
def test_hand_worked_numbers(loss, expected) -> None:
    scalers = [Scaler(offset=1.0, mean=1.0, std=0.5)]
    output = torch.tensor([[0.5, 2.0]])
    found = member_losses(
        [loss], output, targets(torch.tensor([[9.0, 99.0]]), scalers), Decoder.of(scalers, CPU)
    )
    assert found.tolist() == pytest.approx([expected], rel=1e-5)


def test_huber_is_linear_beyond_one() -> None:
    scalers = [Scaler(0.0, 0.0, 1.0)]
    found = member_losses(
        ["huber"],
        torch.tensor([[3.0]]),
        targets(torch.tensor([[1.0]]), scalers),
        Decoder.of(scalers, CPU),
    )
    assert found.tolist() == [2.5]


def test_mape_is_that_of_torchmetrics_tiny_targets_included() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    scalers = [Scaler(1.0, 0.8, 0.6), Scaler(0.0, 1.5, 0.3)]
    decoder = Decoder.of(scalers, CPU)
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(2, 50, generator=generator)
    kappa = torch.exp(torch.randn(2, 50, generator=generator) * 3)
    kappa[:, 0] = 1e-9
    found = member_losses(["mape"] * 2, output, targets(kappa, scalers), decoder)
    for member in range(2):
        expected = torchmetrics.functional.mean_absolute_percentage_error(
            decoder.decode(output)[member], kappa[member]
        )
        torch.testing.assert_close(found[member], expected)


def test_decoding_is_the_scalers() -> None:
    scaler = Scaler(1.0, 0.8, 0.6)
    scaled = np.linspace(-2, 4, 20)
    found = Decoder.of([scaler], CPU).decode(torch.tensor(scaled[None], dtype=torch.float32))
    np.testing.assert_allclose(found[0].numpy(), scaler.decode(scaled), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@given(
    rubbish=st.lists(
        st.sampled_from([math.nan, math.inf, -math.inf, 1e30, 0.0]), min_size=4, max_size=4
    ),
    taken=st.lists(st.booleans(), min_size=4, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_empty_places_give_nothing_and_take_no_gradient(loss, rubbish, taken) -> None:
    scalers = [Scaler(1.0, 1.0, 0.5)]
    decoder = Decoder.of(scalers, CPU)
    used = torch.tensor([taken])
    clean = torch.tensor([[0.3, -0.2, 1.1, 0.0]])
    kappa = torch.tensor([[3.0, 8.0, 20.0, 150.0]])
    spoiled = torch.where(used, clean, torch.tensor([rubbish])).requires_grad_()
    known = targets(kappa, scalers)
    empty = torch.tensor(rubbish)
    with_rubbish = Targets(
        torch.where(used, kappa, empty), torch.where(used, known.scaled, empty), used
    )
    found = member_losses([loss], spoiled, with_rubbish, decoder)
    found.sum().backward()
    if any(taken):
        few = member_losses([loss], clean[used][None], targets(kappa[used][None], scalers), decoder)
        torch.testing.assert_close(found, few)
    else:
        assert found.tolist() == [0.0]
    assert spoiled.grad is not None
    assert torch.isfinite(spoiled.grad).all()
    assert (spoiled.grad[~used] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_member_that_is_not_finite_spoils_no_other(loss) -> None:
    scalers = [Scaler(1.0, 1.0, 0.5)] * 2
    decoder = Decoder.of(scalers, CPU)
    kappa = torch.tensor([[3.0, 8.0], [20.0, 150.0]])
    output = torch.tensor([[math.nan, 1.0], [0.5, 1.0]], requires_grad=True)
    found = member_losses([loss] * 2, output, targets(kappa, scalers), decoder)
    found.sum().backward()
    assert math.isnan(found[0].item())
    assert math.isfinite(found[1].item())
    assert output.grad is not None
    assert torch.isfinite(output.grad[1]).all()
