"""Promises of M3GNet's published weights: loaded strictly, verified, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.plugin import Crystal, Locations, PretrainedWeights, WeightsError, read_neutral
from harness_matgl.backbone import M3gnetBackbone
from harness_matgl.settings import M3gnetSettings

pytest.importorskip("matgl", reason="matgl is absent: pip install 'paraisite-harness[matgl]'")

from harness_matgl import settings as settings_module
from harness_matgl.settings import PUBLISHED, check_settings
from harness_matgl.weights import formation_energy, read, verify

NAME = "M3GNet-MP-2018.6.1-Eform"
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in training; on networks this small, threads wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "weights" / NAME / "state.pt"


@pytest.fixture(scope="module")
def state(published: Path) -> State:
    return torch.load(published, weights_only=True)


def at(path: Path) -> Locations:
    return Locations(data=(), weights=(path,), cache=path, offline=True)


def build(members: int) -> tuple[M3gnetBackbone, torch.nn.Module]:
    backbone = M3gnetBackbone(PUBLISHED)
    seeds = range(members)
    return backbone, backbone.build([torch.Generator().manual_seed(seed) for seed in seeds])


# --- parity -----------------------------------------------------------------------------------


def test_the_energies_of_the_original_code_come_out(published: Path) -> None:
    network = read(published, PUBLISHED)
    weights = PretrainedWeights(NAME, published, "0" * 64, "")
    assert verify(network, weights, M3gnetBackbone(PUBLISHED).encode) < 2e-6


def test_energies_of_real_crystals_agree_with_those_of_megnet(
    shared: Path, published: Path
) -> None:
    """Another network, trained on the same data: both err by about 0.03 eV/atom."""
    reference = json.loads((shared / "reference" / "megnet_eform_dgl.json").read_text())
    crystals = {
        (dataset, row["id"]): Crystal(
            np.array(row["lattice"], float),
            tuple(row["species"]),
            np.array(row["frac_coords"], float),
        )
        for dataset in {row["dataset"] for row in reference}
        for row in read_neutral(shared / "data" / f"{dataset}.jsonl.gz")
    }
    encode = M3gnetBackbone(PUBLISHED).encode
    encodings = [encode(crystals[row["dataset"], row["id"]]) for row in reference]
    found = formation_energy(read(published, PUBLISHED), encodings)
    expected = torch.tensor([row["eform"] for row in reference], dtype=torch.float64)
    assert len(expected) == 61
    assert (found - expected).abs().mean() < 0.04  # 0.34 in the wrong convention
    assert (found - expected).abs().max() < 0.15


# --- loading ----------------------------------------------------------------------------------


def test_every_member_holds_the_published_tensors(published: Path, state: State) -> None:
    backbone, module = build(3)
    assert backbone.offers_weights
    weights = backbone.find_pretrained(at(published.parents[1]))
    found = backbone.load_pretrained(module, weights)
    last = [key for key in state if key.startswith("model.final_layer.")]
    assert found["tensors"] == len(state) - len(last) == len(list(module.parameters()))
    assert len(last) == 6
    assert found["largest_deviation_ev_per_atom"] < 2e-6
    loaded = sum(parameter[0].numel() for parameter in module.parameters())
    assert loaded == sum(t.numel() for key, t in state.items() if key not in last)
    for parameter in module.parameters():
        assert torch.equal(parameter[0], parameter[1])
        assert torch.equal(parameter[0], parameter[2])
    untouched = "model.graph_layers.1.conv.edge_update_func.layers.0.weight"
    assert torch.equal(module.get_parameter(untouched)[1], state[untouched])
    moved = "model.graph_layers.1.conv.node_update_func.layers.0.weight"
    start, end, bond = state[moved].split(64, 1)
    assert torch.equal(module.get_parameter(moved)[1], torch.cat([end, start, bond], 1))
    assert weights.name == NAME
    assert weights.seen == "MP-2018.6.1-Eform"


def test_missing_weights_are_reported_with_every_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as error:
        M3gnetBackbone(PUBLISHED).find_pretrained(at(tmp_path))
    places = (str(tmp_path / NAME / "state.pt"), str(tmp_path / "state.pt"))
    for part in (NAME, *places, "offline", "--weights-dir", "HARNESS_WEIGHTS"):
        assert part in str(error.value)


AS_MATGLS_CLASS = M3gnetSettings(
    threebody_cutoff_angstrom=4.0, readout="weighted_atom", messages_into="source"
)


def test_settings_of_another_network_are_refused_with_those_that_are_needed(
    tmp_path: Path,
) -> None:
    with pytest.raises(WeightsError) as error:
        M3gnetBackbone(AS_MATGLS_CLASS).find_pretrained(at(tmp_path))
    needed = "threebody_cutoff_angstrom = 5.0, readout = 'set2set', messages_into = 'destination'"
    assert needed in str(error.value)


def test_weights_without_reference_energies_are_refused() -> None:
    with pytest.raises(WeightsError, match="'M3GNet-of-mine' cannot be verified"):
        check_settings(PUBLISHED.model_copy(update={"weights": "M3GNet-of-mine"}))


# --- spoiled weights --------------------------------------------------------------------------

WEIGHT = "model.graph_layers.1.conv.edge_update_func.layers.2.weight"
SWAPPED = "model.graph_layers.0.conv.node_update_func.gates.0.weight"

SPOILED: dict[str, tuple[Callable[[State], State], str]] = {
    "prefix taken off": (
        lambda state: {key.removeprefix("model."): t for key, t in state.items()},
        r"no model\. in embedding",
    ),
    "one tensor of another shape": (
        lambda state: state | {WEIGHT: state[WEIGHT][:, :-1]},
        r"size mismatch for graph_layers\.1\.conv\.edge_update_func\.layers\.2\.weight",
    ),
    "one tensor missing": (
        lambda state: {key: t for key, t in state.items() if key != WEIGHT},
        r"Missing key.*graph_layers\.1\.conv\.edge_update_func\.layers\.2\.weight",
    ),
    "one tensor too many": (
        lambda state: state | {"model.extra": torch.zeros(1)},
        'Unexpected key.*"extra"',
    ),
    "one tensor damaged": (
        lambda state: state | {WEIGHT: state[WEIGHT] * 1.01},
        r"verification failed: .* is off by",
    ),
    "a number that is none": (
        lambda state: state | {WEIGHT: state[WEIGHT] * torch.nan},
        "is off by inf",
    ),
    "another order of the ends of bonds": (
        lambda state: state | {SWAPPED: state[SWAPPED].roll(64, 1)},
        r"verification failed: .* is off by",
    ),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_spoiled_weights_are_refused_with_the_reason_and_change_nothing(
    spoiled: str, state: State, tmp_path: Path
) -> None:
    spoil, message = SPOILED[spoiled]
    torch.save(spoil(state), tmp_path / "state.pt")
    backbone, module = build(2)
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(WeightsError, match=rf"(?s){message}"):
        backbone.load_pretrained(module, backbone.find_pretrained(at(tmp_path)))
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


def test_the_convention_of_matgl_4_is_refused_for_this_file(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PUBLISHED.model_copy(update={"messages_into": "source"})
    monkeypatch.setattr(settings_module, "PUBLISHED", settings)
    backbone = M3gnetBackbone(settings)
    module = backbone.build([torch.Generator()])
    with pytest.raises(WeightsError, match="verification failed"):
        backbone.load_pretrained(module, backbone.find_pretrained(at(published.parent)))


@pytest.mark.parametrize("content", [b"", b"not a file of torch"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"state\.pt cannot be read as a file of tensors"):
        read(tmp_path / "state.pt", PUBLISHED)


class Runs:
    """An object that would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(Runs(tmp_path / "ran"), tmp_path / "state.pt")
    with pytest.raises(WeightsError, match=r"state\.pt cannot be read as a file of tensors"):
        read(tmp_path / "state.pt", PUBLISHED)
    assert not (tmp_path / "ran").exists()
