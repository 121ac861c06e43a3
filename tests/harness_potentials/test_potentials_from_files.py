"""Potentials from files that the user names: real models of their packages, with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness import PluginError
from harness.apps.testing.crystals import sample_crystals
from harness.nn.published_weights import find_weights_file
from harness.plugin import Crystal, Locations, PretrainedWeights, WeightsError
from harness.testing import BackboneCases
from harness_potentials import equation_of_state, register_backbones, weight_files
from harness_potentials.backbones import load_potential
from harness_potentials.settings import EosSettings, FileSettings

BACKBONES: dict[str, Any] = {spec.name: spec for spec in register_backbones()}
FCC = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
SALT = Crystal(5.64 * FCC, ("Na", "Cl"), np.array([[0.0] * 3, [0.5] * 3]))
PACKAGES = {"mace": "mace", "mattersim": "mattersim", "orb": "orb_models"}
MODEL = "orb-v3-conservative-inf-omat"


def find(path: Path | str) -> PretrainedWeights:
    return find_weights_file(str(path), Locations())


def make(name: str, settings: FileSettings) -> Any:
    return BACKBONES[name].make(settings, find(settings.weights))


# --- whatever the package --------------------------------------------------------------------


class Code:
    """What a pickle may do."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["MADE"],)


def test_a_file_is_what_was_found_and_has_seen_what_is_declared(tmp_path: Path) -> None:
    (tmp_path / "one.pt").write_bytes(b"one")
    weights, settings = find(tmp_path / "one.pt"), FileSettings(weights="one.pt", seen="MPtrj")
    declared = weight_files.declare_weights(weights, settings, "orb")
    assert (declared.name, declared.seen) == ("one.pt", "MPtrj")
    assert declared.digest == sha256(b"one").hexdigest()


@pytest.mark.parametrize("name", ["eos", *PACKAGES])
def test_the_file_is_named_by_the_setting_weights(name: str) -> None:
    assert BACKBONES[name].weights_in == "weights"


def test_without_a_name_it_is_said_how_to_give_one() -> None:
    with pytest.raises(WeightsError, match='name = "mace", weights = "FILE", seen = "MPtrj"'):
        weight_files.declare_weights(None, FileSettings(), "mace")


def test_code_in_a_file_runs_only_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE", str(tmp_path / "made"))
    torch.save(Code(), tmp_path / "code.pt")
    found = find(tmp_path / "code.pt")
    for trust in ("", "0" * 64):
        with pytest.raises(WeightsError, match=f'trust it, write trust = "{found.digest}"'):
            weight_files.read_file(found, trust)
    assert not (tmp_path / "made").exists()
    weight_files.read_file(found, found.digest)
    assert (tmp_path / "made").exists()


def test_a_file_of_tensors_needs_no_trust(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "tensors.pt")
    found = find(tmp_path / "tensors.pt")
    assert list(weight_files.read_file(found, "")) == ["a"]


def test_a_file_that_changes_is_not_taken_for_the_one_of_before(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "tensors.pt")
    found = find(tmp_path / "tensors.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "tensors.pt")
    with pytest.raises(WeightsError, match="has changed"):
        weight_files.read_file(found, "")


@pytest.mark.parametrize("name", PACKAGES)
def test_without_its_package_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(weight_files, "version", absent)
    with pytest.raises(PluginError, match=rf"pip install 'paraisite-harness\[{name}\]'"):
        BACKBONES[name].make(BACKBONES[name].settings(weights="some.pt"), None)


def test_keys_of_chgnets_equation_of_state_are_as_they_were() -> None:
    assert EosSettings().model_dump(mode="json") == {}
    assert EosSettings(potential="chgnet").model_dump(mode="json") == {}
    written = EosSettings(potential="mace", weights="one.model").model_dump(mode="json")
    assert (written["potential"], written["weights"]) == ("mace", "one.model")


@pytest.mark.parametrize("settings", [{"weights": "a.pt"}, {"potential": "mace", "model": "b"}])
def test_what_the_equation_of_state_cannot_use_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="not for the potential"):
        EosSettings(**settings)


# --- with the package ------------------------------------------------------------------------


