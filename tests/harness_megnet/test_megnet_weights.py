"""Promises of the published weights: found, loaded strictly, verified, or refused with a reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import WeightsError
from harness.nn.published_weights import read_tensors
from harness.plugin.backbone import PretrainedWeights
from harness.plugin.crystal import Crystal
from harness.plugin.locations import Locations
from harness_megnet.backbone import MegnetBackbone
from harness_megnet.module import Megnet
from harness_megnet.reference import read_reference
from harness_megnet.settings import MegnetSettings
from harness_megnet.verification import formation_energy
from harness_megnet.weights import PREFIX, fill

CPU = torch.device("cpu")
NAME = "MEGNet-MP-2018.6.1-Eform"
State = dict[str, Tensor]


def generators(members: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(members)]


@pytest.fixture(scope="session")
def published(shared: Path) -> Path:
    return shared / "weights" / NAME / "state.pt"


def at(path: Path) -> Locations:
    return Locations(data=(), weights=(path,), cache=path, offline=True)


def energies(backbone: MegnetBackbone, state: State, crystals: list[Crystal]) -> Tensor:
    module = backbone.build(generators(2))
    assert isinstance(module, Megnet)
    fill(module, state, "destination")
    pool = backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)
    rows = np.stack([np.arange(len(pool)), np.arange(len(pool))[::-1]])
    first: Tensor
    second: Tensor
    first, second = formation_energy(module, state, pool.batch(rows)).double()
    torch.testing.assert_close(first, second.flip(0), rtol=0, atol=2e-6)
    return first


# --- parity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("collapse", [True, False])
def test_energies_match_the_original_code_on_all_61_crystals(
    shared: Path, published: Path, collapse: bool
) -> None:
    reference = json.loads((shared / "reference" / "megnet_eform_dgl.json").read_text())
    crystals = {}
    for dataset in {row["dataset"] for row in reference}:
        with gzip.open(shared / "data" / f"{dataset}.jsonl.gz", "rt") as lines:
            for row in map(json.loads, lines):
                crystals[dataset, row["id"]] = Crystal(
                    np.array(row["lattice"], float),
                    tuple(row["species"]),
                    np.array(row["frac_coords"], float),
                )
    assert len(reference) == 61
    found = energies(
        MegnetBackbone(MegnetSettings(collapse=collapse)),
        read_tensors(published),
        [crystals[row["dataset"], row["id"]] for row in reference],
    )
    expected = torch.tensor([row["eform"] for row in reference], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("collapse", [True, False])
def test_the_shipped_table_is_what_the_published_weights_give(
    published: Path, collapse: bool
) -> None:
    table = read_reference(NAME)
    backbone = MegnetBackbone(MegnetSettings(collapse=collapse))
    found = energies(backbone, read_tensors(published), list(table.crystals))
    expected = torch.tensor(table.energies, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_the_shipped_table_tells_the_conventions_apart() -> None:
    table = read_reference(NAME)
    energy = dict(zip(table.names, table.energies, strict=True))
    assert len(table.crystals) >= 12
    assert energy["NaCl rocksalt"] == pytest.approx(-2.021, abs=1e-3)  # −1.871 in the wrong one


# --- loading ----------------------------------------------------------------------------------


def test_every_member_holds_the_published_tensors(published: Path) -> None:
    backbone = MegnetBackbone(MegnetSettings())
    module = backbone.build(generators(3))
    weights = backbone.find_pretrained(at(published.parents[1]))
    found = backbone.load_pretrained(module, weights)
    state = read_tensors(published)
    # All but the last layer (two tensors) and the centres of the expansion, which are settings.
    assert found["tensors"] == len(state) - 3 == len(list(module.parameters()))
    assert found["convention"] == "destination"
    loaded = sum(parameter[0].numel() for parameter in module.parameters())
    assert loaded == sum(tensor.numel() for tensor in state.values()) - 17 - 100
    for parameter in module.parameters():
        assert torch.equal(parameter[0], parameter[1])
        assert torch.equal(parameter[0], parameter[2])
    ours = module.get_parameter("block2.edge_update.0.weight")[1]
    assert torch.equal(ours.t(), state["model.blocks.1.conv.edge_func.layers.0.weight"])
    assert weights.name == NAME
    assert weights.seen == "MP-2018.6.1-Eform"
    assert len(weights.digest) == 64


def test_the_folder_itself_may_be_named(published: Path) -> None:
    found = MegnetBackbone(MegnetSettings()).find_pretrained(at(published.parent))
    assert found.path == published


def test_missing_weights_are_reported_with_every_place_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as error:
        MegnetBackbone(MegnetSettings()).find_pretrained(at(tmp_path))
    message = str(error.value)
    for part in (
        NAME,
        str(tmp_path / NAME / "state.pt"),
        str(tmp_path / "state.pt"),
        "offline",
        "--weights-dir",
        "HARNESS_WEIGHTS",
    ):
        assert part in message


def test_weights_without_reference_energies_are_refused(published: Path) -> None:
    backbone = MegnetBackbone(MegnetSettings(weights="MEGNet-of-mine"))
    weights = PretrainedWeights("MEGNet-of-mine", published, "0" * 64, "mine")
    with pytest.raises(WeightsError, match="'MEGNet-of-mine' cannot be verified"):
        backbone.load_pretrained(backbone.build(generators(1)), weights)


# --- spoiled weights -----------------------------------------------------------------------------


def swap_ends(state: State) -> State:
    """The same network for matgl ≥ 3, which averages into the source node."""
    swapped = dict(state)
    for key in state:
        if key.endswith("conv.edge_func.layers.0.weight"):
            source, destination, rest = state[key].tensor_split([32, 64], 1)
            swapped[key] = torch.cat([destination, source, rest], 1)
    return swapped


def rename(state: State, change: Callable[[str], str]) -> State:
    return {change(key): tensor for key, tensor in state.items()}


def replace(state: State, key: str, change: Callable[[Tensor], Tensor]) -> State:
    return {**state, key: change(state[key])}


def nudge(tensor: Tensor) -> Tensor:
    nudged = tensor.clone()
    nudged.view(-1)[0] += 0.01
    return nudged


WEIGHT = "model.blocks.1.node_func.layers.2.weight"

SPOILED: dict[str, tuple[Callable[[State], State], str]] = {
    "prefix taken off": (
        partial(rename, change=lambda key: key.removeprefix(PREFIX)),
        "lack the prefix 'model.'",
    ),
    "prefix put on twice": (
        partial(rename, change=lambda key: PREFIX + key),
        "carry the prefix 'model.' once too often",
    ),
    "one tensor of another shape": (
        partial(replace, key=WEIGHT, change=lambda tensor: tensor[:, :-1]),
        r"layers\.2\.weight has shape \(32, 63\), expected \(32, 64\)",
    ),
    "one tensor missing": (
        lambda state: {key: tensor for key, tensor in state.items() if key != WEIGHT},
        f"missing {WEIGHT}",
    ),
    "one tensor too many": (
        lambda state: {**state, "model.extra": torch.zeros(1)},
        r"unexpected model\.extra",
    ),
    "other centres": (
        partial(replace, key="model.bond_expansion.rbf.centers", change=lambda c: c * 1.1),
        "centers are not the centres of the settings",
    ),
    "one number changed": (
        partial(replace, key=WEIGHT, change=nudge),
        r"failed under both conventions: with convention = 'destination', .* is off by",
    ),
    "a number that is none": (
        partial(replace, key=WEIGHT, change=lambda tensor: tensor * torch.nan),
        "failed under both conventions",
    ),
    "the other convention": (
        swap_ends,
        r"with convention = 'destination', .* come out right with convention = 'source'",
    ),
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_spoiled_weights_are_refused_with_the_reason(
    published: Path, tmp_path: Path, spoiled: str
) -> None:
    spoil, message = SPOILED[spoiled]
    torch.save(spoil(read_tensors(published)), tmp_path / "state.pt")
    backbone = MegnetBackbone(MegnetSettings())
    module = backbone.build(generators(2))
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(WeightsError, match=message):
        backbone.load_pretrained(module, backbone.find_pretrained(at(tmp_path)))
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("convention", ["source", "auto"])
def test_weights_of_the_other_convention_are_converted_where_that_is_allowed(
    published: Path, tmp_path: Path, convention: str
) -> None:
    torch.save(swap_ends(read_tensors(published)), tmp_path / "state.pt")
    settings = MegnetSettings.model_validate({"convention": convention})
    converted, plain = MegnetBackbone(settings), MegnetBackbone(MegnetSettings())
    module, expected = converted.build(generators(1)), plain.build(generators(1))
    found = converted.load_pretrained(module, converted.find_pretrained(at(tmp_path)))
    assert found["convention"] == "source"
    plain.load_pretrained(expected, plain.find_pretrained(at(published.parent)))
    for parameter, other in zip(module.parameters(), expected.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_the_published_file_is_refused_as_one_of_the_other_convention(published: Path) -> None:
    backbone = MegnetBackbone(MegnetSettings(convention="source"))
    with pytest.raises(WeightsError, match="come out right with convention = 'destination'"):
        backbone.load_pretrained(
            backbone.build(generators(1)), backbone.find_pretrained(at(published.parent))
        )


@pytest.mark.parametrize("content", [b"", b"not a file of torch"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"state\.pt cannot be read as a file of tensors"):
        read_tensors(tmp_path / "state.pt")


class Runs:
    """An object that would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save(Runs(tmp_path / "ran"), tmp_path / "state.pt")
    with pytest.raises(WeightsError, match=r"state\.pt cannot be read as a file of tensors"):
        read_tensors(tmp_path / "state.pt")
    assert not (tmp_path / "ran").exists()
