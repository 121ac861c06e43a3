"""Promises of stacks: members that do not know of each other, and other people's models as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.errors import PluginError
from harness.nn.stack import Stacked, StackedEmbedding, StackedLinear, ragged_linear
from harness.plugin.arrays import Arrays
from harness.plugin.crystal import SYMBOLS, Crystal

CPU = torch.device("cpu")
SIZES = [3, 0, 5]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


# --- layers -----------------------------------------------------------------------------------


def test_every_parameter_begins_with_the_members_axis() -> None:
    linear, table = (
        StackedLinear(generators(1, 2, 3), 4, 5),
        StackedEmbedding(generators(1, 2), 6, 7),
    )
    assert {name: tuple(p.shape) for name, p in linear.named_parameters()} == {
        "weight": (3, 4, 5),
        "bias": (3, 1, 5),
    }
    assert table.weight.shape == (2, 6, 7)


@pytest.mark.parametrize(
    "make", [lambda g: StackedLinear(g, 4, 5), lambda g: StackedEmbedding(g, 4, 5)]
)
def test_a_member_depends_on_its_generator_alone(
    make: Callable[[Sequence[torch.Generator]], nn.Module],
) -> None:
    stack, alone = make(generators(7, 8, 9)), make(generators(8))
    for parameter, own in zip(stack.parameters(), alone.parameters(), strict=True):
        assert torch.equal(parameter[1], own[0])
        assert not torch.equal(parameter[0], parameter[1])


def test_initial_values_are_those_of_torch_linear() -> None:
    linear = StackedLinear(generators(*range(50)), 16, 32)
    for parameter in linear.parameters():
        assert parameter.abs().max() <= 0.25  # 1/√16
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.03)  # uniform
        assert parameter.mean().item() == pytest.approx(0, abs=0.01)


def test_dense_and_ragged_rows_give_what_torch_gives_for_each_member() -> None:
    linear = StackedLinear(generators(1, 2, 3), 4, 5)
    assert linear.bias is not None
    rows = torch.randn(sum(SIZES), 4, generator=torch.Generator().manual_seed(0))
    expected = [
        nn.functional.linear(own, weight.t(), bias[0])
        for own, weight, bias in zip(rows.split(SIZES), linear.weight, linear.bias, strict=True)
    ]
    torch.testing.assert_close(linear(rows, SIZES), torch.cat(expected))
    torch.testing.assert_close(linear(rows[:3].expand(3, 3, 4))[0], expected[0])


@pytest.mark.parametrize("bias", [True, False])
def test_the_gradient_of_the_ragged_layer_is_right(bias: bool) -> None:
    linear = StackedLinear(generators(1, 2, 3), 4, 5, bias=bias).double()
    rows = torch.randn(sum(SIZES), 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, *parameters: ragged_linear(x, parameters[0], (*parameters, None)[1], SIZES),
        (rows, *linear.parameters()),
    )


def test_the_embedding_looks_up_each_members_own_table() -> None:
    table = StackedEmbedding(generators(1, 2), 6, 3)
    index = torch.tensor([[5, 0, 0], [0, 2, 5]])
    found = table(index)
    assert torch.equal(found[0], table.weight[0][index[0]])
    assert torch.equal(found[1], table.weight[1][index[1]])


# --- an ordinary PyTorch model as a backbone -----------------------------------------------------


class Composition(nn.Module):
    """What an outsider would write: knows nothing of members."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.elements = nn.EmbeddingBag(len(SYMBOLS), 8, mode="mean")
        self.layers = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Tanh())
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        embedding: Tensor = self.layers(self.elements(batch["numbers"], batch["starts"]))
        return embedding * self.scale


def collate(encodings: Sequence[Arrays]) -> dict[str, Tensor]:
    counts = [len(encoding["numbers"]) for encoding in encodings]
    return {
        "numbers": torch.from_numpy(np.concatenate([e["numbers"] for e in encodings])),
        "starts": torch.tensor([0, *np.cumsum(counts)[:-1]]),
    }