def save_mace(path: Path) -> None:
    """A small MACE of all elements up to Ac, saved whole, as its package does."""
    before = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    import mace.modules
    from e3nn import o3  # version 0.4.4 can be imported after MACE alone

    if before is None:
        os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    numbers = list(range(1, 90))
    block = mace.modules.interaction_classes
    model = mace.modules.ScaleShiftMACE(
        r_max=5.0,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=block["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=block["RealAgnosticInteractionBlock"],
        num_interactions=2,
        num_elements=len(numbers),
        hidden_irreps=o3.Irreps("16x0e+16x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(len(numbers)),
        avg_num_neighbors=20.0,
        atomic_numbers=numbers,
        correlation=2,
        radial_type="bessel",
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    torch.save(model, path)


def save_mattersim(path: Path) -> None:
    """A small M3GNet, saved with the state of its training, as its package does."""
    from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
    from mattersim.forcefield.potential import Potential

    Potential(M3Gnet(num_blocks=2, units=16, device="cpu"), device="cpu").save(str(path))


def save_orb(path: Path) -> None:
    """The architecture that files are published for; there is no smaller one."""
    from orb_models.forcefield.pretrained import orb_v3_conservative_architecture

    torch.save(orb_v3_conservative_architecture(device="cpu").state_dict(), path)


SAVERS: dict[str, Callable[[Path], None]] = {
    "mace": save_mace,
    "mattersim": save_mattersim,
    "orb": save_orb,
}


def needs(name: str) -> Any:
    absent = find_spec(PACKAGES[name]) is None
    reason = f"the extra `{name}` is not installed"
    marks = [pytest.mark.slow, pytest.mark.skipif(absent, reason=reason)]
    return pytest.param(name, marks=marks)


INSTALLED = [needs(name) for name in PACKAGES]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    folder = tmp_path_factory.mktemp("weights")

    def settings_of(name: str) -> dict[str, str]:
        path = folder / f"{name}.pt"
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                SAVERS[name](path)
        settings = {"weights": str(path), "seen": "nothing"}
        if name == "mace":
            settings["trust"] = sha256(path.read_bytes()).hexdigest()
        return settings | ({"model": MODEL} if name == "orb" else {})

    return settings_of


@pytest.mark.parametrize("name", INSTALLED)
def test_energies_follow_the_volume_and_go_by_atom(name: str, saved: Any) -> None:
    settings = BACKBONES[name].settings(**saved(name))
    potential = load_potential(name, find(settings.weights), settings)
    doubled = Crystal(
        SALT.lattice * [[2], [1], [1]],
        ("Na", "Na", "Cl", "Cl"),
        np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0.5], [0.75, 0.5, 0.5]]),
    )
    wide = Crystal(SALT.lattice * 1.05, SALT.species, SALT.frac_coords)
    one, two, other = potential.energies([SALT, doubled, wide])
    assert two == pytest.approx(one, abs=1e-4)
    assert abs(other - one) > 1e-7
    assert potential.energies([SALT]) == pytest.approx([one], abs=1e-6)


@pytest.mark.parametrize("name", INSTALLED)
def test_the_equation_of_state_takes_its_energies(
    name: Any, saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def curve(cell: Crystal, energies: Any) -> Any:
        volumes = np.linspace(15.0, 25.0, 11)
        taken.append(energies([cell]))
        return volumes, 0.02 * (volumes - 20.0) ** 2 - 0.0008 * (volumes - 20.0) ** 3

    monkeypatch.setattr(equation_of_state, "energy_curve", curve)
    made = make("eos", EosSettings(potential=name, **saved(name)))
    assert made.encode(SALT)["features"].shape == (6,)
    assert np.isfinite(taken).all()
    assert name in made.encoding and made.weights.digest in made.encoding


@pytest.mark.parametrize("name", INSTALLED)
def test_a_process_is_left_as_it_was(name: str, saved: Any) -> None:
    settings = BACKBONES[name].settings(**saved(name))
    before = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    load_potential.cache_clear()
    make(name, settings).encode(SALT)
    assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == before
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.parametrize("name", INSTALLED)
def test_a_file_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "else.pt")
    model = {"model": MODEL} if name == "orb" else {}
    with pytest.raises(WeightsError, match=r"else\.pt (holds|does not hold)"):
        make(name, BACKBONES[name].settings(weights=str(tmp_path / "else.pt"), **model))


@pytest.mark.parametrize("name", [needs("mace")])
def test_mace_is_refused_until_its_file_is_trusted(name: str, saved: Any) -> None:
    settings = FileSettings(**{**saved(name), "trust": ""})
    with pytest.raises(WeightsError, match='write trust = "'):
        make(name, settings)


@pytest.mark.parametrize("name", [needs("orb")])
def test_orb_asks_for_the_name_of_its_model(name: str, saved: Any) -> None:
    settings = BACKBONES[name].settings(**{**saved(name), "model": ""})
    with pytest.raises(WeightsError, match=f"Set `model` .* {MODEL}"):
        make(name, settings)


class TestPromises(BackboneCases):
    """The cases of backbones, and what these declare."""

    @pytest.fixture(params=INSTALLED)
    def spec(self, request: pytest.FixtureRequest, saved: Any) -> Any:
        self.settings = saved(request.param)
        return BACKBONES[request.param]

    def test_it_is_fixed_and_says_what_it_has_seen(self, spec: Any) -> None:
        made = make(spec.name, spec.settings(**self.settings))
        assert made.fixed
        assert made.find_pretrained(Locations()).seen == "nothing"
        assert made.weights.digest in made.encoding

    def test_embeddings_tell_crystals_apart(self, spec: Any) -> None:
        made = make(spec.name, spec.settings(**self.settings))
        features = np.array([made.encode(c)["features"] for c in sample_crystals()])
        assert len(np.unique(features.round(6), axis=0)) == len(features)
