"""Promises of `megnet-dgl`: MEGNet written again, by DGL, gives what `megnet` gives."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import harness_megnet.dgl_backbone
from harness.errors import DataError, PluginError, WeightsError
from harness.nn.published_weights import read_tensors
from harness.planning.member_training import MemberTraining
from harness.planning.training_settings import TrainingSettings
from harness.plugin.backbone import BackboneSpec, PretrainedWeights
from harness.plugin.crystal import Crystal
from harness.plugin.locations import Locations
from harness.plugin.protocol import Scaler
from harness.registry.property_metrics import PropertyMetric
from harness.registry.registry import Registry
from harness.testing import BackboneCases
from harness.training.stack_fit import StackData, fit
from harness_heads.mlp import Mlp
from harness_megnet.backbone import MegnetBackbone
from harness_megnet.dgl_backbone import MegnetDglBackbone
from harness_megnet.elements import ELEMENTS
from harness_megnet.settings import MegnetSettings, NetworkSettings
from harness_megnet.weights import CENTRES, LAST_LAYER, PREFIX, slots
from harness_properties import KAPPA

pytest.importorskip("dgl", reason="dgl is not installed: its wheels end with Python 3.11")

CPU = torch.device("cpu")
NAME = "MEGNet-MP-2018.6.1-Eform"
LONELY = Crystal(np.eye(3) * 9, ("Xe",), np.zeros((1, 3)))
"""No neighbour within the cutoff: a graph without edges."""

State = dict[str, Tensor]
Backbone = MegnetBackbone | MegnetDglBackbone
Both = dict[Backbone, tuple[nn.Module, Tensor]]


def generators(members: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(members)]


def at(path: Path) -> Locations:
    return Locations(data=(), weights=(path,), cache=path, offline=True)


def batch_of(backbone: Backbone, crystals: Sequence[Crystal], members: int = 1) -> object:
    pool = backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)
    return pool.batch(np.tile(np.arange(len(crystals)), (members, 1)))


def rows_of(shared: Path, dataset: str) -> Iterator[tuple[str, Crystal]]:
    with gzip.open(shared / "data" / f"{dataset}.jsonl.gz", "rt") as lines:
        for row in map(json.loads, lines):
            lattice, coords = (np.array(row[key], float) for key in ("lattice", "frac_coords"))
            yield row["id"], Crystal(lattice, tuple(row["species"]), coords)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """DGL shares out the smallest sums among threads, which then wait on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backbone() -> MegnetDglBackbone:
    return MegnetDglBackbone(NetworkSettings())


@pytest.fixture(scope="session")
def published(shared: Path) -> Path:
    return shared / "weights" / NAME / "state.pt"


def load(backbone: Backbone, published: Path, members: int = 1) -> nn.Module:
    module = backbone.build(generators(members))
    backbone.load_pretrained(module, backbone.find_pretrained(at(published.parent)))
    return module


@pytest.fixture(scope="module")
def real(shared: Path) -> list[Crystal]:
    """50 crystals of two datasets, and one without neighbours."""
    aflow = islice(rows_of(shared, "AFLOW"), 0, None, 83)
    mix = islice(rows_of(shared, "MIX"), 0, None, 8)
    known = [
        crystal
        for source in (aflow, mix)
        for crystal in islice((c for _, c in source if set(c.species) <= set(ELEMENTS)), 25)
    ]
    assert len(known) == 50
    return [*known, LONELY]


@pytest.fixture(scope="module")
def both(backbone: MegnetDglBackbone, published: Path, real: list[Crystal]) -> Both:
    """`megnet`, then `megnet-dgl`: filled with the published weights, and embeddings of `real`."""
    modules = {one: load(one, published) for one in (MegnetBackbone(MegnetSettings()), backbone)}
    with torch.no_grad():
        return {one: (m, m(batch_of(one, real))[0]) for one, m in modules.items()}


# --- parity -----------------------------------------------------------------------------------


