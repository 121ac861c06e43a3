"""Every built-in strategy through a whole run: trained, scored, recorded and verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import api
from harness.errors import FailedCellsWarning
from harness.registry.registry import Registry
from harness.results.records import StageRecord
from harness.results.store import Store

BENCHMARK = """
train_on = ["Toy", "Twins"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = []
heads = [{ name = "mlp", hidden = [16] }]
transfers = [
    { name = "two-stage", source = "Source", source_start = "random" },
    { name = "frozen", source = "Source", source_start = "random" },
    { name = "gradual-unfreeze", source = "Source", source_start = "random" },
    { name = "layerwise-lr", source = "Source", source_start = "random" },
    { name = "l2-sp", source = "Source", source_start = "random", strength = 10.0 },
    { name = "joint", source = "Source", start = "random" },
    { name = "lora", source = "Source", source_start = "random", rank = 2 },
    { name = "bitfit", source = "Source", source_start = "random" },
]
runs = 2

[training]
epochs = 4
loss = "mae-log"
"""

CERTAIN_OF_NOTHING = """
from harness.plugin import HeadSpec, Settings, Uncertain, hookimpl

def fit(settings, rows):
    def predict(embeddings):
        kappa = embeddings[:, 0] * 0 + rows.targets.mean()
        return {answer}
    return predict

@hookimpl
def register_heads():
    return [HeadSpec("unsure", "for tests", Settings, fit=fit)]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    folder = tmp_path_factory.mktemp("strategies") / "toy"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder.parent / "cache"))
        api.run(folder, plugins=[tiny])
    return folder


def stages(folder: Path) -> dict[tuple[str, str], tuple[dict[str, Any], StageRecord]]:
    """(transfer, trained on) → tensors and record of the last stage."""
    store = Store(folder)
    return {
        (cell.transfer.partition("(")[0], cell.train_on): store.read_stage(cell.chain[-1])
        for cell in store.read_plan().cells
    }


def test_the_results_verify(finished: Path, tiny: Path) -> None:
    found = api.verify(finished, plugins=[tiny])
    assert not found.differences
    assert not found.unchecked


def test_what_a_plan_says_is_trained_is_what_a_record_says(finished: Path, tiny: Path) -> None:
    registry = Registry([tiny])
    planned = api.prepare(finished, registry=registry)
    counts, store = api.parameter_counts(planned, registry), Store(finished)
    keys = {stage.key for stage in planned.stages}
    recorded = {key: store.read_stage(key)[1].trained_parameters for key in keys}
    assert {key: count.trained for key, count in counts.items()} == recorded


def test_a_frozen_backbone_is_the_one_that_the_source_left(finished: Path) -> None:
    last, record = stages(finished)["frozen", "Toy"]
    source, _ = Store(finished).read_stage(record.parent)
    for name in last:
        assert bool((last[name] == source[name]).all()) == name.startswith("backbone."), name


def test_a_strong_pull_leaves_the_backbone_nearer_to_the_source_than_none(finished: Path) -> None:
    def moved(strategy: str) -> float:
        last, record = stages(finished)[strategy, "Toy"]
        source, _ = Store(finished).read_stage(record.parent)
        return float((last["backbone.weight"] - source["backbone.weight"]).norm())

    assert moved("l2-sp") < moved("two-stage")
    assert moved("layerwise-lr") < moved("two-stage")


def test_a_joint_stage_keeps_a_head_for_each_dataset_and_says_what_it_fitted(
    finished: Path,
) -> None:
    tensors, record = stages(finished)["joint", "Toy"]
    own = {name.removeprefix("head.") for name in tensors if name.startswith("head.")}
    other = {name.removeprefix("alongside.0.") for name in tensors if name.startswith("alongside.")}
    assert own
    assert own == other
    (said,) = record.alongside
    assert (said["dataset"], said["weight"]) == ("Source", 1.0)
    assert all(rows > 0 for rows in said["train_rows"])


def test_result_lines_of_a_joint_cell_name_the_dataset_fitted_alongside(finished: Path) -> None:
    lines = [line for line in Store(finished).read_results() if line.transfer[:5] == "joint"]
    assert lines
    assert all("Source" in line.datasets for line in lines)


def test_records_of_plain_stages_say_nothing_of_groups(finished: Path) -> None:
    by_strategy = {name: record for (name, _), (_, record) in stages(finished).items()}
    assert not by_strategy["two-stage"].groups
    (group,) = by_strategy["l2-sp"].groups
    assert isinstance(group, dict)
    assert group["pull"] == 10.0


def unsure(answer: str, tmp_path: Path, tiny: Path) -> Path:
    plugin = tmp_path / "unsure.py"
    plugin.write_text(CERTAIN_OF_NOTHING.format(answer=answer))
    folder = tmp_path / "unsure"
    folder.mkdir()
    text = BENCHMARK.partition("transfers")[0].replace('"mlp", hidden = [16]', '"unsure"')
    (folder / "benchmark.toml").write_text(text + "runs = 2\n")
    api.run(folder, plugins=[tiny, plugin])
    return folder


def test_uncertainties_are_kept_row_by_row(tmp_path: Path, tiny: Path) -> None:
    folder = unsure("Uncertain(kappa, kappa * 0 + 0.3)", tmp_path, tiny)
    store = Store(folder)
    for cell in store.read_plan().cells:
        rows = store.read_predictions(cell.key)
        assert np.allclose(rows["std_log"], 0.3)
        assert rows["prediction"].notna().all()


@pytest.mark.parametrize("answer", ["kappa[:1]", "Uncertain(kappa, kappa[1:])", "kappa[:, None]"])
def test_a_predictor_that_does_not_give_one_number_per_row_is_named(
    answer: str, tmp_path: Path, tiny: Path
) -> None:
    with pytest.warns(
        FailedCellsWarning, match=r"head 'unsure' predicted an array of shape .* rows"
    ):
        unsure(answer, tmp_path, tiny)
