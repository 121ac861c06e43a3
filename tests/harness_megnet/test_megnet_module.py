"""Promises of the stacked MEGNet: exact collapsing, independent members, right gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.errors import DataError
from harness.plugin.crystal import Crystal
from harness_megnet.backbone import MegnetBackbone
from harness_megnet.elements import ELEMENTS
from harness_megnet.module import activate
from harness_megnet.pool import GraphPool
from harness_megnet.settings import MegnetSettings
from harness_megnet.sparse import Bags, Matrix, Sets, attend, product

CPU = torch.device("cpu")
BACKBONE = MegnetBackbone(MegnetSettings())
WHOLE = MegnetBackbone(MegnetSettings(collapse=False))


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_crystal(seed: int, sites: int, edge: float = 4.5) -> Crystal:
    rng = np.random.default_rng(seed)
    lattice = np.eye(3) * edge + rng.uniform(-0.5, 0.5, (3, 3))
    return Crystal(lattice, tuple(rng.choice(["Na", "Cl", "O"], sites)), rng.random((sites, 3)))


def rocksalt(a: float = 5.64) -> Crystal:
    half = a / 2
    lattice = np.array([[0, half, half], [half, 0, half], [half, half, 0]])
    return Crystal(lattice, ("Na", "Cl"), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


LONELY = Crystal(np.eye(3) * 9, ("Xe",), np.zeros((1, 3)))
"""No neighbour within the cutoff: a node without edges."""

CRYSTALS = [rocksalt(), LONELY, *(random_crystal(seed, 1 + seed % 4) for seed in range(10))]


def pool_of(crystals: Sequence[Crystal], backbone: MegnetBackbone = BACKBONE) -> GraphPool:
    return backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)


POOL = pool_of(CRYSTALS)
NINE = np.random.default_rng(0).integers(0, len(CRYSTALS), (9, 4))


def gradients(module: nn.Module, loss: Tensor) -> list[Tensor]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, trained, materialize_grads=True))


def assert_close(one: Tensor, other: Tensor) -> None:
    """Equal up to the order of summation, which depends on sizes: 1e-5 of the largest value."""
    scale = max(other.detach().abs().max().item(), 1e-3)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * scale)


# --- members ----------------------------------------------------------------------------------


def test_every_parameter_begins_with_the_members_axis() -> None:
    module = BACKBONE.build(generators(*range(9)))
    assert all(parameter.shape[0] == 9 for parameter in module.parameters())
    # The published network without its last layer, 16 → 1.
    assert sum(p[0].numel() for p in module.parameters()) == 189_521 - 17


def test_a_member_of_nine_starts_as_it_would_alone() -> None:
    stack, alone = BACKBONE.build(generators(*range(9))), BACKBONE.build(generators(5))
    for parameter, own in zip(stack.parameters(), alone.parameters(), strict=True):
        assert torch.equal(parameter[5], own[0])


@pytest.mark.parametrize("member", [0, 5, 8])
def test_a_member_of_nine_equals_the_member_alone(member: int) -> None:
    # Not bit for bit: for one member and for nine the matrix products are blocked differently.
    stack, alone = BACKBONE.build(generators(*range(9))), BACKBONE.build(generators(member))
    ours, own = stack(POOL.batch(NINE)), alone(POOL.batch(NINE[[member]]))
    assert_close(ours[member], own[0])
    pairs = zip(
        gradients(stack, ours.square().sum()), gradients(alone, own.square().sum()), strict=True
    )
    for of_stack, of_one in pairs:
        assert_close(of_stack[member], of_one[0])


def test_a_member_does_not_touch_another() -> None:
    stack = BACKBONE.build(generators(0, 1, 2))
    for gradient in gradients(stack, stack(POOL.batch(NINE[:3]))[1].square().sum()):
        assert (gradient[[0, 2]] == 0).all()


def test_the_same_step_gives_the_same_bits() -> None:
    stack = BACKBONE.build(generators(0, 1, 2))
    once, again = (gradients(stack, stack(POOL.batch(NINE[:3])).square().sum()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


# --- batches ----------------------------------------------------------------------------------


def test_an_embedding_does_not_depend_on_its_company() -> None:
    module = BACKBONE.build(generators(3))
    together = module(POOL.batch(np.arange(len(CRYSTALS))[None]))[0]
    for row in range(len(CRYSTALS)):
        assert_close(together[row], module(POOL.batch(np.array([[row]])))[0, 0])


def test_permuted_rows_give_permuted_embeddings() -> None:
    module = BACKBONE.build(generators(3, 4))
    order = np.random.default_rng(1).permutation(len(CRYSTALS))
    rows = np.stack([np.arange(len(CRYSTALS)), np.arange(len(CRYSTALS))[::-1]])
    assert_close(module(POOL.batch(rows[:, order])), module(POOL.batch(rows))[:, order])


@pytest.mark.parametrize(
    "rows", [[[0, -1, 3, 4], [-1, 5, -1, -1]], [[-1, -1], [2, 2]], [[-1], [-1]], [[1], [-1]]]
)
def test_empty_places_are_finite_and_change_nothing(rows: list[list[int]]) -> None:
    module = BACKBONE.build(generators(3, 4))
    places = np.array(rows)
    embedding = module(POOL.batch(places))
    assert embedding.shape == (*places.shape, 16)
    assert embedding.isfinite().all()
    for member, place in zip(*np.nonzero(places >= 0), strict=True):
        alone = np.full((2, 1), -1)
        alone[member] = places[member, place]
        assert_close(embedding[member, place], module(POOL.batch(alone))[member, 0])
    taken = torch.from_numpy(places >= 0)
    assert all(g.isfinite().all() for g in gradients(module, embedding[taken].square().sum()))


def test_an_element_that_the_model_does_not_know_is_refused_by_name() -> None:
    crystal = Crystal(np.eye(3) * 3.35, ("Po",), np.zeros((1, 3)))
    with pytest.raises(DataError, match="does not know Po"):
        BACKBONE.encode(crystal)


def test_elements_are_in_the_published_order() -> None:
    config = pytest.importorskip("matgl.config", reason="matgl is not installed")
    assert config.DEFAULT_ELEMENTS == ELEMENTS


# --- collapsing -------------------------------------------------------------------------------


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    shifts = np.array(list(np.ndindex(*repeats)))
    coords = (crystal.frac_coords[None] + shifts[:, None]).reshape(-1, 3) / repeats
    return Crystal(
        crystal.lattice * np.array(repeats)[:, None], crystal.species * len(shifts), coords
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    sites=st.integers(1, 4),
    grid=st.sampled_from([4, 12, 10_000]),
    repeats=st.sampled_from([(1, 1, 1), (2, 1, 1), (1, 2, 2)]),
)
def test_collapsing_changes_nothing(
    seed: int, sites: int, grid: int, repeats: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    species = tuple(rng.choice(["Na", "Cl", "O"], sites))
    coords = rng.integers(0, grid, (sites, 3)) / grid
    crystal = Crystal(np.diag(rng.uniform(3.1, 5.3, 3)), species, coords)
    large = supercell(crystal, repeats)
    order = rng.permutation(len(large.species))
    moved = Crystal(
        large.lattice,
        tuple(large.species[i] for i in order),
        large.frac_coords[order] + rng.uniform(-1, 1, 3),
    )
    module = BACKBONE.build(generators(1, 2))
    rows = np.array([[0], [0]])
    expected = module(pool_of([crystal], WHOLE).batch(rows))
    for other in (crystal, moved):
        torch.testing.assert_close(
            module(pool_of([other]).batch(rows)), expected, rtol=0, atol=1e-5
        )


# --- sums over graphs -------------------------------------------------------------------------


def example_matrix() -> tuple[Matrix, Tensor]:
    """A 4 × 3 matrix with an empty row, and the same as a dense one."""
    dense = torch.tensor([[1, 2, 0], [0, 0, 0], [0, 3, 4], [5, 0, 0]], dtype=torch.float64)

    def bags(of: Tensor) -> Bags:
        columns = [row.nonzero()[:, 0] for row in of]
        offsets = torch.tensor([0, *np.cumsum([len(c) for c in columns])])
        return Bags(torch.cat(columns), offsets, of[of != 0])

    return Matrix(bags(dense), bags(dense.t())), dense


def test_the_sparse_product_is_the_dense_one_and_so_is_its_gradient() -> None:
    matrix, dense = example_matrix()
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(product(matrix, x), dense @ x)
    assert torch.autograd.gradcheck(lambda y: product(matrix, y), (x,))


def test_attention_counts_a_row_as_often_as_its_weight_says() -> None:
    x = torch.randn(4, 5, dtype=torch.float64)
    query = torch.randn(3, 5, dtype=torch.float64)
    sets = Sets(
        torch.tensor([0, 0, 2, 2]), torch.tensor([0, 2, 2, 4]), torch.tensor([2.0, 1.0, 1.0, 3.0])
    )
    found = attend(x, query, sets)
    for crystal, members in ((0, [0, 0, 1]), (2, [2, 3, 3, 3])):
        shares = (x[members] @ query[crystal]).softmax(0)
        torch.testing.assert_close(found[crystal], shares @ x[members])
    assert (found[1] == 0).all()


def test_the_gradient_of_attention_is_right() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    query = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    sets = Sets(
        torch.tensor([0, 0, 2, 2]), torch.tensor([0, 2, 2, 4]), torch.tensor([2.0, 1.0, 1.0, 3.0])
    )
    assert torch.autograd.gradcheck(lambda a, b: attend(a, b, sets), (x, query))


# --- devices ----------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    cuda = torch.device("cuda")
    module = BACKBONE.build(generators(1, 2, 3))
    expected = module(POOL.batch(NINE[:3]))
    expected_gradients = gradients(module, expected.square().sum())
    module.to(cuda)
    pool = BACKBONE.pool([BACKBONE.encode(crystal) for crystal in CRYSTALS], cuda)
    found = module(pool.batch(NINE[:3]))
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-4)
    for ours, other in zip(
        gradients(module, found.square().sum()), expected_gradients, strict=True
    ):
        scale = max(other.detach().abs().max().item(), 1e-3)
        torch.testing.assert_close(ours.cpu(), other, rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_activation_of_predictions_is_that_of_training(dtype: torch.dtype) -> None:
    for values in (torch.linspace(-100, 79, 4001), torch.linspace(-5, 500, 999), torch.empty(0)):
        x = values.to(dtype)
        trained = activate(x)
        with torch.inference_mode():
            predicted = activate(x.clone())
        torch.testing.assert_close(predicted, trained, rtol=1e-6, atol=2e-7)