def test_energies_match_the_original_code_on_all_61_crystals(
    shared: Path, published: Path, backbone: MegnetDglBackbone
) -> None:
    from harness_megnet.dgl_weights import formation_energy

    reference = json.loads((shared / "reference" / "megnet_eform_dgl.json").read_text())
    wanted = {(row["dataset"], row["id"]): row["eform"] for row in reference}
    assert len(wanted) == 61
    crystals = {
        (dataset, name): crystal
        for dataset in {dataset for dataset, _ in wanted}
        for name, crystal in rows_of(shared, dataset)
        if (dataset, name) in wanted
    }
    module = load(backbone, published)
    batch = batch_of(backbone, [crystals[key] for key in wanted])
    found = formation_energy(module, read_tensors(published), batch)[0].double()
    expected = torch.tensor(list(wanted.values()), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_embeddings_are_those_of_megnet(both: Both) -> None:
    expected, found = (embeddings for _, embeddings in both.values())
    assert (expected.std(0) > 0.1).sum() >= 15  # they tell crystals apart
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("collapse", "tolerance"),
    [
        (True, 1e-5),  # equivalent bonds are rounded together
        (False, 1e-6),  # lengths, and the weights of means in `megnet`, are float32
    ],
)
def test_in_double_precision_embeddings_and_gradients_are_those_of_megnet(
    backbone: MegnetDglBackbone,
    published: Path,
    real: list[Crystal],
    collapse: bool,
    tolerance: float,
) -> None:
    megnet = MegnetBackbone(MegnetSettings(collapse=collapse))
    module: Any
    module, other = (load(one, published).double() for one in (megnet, backbone))
    expected, found = module(batch_of(megnet, real)), other(batch_of(backbone, real))
    ours, others = gradients(module, expected), gradients(other, found)
    pairs = {
        key: (others[key][0], as_published(slot.parameter, ours[slot.parameter][0]))
        for key, slot in slots(module).items()
        if slot.parameter in ours
    }
    assert pairs.keys() == others.keys()
    assert len(pairs) == 102
    for key, (one, two) in {**pairs, "embeddings": (found, expected)}.items():
        off = (one - two).abs().max() / two.abs().max().clamp(min=1e-30)
        assert off <= tolerance, (key, off)


def as_published(name: str, tensor: Tensor) -> Tensor:
    """A parameter of `megnet`, or its gradient, in the layout of the published file."""
    if name.endswith("bias"):
        return tensor.squeeze(0)
    return tensor if name == "embedding.weight" else tensor.t()


def gradients(module: nn.Module, embeddings: Tensor) -> State:
    trained = ((name, p) for name, p in module.named_parameters() if p.requires_grad)
    names, parameters = zip(*trained, strict=True)
    return dict(zip(names, torch.autograd.grad(embeddings.sum(), parameters), strict=True))


@pytest.mark.parametrize("company", [1, 3])
def test_a_crystal_without_neighbours_has_the_embedding_that_megnet_gives(
    both: Both, company: int
) -> None:
    # A batch without a single edge is what trips DGL's own mean.
    expected, found = (
        module(batch_of(one, [LONELY] * company))[0] for one, (module, _) in both.items()
    )
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_gradient_of_a_crystal_without_neighbours_is_finite(
    backbone: MegnetDglBackbone,
) -> None:
    module = backbone.build(generators(1))
    for gradient in gradients(module, module(batch_of(backbone, [LONELY]))).values():
        assert gradient.isfinite().all()


