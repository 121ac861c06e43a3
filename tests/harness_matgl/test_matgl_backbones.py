"""Promises of `m3gnet` and `tensornet`: matgl's own networks, in stacks, on graphs made once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.plugin import (
    Arrays,
    Backbone,
    BackboneSpec,
    Choice,
    Crystal,
    PluginError,
    read_neutral,
)
from harness_matgl import backbone as backbone_module
from harness_matgl import register_backbones

pytest.importorskip("matgl", reason="matgl is absent: pip install 'paraisite-harness[matgl]'")

CPU = torch.device("cpu")
SPECS: dict[str, BackboneSpec] = {spec.name: spec for spec in register_backbones()}
SMALL: dict[str, dict[str, Any]] = {
    "m3gnet": {"units": 8, "node_embedding": 8, "edge_embedding": 8, "blocks": 2},
    "tensornet": {"units": 8, "gaussians": 8},
}
READOUTS = [
    ("m3gnet", "weighted_atom"),
    ("m3gnet", "set2set"),
    ("m3gnet", "reduce_atom"),
    ("tensornet", "weighted_atom"),
    ("tensornet", "reduce_atom"),
]
both = pytest.mark.parametrize("name", SPECS)
every_readout = pytest.mark.parametrize(("name", "readout"), READOUTS)

ROCKSALT = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], float)
CUBE = np.eye(3)
MIDDLE = [[0, 0, 0], [0.5, 0.5, 0.5]]


def crystal(lattice: Any, species: str, sites: Any) -> Crystal:
    return Crystal(np.array(lattice, float), tuple(species.split()), np.array(sites, float))


WURTZITE = [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.375], [2 / 3, 1 / 3, 0.875]]
CRYSTALS = [
    crystal(2.82 * ROCKSALT, "Na Cl", MIDDLE),
    crystal([[3.25, 0, 0], [-1.625, 2.8146, 0], [0, 0, 5.2]], "Zn Zn O O", WURTZITE),
    crystal(4.12 * CUBE, "Cs Cl", MIDDLE),
    crystal(
        3.905 * CUBE,
        "Sr Ti O O O",
        [[0, 0, 0], [0.5, 0.5, 0.48], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    ),
    crystal(2.715 * ROCKSALT, "Si Si", [[0, 0, 0], [0.25, 0.25, 0.25]]),
    crystal(2.105 * ROCKSALT, "Mg O", MIDDLE),
    crystal(3.23 * ROCKSALT, "Pb Te", MIDDLE),
    crystal(2.86 * CUBE, "Fe Fe", MIDDLE),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in training; on networks this small, threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def make(name: str, small: bool = True, **settings: Any) -> Backbone:
    spec = SPECS[name]
    return spec.make(spec.settings.model_validate((SMALL[name] if small else {}) | settings))


def embed(
    backbone: Backbone, module: torch.nn.Module, crystals: list[Crystal], members: int = 1
) -> Tensor:
    """Members × crystals × width."""
    pool = backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)
    embeddings: Tensor = module(pool.batch(np.tile(np.arange(len(pool)), (members, 1))))
    return embeddings


# --- the same as matgl ------------------------------------------------------------------------


def test_the_elements_are_those_of_matgl_in_its_order() -> None:
    from matgl.config import DEFAULT_ELEMENTS

    from harness_matgl.graphs import ELEMENTS

    assert ELEMENTS == DEFAULT_ELEMENTS


@every_readout
def test_embeddings_are_what_goes_into_the_last_layers_of_matgls_network(
    name: str, readout: str
) -> None:
    """M3GNet with the defaults of matgl's class, which are not those of the published weights."""
    from matgl.models import M3GNet, TensorNet

    as_class = {"threebody_cutoff_angstrom": 4.0, "messages_into": "source"}

    own = {"m3gnet": M3GNet, "tensornet": TensorNet}[name](readout_type=readout)
    settings = as_class if name == "m3gnet" else {}
    backbone = make(name, small=False, readout=readout, **settings)
    module = backbone.build(generators(1))
    state = {n.removeprefix("model."): p[0].detach() for n, p in module.named_parameters()}
    kept = {n: p for n, p in own.state_dict().items() if n not in state}
    own.load_state_dict(kept | state, strict=True)
    assert all(n.startswith("final_layer.") for n, _ in own.named_parameters() if n not in state)
    seen: list[Tensor] = []
    own.final_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for crystal in CRYSTALS[:4]:
        own.predict_structure(crystal.to_pymatgen())
    assert backbone.width == seen[0].shape[1]
    found = embed(backbone, module, CRYSTALS[:4])[0]
    torch.testing.assert_close(found, torch.cat(seen), rtol=1e-4, atol=1e-5)


