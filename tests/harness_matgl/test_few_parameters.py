"""`lora` and `bitfit` on matgl's networks: they train what they say, and nothing else moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from harness import StructureRow, api
from harness.apps.predict import predicting
from harness.apps.predict.bundle import load_bundle
from harness.planning.adapted_weights import find_adapted
from harness.planning.plan import Plan, StageNode
from harness.planning.plugin_modules import skeleton
from harness.registry.registry import Registry
from harness.results.records import PlannedCell
from harness.results.store import Store

pytest.importorskip("matgl", reason="matgl is absent: pip install 'paraisite-harness[matgl]'")
pytestmark = pytest.mark.slow

RANK = 2
BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = []
transfers = [
    { name = "lora", rank = 2, source = "Twins", source_start = "random", source_epochs = 1 },
    { name = "bitfit", source = "Twins", source_start = "random", source_epochs = 1 },
]
runs = 2
metrics = ["mae-log"]

[[backbones]]
name = "m3gnet"
units = 8
node_embedding = 8
edge_embedding = 8
blocks = 2
cutoff_angstrom = 4.0
threebody_cutoff_angstrom = 3.0

[[backbones]]
name = "tensornet"
units = 8
gaussians = 8
cutoff_angstrom = 4.0

[training]
epochs = 2
loss = "mae-log"
"""


class Finished(NamedTuple):
    """A run that is over."""

    store: Store
    planned: Plan
    registry: Registry


class Trained(NamedTuple):
    """The last stage of a cell, and what it has moved.

    Attributes:
        before: tensors that it went on from, by name.
        after: tensors that it left behind.
        moved: names of those that differ.
    """

    cell: PlannedCell
    stage: StageNode
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    moved: set[str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Finished:
    folder = tmp_path_factory.mktemp("few") / "few"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        assert not api.run(folder, plugins=[tiny]).failed
        registry = Registry([tiny])
        return Finished(Store(folder), api.prepare(folder, registry=registry), registry)


def trained(finished: Finished, backbone: str, transfer: str) -> Trained:
    (cell,) = (
        cell
        for cell in finished.store.read_plan().cells
        if (cell.backbone.partition("(")[0], cell.transfer.partition("(")[0])
        == (backbone, transfer)
    )
    (stage,) = (stage for stage in finished.planned.stages if stage.key == cell.chain[-1])
    before, _ = finished.store.read_stage(cell.chain[0])
    after, _ = finished.store.read_stage(cell.chain[-1])
    assert before.keys() == after.keys()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    return Trained(cell, stage, before, after, moved)


def heads(names: Any) -> set[str]:
    return {name for name in names if name.startswith("head.")}


both = pytest.mark.parametrize("backbone", ["m3gnet", "tensornet"])
either = pytest.mark.parametrize("transfer", ["lora", "bitfit"])


@both
def test_bitfit_moves_the_head_and_biases_to_the_bit(finished: Finished, backbone: str) -> None:
    found = trained(finished, backbone, "bitfit")
    assert heads(found.moved) == heads(found.after)
    others = found.moved - heads(found.moved)
    assert others
    assert all(name.rpartition(".")[2].startswith("bias") for name in others)


@both
def test_lora_moves_the_head_and_linear_layers_by_low_rank(
    finished: Finished, backbone: str
) -> None:
    found = trained(finished, backbone, "lora")
    assert heads(found.moved) == heads(found.after)
    others = found.moved - heads(found.moved)
    adapted = find_adapted(skeleton(found.stage.model), found.stage.adapters)
    assert others
    assert others <= adapted.keys()
    for name in others:
        change = torch.linalg.svdvals((found.after[name] - found.before[name]).double())
        assert (change[:, RANK:] < 1e-6 * found.after[name].norm()).all(), name


@both
@either
def test_as_many_numbers_are_trained_as_the_plan_says(
    finished: Finished, backbone: str, transfer: str
) -> None:
    found = trained(finished, backbone, transfer)
    count = api.parameter_counts(finished.planned, finished.registry)[found.stage.key]
    _, record = finished.store.read_stage(found.stage.key)
    assert record.trained_parameters == count.trained < count.whole


@both
@either
def test_a_bundle_predicts_what_is_stored(
    finished: Finished, backbone: str, transfer: str, tiny: Path, tmp_path: Path
) -> None:
    cell = trained(finished, backbone, transfer).cell
    chosen = f"backbone={cell.backbone},transfer={cell.transfer}"
    predicting.export(finished.store.folder, chosen, tmp_path / "bundle", plugins=[tiny])
    loaded = load_bundle(tmp_path / "bundle", plugins=[tiny])
    toy = api.load_dataset("Toy", plugins=[tiny])
    rows = [StructureRow(*pair) for pair in zip(toy.ids, toy.crystals, strict=True)]
    predicted = pd.DataFrame(loaded.judge(rows).predicted, [1, 2], list(toy.ids))
    stored = finished.store.read_predictions(cell.key)
    pairs = zip(stored["run"], stored["id"], strict=True)
    again = [predicted.loc[run, name] for run, name in pairs]
    np.testing.assert_allclose(again, stored["prediction"], rtol=2e-5)