class TestPromises(BackboneCases):
    """`megnet-dgl` keeps what every backbone promises."""

    @pytest.fixture
    def spec(self, monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
        # Where the folder is absent, only the cases of published weights are skipped.
        shared = Path(__file__).resolve().parents[3] / "shared"
        monkeypatch.setenv("HARNESS_WEIGHTS", str(shared / "weights"))
        return Registry().backbones["megnet-dgl"]


# --- stacks -----------------------------------------------------------------------------------


def test_the_names_in_the_published_file_are_those_of_the_model(published: Path) -> None:
    from harness_megnet.dgl_model import MegnetDgl

    state = read_tensors(published)
    for key in (f"{LAST_LAYER}.weight", f"{LAST_LAYER}.bias", CENTRES):
        del state[key]
    model = MegnetDgl(NetworkSettings(), len(ELEMENTS))
    model.load_state_dict({k.removeprefix(PREFIX): t for k, t in state.items()}, strict=True)


def test_every_member_holds_the_published_tensors(
    backbone: MegnetDglBackbone, published: Path
) -> None:
    state, module = read_tensors(published), backbone.build(generators(3))
    weights = backbone.find_pretrained(at(published.parent))
    found = backbone.load_pretrained(module, weights)
    assert weights.name == NAME
    assert found["tensors"] == len(state) - 3 == 103
    assert found["largest_deviation_ev_per_atom"] <= 1e-5
    for name, parameter in module.named_parameters():
        for member in parameter:
            assert torch.equal(member, state[name])


def test_every_parameter_belongs_to_one_layer(backbone: MegnetDglBackbone) -> None:
    names = [name for name, _ in backbone.build(generators(1)).named_parameters()]
    prefixes = [prefix for layer in backbone.layers for prefix in layer]
    for name in names:
        assert sum(name.startswith(f"{prefix}.") for prefix in prefixes) == 1, name
    for prefix in prefixes:
        assert any(name.startswith(f"{prefix}.") for name in names), prefix


def test_an_element_that_the_model_does_not_know_is_refused_by_name(
    backbone: MegnetDglBackbone,
) -> None:
    with pytest.raises(DataError, match="megnet-dgl does not know Po"):
        backbone.encode(Crystal(np.eye(3) * 3.35, ("Po",), np.zeros((1, 3))))


def mape(targets: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean(np.abs(predictions - targets) / targets))


def rocksalt(species: str, a: float) -> Crystal:
    half = a / 2
    lattice = np.array([[0, half, half], [half, 0, half], [half, half, 0]])
    return Crystal(lattice, tuple(species.split()), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


SEVEN = [
    rocksalt(*one)
    for one in (
        ("Li F", 4.02),
        ("Na Cl", 5.64),
        ("K Br", 6.60),
        ("Mg O", 4.21),
        ("Ca O", 4.81),
        ("Ba O", 5.52),
        ("Pb Te", 6.46),
    )
]


def test_training_on_eight_crystals_lowers_the_loss_of_every_member(
    backbone: MegnetDglBackbone,
) -> None:
    eight = [*SEVEN, LONELY]
    kappa = np.geomspace(1, 100, 8)
    module = backbone.build(generators(2))
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    head = Mlp(generators(2), backbone.width, (16,), "relu")
    data = StackData(
        pool=backbone.pool([backbone.encode(crystal) for crystal in eight], CPU),
        train=[np.arange(8), np.arange(7)],  # one member has an empty place
        validation=[np.arange(8)] * 2,
        labels=np.stack([kappa, kappa[::-1]]),
        scalers=[Scaler.fit(kappa, 1.0)] * 2,
        seeds=[1, 2],
    )
    losses: list[list[float]] = []
    fit(
        module,
        head,
        data,
        MemberTraining(TrainingSettings(epochs=25, lr=3e-3, batch_size=8, loss="mape")),
        selection=PropertyMetric("mape", "MAPE", "", False, mape, property=KAPPA),
        device=CPU,
        on_epoch=lambda report: losses.append(list(report.train_loss)),
    )
    assert (np.array(losses[-1]) < 0.6 * np.array(losses[0])).all(), losses
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all()
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


# --- refused ----------------------------------------------------------------------------------


def test_spoiled_weights_are_refused_and_the_module_stays(
    backbone: MegnetDglBackbone, published: Path, tmp_path: Path
) -> None:
    key = "model.blocks.1.conv.edge_func.layers.0.weight"
    state = read_tensors(published)
    source, destination, rest = state[key].tensor_split([32, 64], 1)
    spoiled = {
        "verification failed: .* is off by": torch.cat([destination, source, rest], 1),
        r"has shape \(64, 127\), expected \(64, 128\)": state[key][:, 1:],
    }
    module = backbone.build(generators(1))
    before = [parameter.detach().clone() for parameter in module.parameters()]
    for message, tensor in spoiled.items():
        torch.save({**state, key: tensor}, tmp_path / "state.pt")
        with pytest.raises(WeightsError, match=message):
            backbone.load_pretrained(module, backbone.find_pretrained(at(tmp_path)))
    weights = PretrainedWeights("mine", published, "0" * 64, "mine")
    with pytest.raises(WeightsError, match="'mine' cannot be verified"):
        backbone.load_pretrained(module, weights)
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("found", ["", "2.1.0"])
def test_dgl_absent_or_of_another_release_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    def version(name: str) -> str:
        if not found:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(harness_megnet.dgl_backbone, "version", version)
    with pytest.raises(PluginError, match=r"paraisite-harness\[dgl\].*end with Python 3\.11"):
        Registry().backbones["megnet-dgl"].make(NetworkSettings())


def test_a_gpu_is_refused_where_this_dgl_cannot_use_it(
    backbone: MegnetDglBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness_megnet.dgl_backbone, "version", lambda name: "1.1.3")
    with pytest.raises(PluginError, match=r"cannot use CUDA: dgl 1\.1\.3 .* device = 'cpu'"):
        backbone.pool([backbone.encode(LONELY)], torch.device("cuda"))


def test_dgl_starts_in_silence_and_writes_nothing_into_the_home(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DGLBACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", "import harness_megnet.dgl_model"],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
