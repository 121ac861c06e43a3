"""The command line: what people and scripts read, and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import __version__

BENCHMARK = """
title = "A toy"
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = []
heads = [{ name = "mlp", hidden = [8] }]
runs = 2
metrics = ["mae-log", "mape"]

[training]
epochs = 2
loss = "mae-log"
"""


@pytest.fixture
def toy(tmp_path: Path) -> str:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "benchmark.toml").write_text(BENCHMARK)
    return str(tmp_path / "toy")


def test_run_prints_progress_and_a_table(harness, toy: str, tiny: Path) -> None:
    status, out, err = harness("run", toy, "--plugin", str(tiny))
    assert status == 0
    assert "[1/1] tiny + mlp(hidden=8), Toy (random): 2 runs, 2 epochs" in err
    assert "MAE log₁₀ κ (decades, lower is better), mean (std) over 2 runs" in out
    assert "scratch" in out


def test_quiet_prints_nothing(harness, toy: str, tiny: Path) -> None:
    assert harness("run", toy, "--plugin", str(tiny), "--quiet") == (0, "", "")


def test_json_is_one_document(harness, toy: str, tiny: Path) -> None:
    status, out, err = harness("run", toy, "--plugin", str(tiny), "--json")
    cells = json.loads(out)["cells"]
    assert (status, err) == (0, "")
    assert [cell["test_on"] for cell in cells] == ["Toy", "Twins"]
    assert all(cell["runs"] == 2 and cell["mape"] > 0 for cell in cells)


def test_plan_trains_nothing(harness, toy: str, tiny: Path) -> None:
    status, out, _ = harness("run", toy, "--plugin", str(tiny), "--plan")
    assert status == 0
    assert "1 stages, 2 cells" in out
    assert sorted(os.listdir(toy)) == ["benchmark.toml"]
    _, out, _ = harness("run", toy, "--plugin", str(tiny), "--plan", "--json")
    assert len(json.loads(out)["cells"]) == 2


def test_plan_says_which_stages_are_trained_side_by_side(harness, toy: str, tiny: Path) -> None:
    changes = ("--set", 'train_on=["Toy","Twins","Source"]', "--set", "stack_members=8")
    arguments = ("run", toy, "--plugin", str(tiny), "--plan", *changes)
    _, out, _ = harness(*arguments, "--json")
    stages = json.loads(out)["stages"]
    assert [(stage["title"], stage["stack"]) for stage in stages] == [
        ("Toy (random)", 1),
        ("Twins (random)", 1),
        ("Source (random)", 2),
    ]
    _, out, _ = harness(*arguments)
    assert "3 stages in 2 stacks" in out


def test_plan_says_how_few_parameters_a_stage_trains(harness, toy: str, tiny: Path) -> None:
    source = 'source = "Source", source_start = "random"'
    transfers = f'transfers=[{{ name = "bitfit", {source} }}]'
    arguments = ("run", toy, "--plugin", str(tiny), "--plan", "--set", transfers)
    _, out, _ = harness(*arguments, "--json")
    stages = json.loads(out)["stages"]
    backbone, bias, head = 119 * 8 + 8, 8, 8 * 8 + 8 + 8 + 1
    assert [(s["trained parameters"], s["parameters"]) for s in stages] == [
        (backbone + head, backbone + head),
        (bias + head, backbone + head),
    ]
    _, out, _ = harness(*arguments)
    assert f"{bias + head} of {backbone + head:,}" in " ".join(out.split())


def test_plan_tells_models_apart_and_knows_closed_forms(harness, toy: str, tiny: Path) -> None:
    arguments = ("run", toy, "--plugin", str(tiny), "--plan", "--set", 'heads=["mlp","nearest"]')
    _, out, _ = harness(*arguments)
    (nearest,) = (line for line in out.splitlines() if "nearest" in line)
    assert "closed form" in nearest
    assert "tiny" not in nearest  # the only backbone
    _, out, _ = harness(*arguments, "--json")
    stages = json.loads(out)["stages"]
    assert [(s["backbone"], s["head"], s["epochs"]) for s in stages] == [
        ("tiny", "mlp", 2),
        ("tiny", "nearest", None),
    ]


def test_table_shows_another_metric(harness, toy: str, tiny: Path) -> None:
    harness("run", toy, "--plugin", str(tiny))
    status, out, _ = harness("table", toy, "--metric", "mape")
    assert status == 0
    assert "A toy. MAPE (lower is better)" in out
    status, _, err = harness("table", toy, "--metric", "mapee")
    assert status == 2
    assert "Did you mean 'mape'" in err


def test_table_before_a_run_says_what_to_do(harness, toy: str) -> None:
    status, _, err = harness("table", toy)
    assert status == 2
    assert "holds no results yet" in err


def test_user_errors_print_without_traceback_and_exit_2(harness, toy: str, tiny: Path) -> None:
    status, out, err = harness("run", toy, "--plugin", str(tiny), "--set", "training.epoch=3")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert "--set training.epoch: unknown key 'training.epoch'. Did you mean 'epochs'" in err
    assert "Traceback" not in err


def test_missing_data_says_where_to_put_it(harness, tmp_path: Path) -> None:
    status, _, err = harness("datasets", "fetch", "Dataset1", "--data-dir", str(tmp_path))
    assert status == 2
    for expected in ("Dataset1", str(tmp_path), "Dataset1.jsonl.gz", "--data-dir", "HARNESS_DATA"):
        assert expected in err


def test_missing_weights_say_where_to_put_them(harness, toy: str, tmp_path: Path) -> None:
    arguments = ["--set", 'train_on=["Rocksalt"]', "--set", 'test_on=["Rocksalt"]']
    arguments += ["--set", 'backbones=["megnet"]', "--set", 'transfers=["pretrained"]']
    status, _, err = harness("run", toy, *arguments, "--weights-dir", str(tmp_path))
    assert status == 2
    for expected in ("MEGNet-MP-2018.6.1-Eform", str(tmp_path), "--weights-dir"):
        assert expected in err


def test_a_folder_that_cannot_be_written_is_named(harness, toy: str, tiny: Path) -> None:
    blocked = Path(toy) / "benchmark.toml" / "out"
    status, _, err = harness("run", toy, "--plugin", str(tiny), "--results", str(blocked))
    assert status == 2
    assert "Cannot write results to" in err


def test_ctrl_c_says_how_to_go_on(harness, toy: str, tiny: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "impatient.py"
    plugin.write_text(
        "import signal\nfrom harness.plugin import hookimpl\n\n@hookimpl\n"
        "def epoch_finished(event):\n    signal.raise_signal(signal.SIGINT)\n"
    )
    status, _, err = harness("run", toy, "--plugin", str(tiny), "--plugin", str(plugin))
    assert status == 130
    assert "run the same again" in err


def test_datasets_are_listed_and_shown(harness) -> None:
    _, out, _ = harness("datasets", "list", "--json")
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed["MIX"]["parts"] == "Dataset1 + Dataset2"
    _, out, _ = harness("datasets", "show", "Experiment", "--json")
    shown = json.loads(out)
    assert shown["usable rows"] == 58
    assert shown["problems"] == []


def test_unusable_rows_are_shown_with_reasons(harness, tiny: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "gaps.py"
    plugin.write_text(
        "from harness import DatasetSpec, hookimpl\n"
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('t', {str(tiny)!r})\n"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)\n"
        "def load(where):\n    return [*t.load_two(where), *t.load_nothing(where)[:1]]\n\n"
        "@hookimpl\ndef register_datasets():\n"
        "    return [DatasetSpec('Gaps', t.CARDS / 'toy.toml', load)]\n"
    )
    _, out, _ = harness("datasets", "show", "Gaps", "--plugin", str(plugin), "--json")
    assert json.loads(out)["problems"] == [{"row": 3, "id": "LiF", "reason": "duplicate id"}]


def test_plugins_are_listed_and_broken_ones_reported(harness) -> None:
    _, out, _ = harness("plugins", "list", "--json")
    listed = json.loads(out)
    assert {"kind": "backbone", "name": "megnet"}.items() <= {
        key: value
        for row in listed["offers"]
        if row["name"] == "megnet"
        for key, value in row.items()
    }.items()
    assert listed["broken"] == []


def test_doctor_names_what_is_there_and_what_is_missing(harness, shared: Path) -> None:
    data, weights = str(shared / "data"), str(shared / "weights")
    _, out, _ = harness("doctor", "--json")
    bare = {(row["what"], row["name"]): row["state"] for row in json.loads(out)}
    assert bare["dataset", "Experiment"] == "58 usable rows"
    assert bare["dataset", "AFLOW"].startswith("missing")
    assert bare["weights", "megnet"].startswith("missing")
    _, out, _ = harness("doctor", "--json", "--data-dir", data, "--weights-dir", weights)
    full = {(row["what"], row["name"]): row["state"] for row in json.loads(out)}
    assert full["dataset", "AFLOW"] == "3318 usable rows"
    assert full["weights", "megnet"].startswith("MEGNet-MP-2018.6.1-Eform in")


def test_doctor_survives_a_backbone_that_lacks_something(harness, tmp_path: Path) -> None:
    plugin = tmp_path / "lacking.py"
    plugin.write_text(
        "from harness import BackboneSpec, Settings, hookimpl\n\n"
        "def lacking(settings):\n    import not_installed_anywhere\n\n"
        "def odd(settings):\n    raise RuntimeError('no luck')\n\n"
        "@hookimpl\ndef register_backbones():\n"
        "    for make in (lacking, odd):\n"
        "        yield BackboneSpec(make.__name__, '', Settings, make)\n"
    )
    status, out, _ = harness("doctor", "--json", "--plugin", str(plugin))
    found = {row["name"]: row["state"] for row in json.loads(out) if row["what"] == "weights"}
    assert status == 0
    assert found["lacking"] == "needs not_installed_anywhere"
    assert found["odd"] == "failed: RuntimeError: no luck"


def test_free_text_is_wrapped_in_a_pipe(harness) -> None:
    for command in (("datasets", "show", "Experiment"), ("doctor",)):
        _, out, _ = harness(*command)
        lines = [line.rstrip() for line in out.splitlines() if "https://" not in line]
        assert max(len(line) for line in lines if "─" not in line) <= 120
    assert "58 usable rows" in out


def test_the_version_is_told(harness) -> None:
    assert harness("--version") == (0, f"paraisite-harness {__version__}\n", "")


def test_help_names_the_variables_of_the_environment(harness) -> None:
    _, out, _ = harness("run", "--help")
    assert "HARNESS_DATA" in out
    assert "HARNESS_WEIGHTS" in out


@pytest.mark.parametrize("option", ["--data-dir", "--weights-dir"])
def test_a_folder_that_does_not_exist_is_refused(harness, toy: str, option: str) -> None:
    status, out, err = harness("run", toy, option, "/nowhere")
    assert (status, out) == (2, "")
    assert "/nowhere" in err
    assert "does not exist" in err


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train-on" in done.stdout
