"""Stages that share a stack come out as they do alone, and each keeps its key and its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness import api
from harness.check.recomputation import retrain
from harness.errors import FailedCellsWarning
from harness.plugin import ExecutorRequest, hookimpl
from harness.results.store import Store
from harness.training.joint_model import join, separate
from harness.training.stage_trainer import StageTrainer

TRANSFERS = """transfers = [
    "scratch", { name = "two-stage", source = "Source", source_start = "random" }
]"""
BENCHMARK = f"""
train_on = ["Toy", "Twins"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = []
heads = [{{ name = "mlp", hidden = [16] }}]
{TRANSFERS}
runs = 2
metrics = ["mae-log"]

[training]
epochs = 4
patience = 3
loss = "mae-log"
"""
PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
ROUNDING = 1e-4
"""Relative, after a few epochs of training in single precision."""


def run(folder: Path, text: str = BENCHMARK, members: int | None = 4, **options: Any) -> Store:
    folder.mkdir(exist_ok=True)
    source = folder / "toy.toml"
    source.write_text(text if members is None else f"stack_members = {members}\n{text}")
    options.setdefault("plugins", [PLUGINS / name for name in ("tiny.py", "pool.py")])
    api.run(source, out=folder / "results", **options)
    return Store(folder / "results")


def contents(store: Store) -> dict[str, bytes]:
    """What was trained and predicted, by file."""
    files = [*store.folder.glob("stages/*/*.safetensors"), *store.folder.glob("*/*.parquet")]
    return {str(path.relative_to(store.folder)): path.read_bytes() for path in files}


def widths(store: Store) -> list[int]:
    """How many stages each stage was trained side by side with, itself among them."""
    records = (store.stage_record(path.name) for path in store.folder.glob("stages/*/"))
    return [len(record.stack) or 1 for record in records]


def predictions(store: Store) -> dict[tuple[str, int], Any]:
    rows = {line.place: store.read_predictions(line.key) for line in store.read_results()}
    return {(key, run): own[own["run"] == run]["prediction"] for (key, run), own in rows.items()}


@pytest.mark.parametrize("way", ["two-stage", "lora", "l2-sp", "joint", "gradual-unfreeze"])
def test_stages_that_share_a_stack_come_out_as_they_do_alone(tmp_path, way):
    start = "start" if way == "joint" else "source_start"
    named = f'{{ name = "{way}", source = "Source", {start} = "random" }}'
    changed = f'transfers = ["scratch", {named}]'
    text = BENCHMARK.replace(TRANSFERS, changed)
    alone, shared = run(tmp_path / "alone", text, members=None), run(tmp_path / "shared", text)
    one, other = predictions(alone), predictions(shared)
    assert one.keys() == other.keys()
    for place, expected in one.items():
        np.testing.assert_allclose(other[place], expected, rtol=ROUNDING)
    assert widths(shared).count(2) == 4


@pytest.mark.parametrize("own", ["", "[training_on.Toy]\npatience = 1\n\n"], ids=["alike", "own"])
def test_a_record_names_the_stages_of_its_stack_and_is_else_what_it_is_alone(tmp_path, own):
    text = BENCHMARK.replace("epochs = 4", "epochs = 12").replace("[training]", own + "[training]")
    alone, shared = run(tmp_path / "alone", text, members=None), run(tmp_path / "shared", text)
    keys = [path.name for path in sorted(alone.folder.glob("stages/*/"))]
    for key in keys:
        before, after = alone.stage_record(key).as_json(), shared.stage_record(key).as_json()
        stack = after.pop("stack", [key])
        assert key in stack
        assert all(shared.stage_record(own).stack == stack for own in stack if len(stack) > 1)
        for measured in ("seconds", "peak_memory_mb", "artefact_sha256"):
            before.pop(measured), after.pop(measured)
        history, expected = after.pop("history"), before.pop("history")
        for name in history:
            one, other = (np.array(own[name], dtype=float) for own in (expected, history))
            np.testing.assert_allclose(other, one, rtol=ROUNDING)
        assert after == before
    assert sorted(widths(shared)) == [1, 2, 2, 2, 2]


def test_a_stack_is_trained_to_the_same_bits_by_however_many_processes(tmp_path):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", jobs=2)
    assert contents(two) == contents(one)


@pytest.mark.parametrize("title", ["Toy (random)", "Toy (after Source)"])
def test_a_stack_that_is_stopped_goes_on_from_its_epoch_to_the_same_bits(
    tmp_path, monkeypatch, title
):
    class Killer:
        @hookimpl
        def epoch_finished(self, event: Any) -> None:
            if (event.title, event.epoch) == (title, 2):
                raise MemoryError  # ends the run as a kill does

    killed(tmp_path / "killed", Killer(), monkeypatch)
    epochs = Epochs()
    again = run(tmp_path / "killed", observers=[epochs])
    assert epochs.heard[0] == (title, 3)
    assert contents(again) == contents(run(tmp_path / "undisturbed"))
    assert not list(again.folder.glob("stages/*.checkpoint"))


def test_a_stack_of_which_some_stages_were_written_gives_the_others_the_same_bits(
    tmp_path, monkeypatch
):
    class Killer:
        @hookimpl
        def stage_finished(self, event: Any) -> None:
            raise MemoryError  # the first of two is written

    killed(tmp_path / "killed", Killer(), monkeypatch)
    again = run(tmp_path / "killed")
    assert contents(again) == contents(run(tmp_path / "undisturbed"))
    assert sorted(widths(again)) == [1, 2, 2, 2, 2]


def test_what_is_left_of_a_stack_goes_on_from_its_epoch(tmp_path, monkeypatch):
    class Killer:
        @hookimpl
        def epoch_finished(self, event: Any) -> None:
            if (event.title, event.epoch) == ("Source (random)", 2):
                raise MemoryError

    monkeypatch.setattr("harness.planning.stacks.SIMILAR", 10)
    three = BENCHMARK.replace(TRANSFERS, "").replace('"Twins"]\ntest', '"Twins", "Source"]\ntest')
    run(tmp_path / "killed", three.replace(', "Twins", "Source"]\ntest', "]\ntest"), members=None)
    killed(tmp_path / "killed", Killer(), monkeypatch, three, members=6)
    epochs = Epochs()
    store = run(tmp_path / "killed", three, members=6, observers=[epochs])
    assert epochs.heard[0] == ("Twins (random)", 3)
    assert sorted(widths(store)) == [1, 2, 2]


def test_a_checkpoint_of_stages_that_share_no_stack_any_more_goes_with_the_last_stage(tmp_path):
    left = tmp_path / "shared" / "results" / "stages" / "stack-0123456789abcdef.checkpoint"
    left.parent.mkdir(parents=True)
    left.touch()
    run(tmp_path / "shared")
    assert not left.exists()


def test_one_stage_that_fails_takes_no_other_with_it(tmp_path):
    tiny = (PLUGINS / "tiny.py").read_text()
    line = "        index = torch.as_tensor(rows, device=self.features.device)\n"
    fault = """        volumes = self.features[index][..., -1]
        if (abs(volumes - 3.1**3 / 60) < 1e-4).any():
            raise ValueError("these are twins")
"""
    broken = tmp_path / "tiny.py"
    broken.write_text(tiny.replace(line, line + fault))
    (tmp_path / "cards").symlink_to(PLUGINS / "cards")
    text = BENCHMARK.replace('test_on = ["Toy", "Twins"]', 'test_on = ["Toy"]')
    one_by_one = pytest.warns(UserWarning, match="one by one")
    with pytest.warns(FailedCellsWarning, match="these are twins"), one_by_one:
        store = run(tmp_path / "shared", text, plugins=[broken])
    titles = {store.stage_record(path.name).title for path in store.folder.glob("stages/*/")}
    assert titles == {"Toy (random)", "Source (random)", "Toy (after Source)"}


def test_stages_whose_models_cannot_stand_side_by_side_are_trained_one_by_one(tmp_path):
    tiny = (PLUGINS / "tiny.py").read_text()
    line = "        return StackedLinear(generators, len(SYMBOLS) + 1, self.width)\n"
    buffer = """        linear = StackedLinear(generators, len(SYMBOLS) + 1, self.width)
        linear.register_buffer("of_members", linear.weight[:, 0, 0].detach().clone())
        return linear
"""
    changed = tmp_path / "tiny.py"
    changed.write_text(tiny.replace(line, buffer))
    (tmp_path / "cards").symlink_to(PLUGINS / "cards")
    store = run(tmp_path / "shared", plugins=[changed])
    assert widths(store) == [1] * 5


def test_a_stack_that_is_lost_elsewhere_is_trained_stage_by_stage(tmp_path):
    here = run(tmp_path / "here", members=None)
    plugins = [PLUGINS / "tiny.py", PLUGINS / "lossy.py"]
    with pytest.warns(UserWarning, match="one by one: Toy .random., Twins .random."):
        there = run(tmp_path / "there", plugins=plugins, executor=ExecutorRequest("lossy"))
    assert contents(there) == contents(here)
    assert sorted(widths(there)) == [1, 1, 1, 2, 2]


@pytest.mark.slow
def test_a_stack_is_trained_elsewhere_to_the_same_bits(tmp_path):
    here = run(tmp_path / "here")
    there = run(tmp_path / "there", executor=ExecutorRequest("pool", workers=2))
    assert contents(there) == contents(here)


def test_a_stage_that_is_trained_again_is_trained_in_its_stack(tmp_path, monkeypatch):
    store = run(tmp_path / "shared")
    registry = api.registry_of(tmp_path / "shared" / "toy.toml", plugins=[PLUGINS / "tiny.py"])
    plan = api.prepare(tmp_path / "shared" / "toy.toml", registry=registry)
    trained: list[int] = []
    train = StageTrainer.train

    def counting(own: StageTrainer, stack: Any, tally: Any) -> bool:
        trained.append(len(stack))
        return train(own, stack, tally)

    monkeypatch.setattr(StageTrainer, "train", counting)
    found = retrain(plan, store, registry, len(plan.stages))
    assert sorted(trained) == [1, 2, 2]
    assert (found.done, found.differences, found.unchecked) == (5, [], [])


# --- models side by side --------------------------------------------------------------------------


class Layer(nn.Module):
    """Two weights of every member, and a tensor that they share."""

    def __init__(self, *weights: float, constant: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.tensor(weights, dtype=torch.float32).unsqueeze(1).expand(-1, 2).clone()
        )
        self.register_buffer("constant", torch.tensor(constant))


def test_models_are_put_side_by_side_and_taken_apart_again():
    whole, parts = Layer(0, 0, 0), [Layer(1, 2, constant=7), Layer(3, constant=7)]
    assert join(whole, parts)
    assert whole.weight.tolist() == [[1, 1], [2, 2], [3, 3]]
    assert whole.constant == 7
    with torch.no_grad():
        whole.weight.mul_(10)
    separate(whole, parts)
    assert [part.weight.tolist() for part in parts] == [[[10, 10], [20, 20]], [[30, 30]]]


def test_a_buffer_with_a_members_axis_keeps_models_apart():
    whole, part = Layer(0, 0), Layer(1)
    whole.register_buffer("own", torch.zeros(2))
    part.register_buffer("own", torch.zeros(1))
    assert not join(whole, [part, part])


def test_models_that_differ_in_what_members_share_are_not_put_side_by_side():
    assert not join(Layer(0, 0), [Layer(1, constant=7), Layer(2, constant=8)])


# --- helpers --------------------------------------------------------------------------------------


class Epochs:
    """An observer that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    @hookimpl
    def epoch_finished(self, event: Any) -> None:
        self.heard.append((event.title, event.epoch))


def killed(
    folder: Path, observer: object, monkeypatch: pytest.MonkeyPatch, *how: Any, **options: Any
) -> None:
    def tell(context: Any, hook: str, event: object) -> None:
        getattr(context.registry.manager.hook, hook)(event=event)

    with monkeypatch.context() as patch:
        patch.setattr("harness.training.stage_trainer.CHECKPOINT_SECONDS", 0.0)
        patch.setattr("harness.training.run_context.RunContext.tell", tell)
        with pytest.raises(MemoryError):
            run(folder, *how, **options, observers=[observer])