def stacked(factory: Callable[[], nn.Module], width: int = 6) -> Stacked:
    return Stacked(
        factory,
        encode=lambda c: {"numbers": np.array([SYMBOLS.index(s) for s in c.species])},
        collate=collate,
        width=width,
        elements=SYMBOLS,
        encoding="composition-1",
    )


CRYSTALS = [
    Crystal(np.eye(3) * 5, tuple(species), np.zeros((len(species), 3)))
    for species in (["Na", "Cl"], ["Si"], ["Sr", "Ti", "O", "O", "O"], ["Mg", "O"])
]
ROWS = np.array([[0, 2, -1], [-1, -1, -1], [3, 0, 1]])


def test_an_ordinary_model_becomes_a_backbone() -> None:
    backbone = stacked(Composition)
    pool = backbone.pool([backbone.encode(c) for c in CRYSTALS], CPU)
    module = backbone.build(generators(1, 2, 3))
    assert len(pool) == 4
    assert all(parameter.shape[0] == 3 for parameter in module.parameters())
    embedding = module(pool.batch(ROWS))
    assert embedding.shape == (3, 3, 6)
    assert embedding.isfinite().all()
    assert (embedding[1] == 0).all()


def test_a_member_of_an_ordinary_model_equals_the_model_alone() -> None:
    backbone = stacked(Composition)
    pool = backbone.pool([backbone.encode(c) for c in CRYSTALS], CPU)
    stack, alone = backbone.build(generators(1, 2, 3)), backbone.build(generators(3))
    ours, own = stack(pool.batch(ROWS))[2], alone(pool.batch(ROWS[2:]))[0]
    assert torch.equal(ours, own)  # the same calls on the same numbers
    stack(pool.batch(ROWS)).square().sum().backward()
    alone(pool.batch(ROWS[2:])).square().sum().backward()
    for (name, parameter), other in zip(stack.named_parameters(), alone.parameters(), strict=True):
        assert parameter.grad is not None and other.grad is not None, name
        assert torch.equal(parameter.grad[2], other.grad[0]), name
        assert (parameter.grad[1] == 0).all(), name


def test_parameters_may_be_moved_into_another_storage() -> None:
    backbone = stacked(Composition)
    pool = backbone.pool([backbone.encode(c) for c in CRYSTALS], CPU)
    module = backbone.build(generators(1, 2, 3))
    before = module(pool.batch(ROWS))
    flat = torch.cat([p.detach().flatten(1) for p in module.parameters()], 1)
    start = 0
    for parameter in module.parameters():
        width = parameter[0].numel()
        parameter.data = flat[:, start : start + width].view(parameter.shape)
        start += width
    assert torch.equal(module(pool.batch(ROWS)), before)
    flat.zero_()
    assert (module(pool.batch(ROWS)) == 0).all()


class RunningStatistics(Composition):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6))


class RandomBuffer(Composition):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.randn(()))


class Tied(Composition):
    def __init__(self) -> None:
        super().__init__()
        self.again = self.elements


def test_running_statistics_are_refused() -> None:
    backbone = stacked(RunningStatistics)
    pool = backbone.pool([backbone.encode(c) for c in CRYSTALS], CPU)
    module = backbone.build(generators(1, 2))
    with pytest.raises(PluginError, match=r"changed the buffer 'layers\.1\..*track_running_stats"):
        module(pool.batch(ROWS[[0, 2]]))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (RandomBuffer, "buffer 'scale' differs between members"),
        (Tied, "one parameter under two names"),
        (nn.Identity, "no parameters"),
    ],
)
def test_models_that_cannot_be_stacked_are_refused(
    factory: Callable[[], nn.Module], message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        stacked(factory).build(generators(1, 2))


def test_an_embedding_of_another_width_than_declared_is_refused() -> None:
    backbone = stacked(Composition, width=5)
    pool = backbone.pool([backbone.encode(c) for c in CRYSTALS], CPU)
    with pytest.raises(PluginError, match=r"shape \(2, 6\): expected \(2, 5\)"):
        backbone.build(generators(1))(pool.batch(ROWS[:1]))
