"""CHGNet where it is trained: the potential's own numbers at first, and its layers told apart."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.apps.testing.crystals import sample_crystals
from harness.plugin import CannotEncode, Crystal, Locations, Settings, WeightsError
from harness.testing import BackboneCases
from harness_potentials import register_backbones

if find_spec("chgnet") is None:
    pytest.skip("the extra `chgnet` is not installed", allow_module_level=True)

from harness_potentials import chgnet_potential, trained_chgnet

pytestmark = pytest.mark.slow
(SPEC,) = (spec for spec in register_backbones() if spec.name == "chgnet-trained")
CPU = torch.device("cpu")


def built(members: int) -> tuple[Any, torch.nn.Module]:
    backbone = SPEC.make(Settings())
    return backbone, backbone.build([torch.Generator().manual_seed(i) for i in range(members)])


def test_with_its_weights_it_begins_as_the_fixed_embedding() -> None:
    backbone, module = built(2)
    record = backbone.load_pretrained(module, backbone.find_pretrained(Locations()))
    assert record["largest_deviation_ev_per_atom"] < trained_chgnet.TOLERANCE
    assert record["tensors"] == len(list(module.named_parameters()))
    crystals = sample_crystals()
    pool = backbone.pool([backbone.encode(crystal) for crystal in crystals], CPU)
    with torch.no_grad():
        output = module(pool.batch(np.tile(np.arange(len(crystals)), (2, 1))))
    fixed = np.array([chgnet_potential.embed(crystal) for crystal in crystals])
    for member in output.numpy():
        np.testing.assert_allclose(member, fixed, atol=1e-4)


def test_weights_with_other_energies_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, module = built(1)
    found = backbone.find_pretrained(Locations())
    stored = torch.load(found.path / chgnet_potential.FILE, map_location="cpu", weights_only=True)
    stored["model"]["state_dict"]["readout_norm.bias"] += 0.1
    monkeypatch.setattr(trained_chgnet, "FILE", "changed.pth.tar")
    torch.save(stored, tmp_path / "changed.pth.tar")
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(WeightsError, match="verification failed: an energy is off by"):
        backbone.load_pretrained(module, replace(found, path=tmp_path))
    assert all(map(torch.equal, before, module.parameters()))


def test_a_file_that_is_none_of_chgnet_is_refused(tmp_path: Path) -> None:
    backbone, module = built(1)
    found = replace(backbone.find_pretrained(Locations()), path=tmp_path)
    with pytest.raises(WeightsError, match="cannot be read as CHGNet"):
        backbone.load_pretrained(module, found)


def test_atoms_on_their_own_are_refused() -> None:
    lonely = Crystal(np.eye(3) * 15, ("Ar",), np.zeros((1, 3)))
    with pytest.raises(CannotEncode, match="an atom without a neighbour within 6 Å"):
        SPEC.make(Settings()).encode(lonely)


class TestPromises(BackboneCases):
    """The cases of backbones."""

    @pytest.fixture
    def spec(self) -> Any:
        return SPEC