def test_a_batch_is_what_matgl_makes_of_its_own_graphs() -> None:
    from matgl.ext.pymatgen import Structure2Graph
    from torch_geometric.data import Batch

    from harness_matgl.graphs import ELEMENTS, collate, encode

    own = []
    for crystal in CRYSTALS:
        graph, lattice, _ = Structure2Graph(ELEMENTS, 5.0).get_graph(crystal.to_pymatgen())
        graph.pos, graph.pbc_offshift = (
            graph.frac_coords @ lattice[0],
            graph.pbc_offset @ lattice[0],
        )
        own.append(graph)
    expected = Batch.from_data_list(own)
    found = collate([encode(crystal, 5.0) for crystal in CRYSTALS])
    assert found.num_graphs == expected.num_graphs == len(CRYSTALS)
    assert torch.equal(found.edge_index, expected.edge_index.long())
    for key in ("node_type", "batch", "pos"):
        assert torch.equal(found[key], expected[key])
    torch.testing.assert_close(found.pbc_offshift, expected.pbc_offshift)


# --- crystals ---------------------------------------------------------------------------------


def permute(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    order = rng.permutation(len(crystal.species))
    species = tuple(crystal.species[site] for site in order)
    return Crystal(crystal.lattice, species, crystal.frac_coords[order])


def repeat(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    structure = crystal.to_pymatgen()
    structure.make_supercell([[1, 1, 0], [0, 2, 0], [0, 0, 1]])
    return Crystal.from_pymatgen(structure)


def move(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)  # not a reflection
    shifted = crystal.frac_coords + rng.normal(size=3)
    return Crystal(crystal.lattice @ rotation, crystal.species, shifted)


CHANGES: Mapping[str, Callable[[Crystal, np.random.Generator], Crystal]] = {
    "permutation": permute,
    "supercell": repeat,
    "motion": move,
}


@pytest.fixture(scope="module")
def real(shared: Path) -> list[Crystal]:
    rows = list(read_neutral(shared / "data" / "Dataset1.jsonl.gz"))[::12]
    return [crystal(r["lattice"], " ".join(r["species"]), r["frac_coords"]) for r in rows]


@pytest.mark.parametrize("change", CHANGES)
@every_readout
def test_what_is_declared_to_leave_an_embedding_alone_does_so_for_real_crystals(
    name: str, readout: str, change: str, real: list[Crystal]
) -> None:
    backbone = make(name, readout=readout)
    assert change in backbone.invariances
    rng = np.random.default_rng(0)
    module = backbone.build(generators(1))
    with torch.no_grad():
        before = embed(backbone, module, real)[0]
        after = embed(backbone, module, [CHANGES[change](crystal, rng) for crystal in real])[0]
    assert before.std(0).max() > 1e-2  # the crystals are not all alike to it
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@both
def test_atoms_without_any_neighbour_have_an_embedding_and_a_gradient(name: str) -> None:
    backbone = make(name)
    module = backbone.build(generators(1))
    alone = crystal(20 * CUBE, "He", [[0, 0, 0]])
    for crystals in ([alone], [alone, CRYSTALS[0]], [CRYSTALS[0], alone]):
        embeddings = embed(backbone, module, crystals)
        embeddings.square().sum().backward()
        assert embeddings.isfinite().all()
        for parameter in module.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


@both
def test_encodings_survive_the_way_to_another_process_and_the_disk(
    name: str, tmp_path: Path
) -> None:
    from harness.nn.encodings import load_encodings

    backbone = pickle.loads(pickle.dumps(make(name)))
    built = load_encodings(backbone, CRYSTALS, tmp_path, workers=1)
    read = load_encodings(backbone, CRYSTALS, tmp_path, workers=1)
    module = backbone.build(generators(1))
    rows = np.arange(len(CRYSTALS))[None]

    def run(encodings: Sequence[Arrays]) -> Tensor:
        return module(backbone.pool(encodings, CPU).batch(rows))

    assert torch.equal(run(built), run(read))


@both
def test_empty_places_harm_nobody(name: str) -> None:
    backbone = make(name)
    module = backbone.build(generators(1, 2))
    pool = backbone.pool([backbone.encode(crystal) for crystal in CRYSTALS[:3]], CPU)
    full = module(pool.batch(np.array([[0, 1, 2], [2, 1, 0]])))
    holes = module(pool.batch(np.array([[0, -1, 2], [-1, -1, -1]])))
    torch.testing.assert_close(holes[0, [0, 2]], full[0, [0, 2]])
    assert holes.isfinite().all()


# --- members and parameters -------------------------------------------------------------------


@both
def test_a_member_depends_on_its_generator_alone(name: str) -> None:
    backbone = make(name)
    stack, alone = backbone.build(generators(7, 8, 9)), backbone.build(generators(8))
    for parameter, own in zip(stack.parameters(), alone.parameters(), strict=True):
        assert torch.equal(parameter[1], own[0])
    crystals = CRYSTALS[:3]
    together = embed(backbone, stack, crystals, members=3)
    torch.testing.assert_close(together[1], embed(backbone, alone, crystals)[0])
    assert not torch.allclose(together[0], together[1])
    together[1].square().sum().backward()
    for parameter in stack.parameters():
        if parameter.grad is not None:
            assert not parameter.grad[[0, 2]].any()


@both
def test_the_same_seeds_give_the_same_numbers_whatever_was_drawn_before(name: str) -> None:
    backbone = make(name)
    first = embed(backbone, backbone.build(generators(3, 4)), CRYSTALS, members=2)
    torch.rand(5)
    again = embed(backbone, backbone.build(generators(3, 4)), CRYSTALS, members=2)
    assert torch.equal(first, again)


@every_readout
def test_every_trainable_parameter_gets_a_gradient_and_lies_in_one_layer(
    name: str, readout: str
) -> None:
    backbone = make(name, readout=readout)
    module = backbone.build(generators(1, 2))
    embeddings = embed(backbone, module, CRYSTALS, members=2)
    weights = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
    (embeddings * weights).sum().backward()
    met = set()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.shape[0] == 2
        owners = [
            prefix
            for layer in backbone.layers
            for prefix in layer
            if parameter_name.startswith(prefix + ".")
        ]
        met.update(owners)
        if parameter.requires_grad:
            assert len(owners) == 1, parameter_name
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.flatten(1).any(1).all(), parameter_name
    assert met == {prefix for layer in backbone.layers for prefix in layer}


@both
def test_nothing_of_a_batch_is_kept_in_the_module(name: str) -> None:
    backbone = make(name)
    module = backbone.build(generators(1))
    embed(backbone, module, CRYSTALS[:1])
    assert not [m for m in module.modules() if getattr(m, "feature_dict", None)]


@both
def test_eight_crystals_can_be_learnt_by_heart(name: str) -> None:
    nested: dict[str, Any] = {"threebody_cutoff_angstrom": 4.0} if name == "m3gnet" else {}
    backbone = make(name, cutoff_angstrom=4.0, **nested)
    module = backbone.build(generators(1))
    head = torch.nn.Linear(backbone.width, 1)
    targets = torch.linspace(-1, 1, len(CRYSTALS))
    pool = backbone.pool([backbone.encode(crystal) for crystal in CRYSTALS], CPU)
    batch = pool.batch(np.arange(len(pool))[None])
    trained = [*module.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam([p for p in trained if p.requires_grad], lr=0.02)
    for _ in range(100):
        loss = (head(module(batch)).squeeze(-1) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.01 * targets.square().mean().item()


# --- settings ---------------------------------------------------------------------------------


@both
def test_the_search_space_gives_settings_that_build(name: str) -> None:
    spec = SPECS[name]
    assert spec.space is not None
    rng = np.random.default_rng(0)
    for _ in range(3):
        drawn = {
            key: own.values[rng.integers(len(own.values))]
            if isinstance(own, Choice)
            else int(rng.integers(int(own.low), int(own.high) + 1))
            for key, own in spec.space.items()
        }
        backbone = spec.make(spec.settings.model_validate(drawn))
        embeddings = embed(backbone, backbone.build(generators(1)), CRYSTALS[:2])
        assert embeddings.shape == (1, 2, backbone.width)


def test_angles_of_bonds_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="angles are made of bonds within both"):
        SPECS["m3gnet"].settings.model_validate({"cutoff_angstrom": 3.0})


@both
@pytest.mark.parametrize(
    ("installed", "said"), [(None, "no matgl is"), ("1.1.3", "matgl 1.1.3 is")]
)
def test_without_the_right_matgl_the_extra_to_install_is_named(
    name: str, installed: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        assert package == "matgl"
        if installed is None:
            raise PackageNotFoundError(package)
        return installed

    monkeypatch.setattr(backbone_module, "version", version)
    with pytest.raises(PluginError) as error:
        make(name)
    for part in (repr(name), said, "pip install 'paraisite-harness[matgl]'"):
        assert part in str(error.value)
