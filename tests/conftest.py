"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.planning.benchmark import Benchmark
from harness.registry.registry import Registry

TOY = """
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = []
runs = 3
metrics = ["mae-log"]

[training]
epochs = 2
loss = "mae-log"
"""
ENERGIES = """
train_on = ["ToyEnergies"]
test_on = ["ToyEnergies"]
backbones = ["tiny"]
heads = ["ridge"]
baselines = []
runs = 3
"""
CARD = """
name = "{name}"
title = "A small network"
authors = ["{name}"]
summary = "For tests."
licence = "CC0-1.0"
"""
"""Of a submission."""

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Set before any test module is imported: some of them ask for all datasets at once.
os.environ["HARNESS_IMPORTS"] = os.devnull  # no folder, so nothing is imported
os.environ["HARNESS_BUNDLES"] = os.devnull  # likewise, and the default bundle is the shipped one


def ridge_benchmark(name: str, **changes: Any) -> Benchmark:
    """Backbones under a ridge regression, on one small dataset."""
    settings = {
        "name": name,
        "train_on": ["Toy"],
        "test_on": ["Toy"],
        "heads": ["ridge"],
        "baselines": [],
        "metrics": ["mae-log"],
        "protocols": ["published"],
        "runs": 2,
        **changes,
    }
    return Benchmark.model_validate(settings)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the mirrored data of others, or a skip that says why."""
    if not SHARED.is_dir():
        pytest.skip("the mirrored data folder ../shared is absent")
    return SHARED


@pytest.fixture(scope="session")
def tiny() -> Path:
    """A plugin file with small datasets (Toy, Twins, Source, …) and the fast backbone `tiny`."""
    return Path(__file__).resolve().parent / "plugins" / "tiny.py"


@pytest.fixture(scope="session")
def metrics() -> Any:
    """All metrics by name."""
    return Registry().metrics_of("thermal-conductivity")


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network and nothing of the user's: every test process has an empty home of its own."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:  # as of a suite started by `nohup … &`
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setenv("HARNESS_OFFLINE", "1")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for variable in ("HARNESS_DATA", "HARNESS_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)


def _export(benchmark: str, folder: Path, plugin: Path) -> Path:
    from harness import api
    from harness.apps.predict import predicting

    (folder / "benchmark.toml").write_text(benchmark)
    api.run(folder, plugins=[plugin])
    predicting.export(folder, "transfer=scratch", folder / "bundle", plugins=[plugin])
    return folder / "bundle"


@pytest.fixture(scope="session")
def toy_bundle(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three members of `tiny`, trained on Toy for two epochs; needs that plugin."""
    return _export(TOY, tmp_path_factory.mktemp("toy"), tiny)


@pytest.fixture(scope="session")
def energy_bundle(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise of formation energies, which have a linear scale, in closed form."""
    return _export(ENERGIES, tmp_path_factory.mktemp("energies"), tiny)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command in this process; returns exit status, standard output and error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call
