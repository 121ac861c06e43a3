"""`harness verify`: what it prints, its last line, its exit status."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness import api

BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = [{ name = "mlp", hidden = [8] }]
baselines = []
runs = 2
metrics = ["mae-log"]

[training]
epochs = 1
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def toy(tmp_path: Path, tiny: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "benchmark.toml").write_text(BENCHMARK)
    api.run(tmp_path / "toy", plugins=[tiny])
    return tmp_path / "toy"


@pytest.fixture
def verify(harness: Call) -> Call:
    return partial(harness, "verify")


def test_everything_agrees(verify: Call, toy: Path, tiny: Path) -> None:
    status, out, err = verify(str(toy), "--plugin", str(tiny))
    assert (status, err) == (0, "")
    assert out.startswith("checked: ")
    assert out.splitlines()[-1] == "Everything agrees."


def test_weights_that_are_not_kept_are_no_doubt(verify: Call, toy: Path, tiny: Path) -> None:
    for path in toy.glob("stages/*/weights.safetensors"):
        path.unlink()
    status, out, _ = verify(str(toy), "--plugin", str(tiny))
    assert status == 0
    assert "unchecked: weights of 1 stages: not kept here" in out
    assert out.splitlines()[-1] == "Everything that is kept agrees."


def test_absent_data_are_a_doubt(verify: Call, toy: Path) -> None:
    status, out, _ = verify(str(toy))
    assert status == 0
    assert "unchecked: data, settings and splits: Unknown dataset 'Toy'" in out
    assert out.splitlines()[-1] == "What could be checked agrees; 1 thing was not."


def test_differences_are_listed_and_end_with_status_1(verify: Call, toy: Path, tiny: Path) -> None:
    (toy / "table.csv").unlink()
    status, out, _ = verify(str(toy), "--plugin", str(tiny))
    assert status == 1
    assert "DIFFERS: table.csv is missing" in out
    assert "agree" not in out
    status, out, _ = verify(str(toy), "--plugin", str(tiny), "--json")
    assert status == 1
    assert json.loads(out)["differences"] == ["table.csv is missing"]


def test_a_damaged_plan_is_an_error(verify: Call, toy: Path) -> None:
    (toy / "plan.json").write_text("{")
    status, out, err = verify(str(toy))
    assert (status, out) == (2, "")
    assert "plan.json is damaged" in err
    assert "Traceback" not in err


def test_a_folder_of_results_is_enough(verify: Call, toy: Path, tiny: Path) -> None:
    (toy / "benchmark.toml").rename(toy.parent / "benchmark.toml")
    status, out, _ = verify(str(toy), "--plugin", str(tiny))
    assert status == 0
    assert "unchecked: benchmark.toml" in out


def test_a_dry_run_is_verified_by_its_folder(verify: Call, toy: Path, tiny: Path) -> None:
    (toy / "plan.json").unlink()
    api.run(toy, limit=20, plugins=[tiny])
    status, _, err = verify(str(toy))
    assert status == 2
    assert f"Did you mean --results {toy / 'limit-20'}?" in err
    status, out, _ = verify(str(toy), "--results", str(toy / "limit-20"), "--plugin", str(tiny))
    assert (status, out.splitlines()[-1]) == (0, "Everything agrees.")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_can_be_verified(verify: Call, toy: Path, tiny: Path) -> None:
    folders = [toy, *(path for path in toy.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert verify(str(toy), "--plugin", str(tiny))[0] == 0
    finally:
        for folder in folders:
            folder.chmod(0o755)
