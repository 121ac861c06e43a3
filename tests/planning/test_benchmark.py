"""The benchmark file: unknown keys and wrong values are refused, with the line named."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from harness.errors import BenchmarkError
from harness.planning.benchmark import Benchmark

GOOD = """
train_on = ["Dataset1"]
test_on = ["Dataset1", "Dataset2"]
transfers = ["scratch", { name = "two-stage", source = "AFLOW" }]

[training]
epochs = 20

[training_on.AFLOW]
epochs = 5
"""


@pytest.fixture
def benchmark_file(tmp_path: Path):
    def write(text: str) -> Path:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        path = folder / "benchmark.toml"
        path.write_text(dedent(text))
        return path

    return write


def test_a_name_and_a_table_are_both_choices(benchmark_file) -> None:
    benchmark = Benchmark.load(benchmark_file(GOOD))
    assert [choice.label for choice in benchmark.transfers] == [
        "scratch",
        "two-stage(source=AFLOW)",
    ]
    assert benchmark.name == "mine"


def test_settings_merge_from_general_to_special(benchmark_file) -> None:
    benchmark = Benchmark.load(benchmark_file(GOOD))
    assert benchmark.training_for("Dataset1", {}).epochs == 20
    assert benchmark.training_for("AFLOW", {}).epochs == 5
    assert benchmark.training_for("AFLOW", {"epochs": 7}).epochs == 7


def test_an_unknown_key_names_line_and_suggestion(benchmark_file) -> None:
    path = benchmark_file(GOOD.replace("epochs = 20", "epoch = 20"))
    expected = r"line 7: unknown key 'training.epoch'. Did you mean 'epochs'\? Known: batch_size"
    with pytest.raises(BenchmarkError, match=expected):
        Benchmark.load(path)


def test_an_unknown_key_in_a_dataset_table_is_refused(benchmark_file) -> None:
    path = benchmark_file(GOOD.replace("epochs = 5", "epoch = 5"))
    with pytest.raises(BenchmarkError, match=r"line 10: .*'training_on.AFLOW.epoch'. .* 'epochs'"):
        Benchmark.load(path)


def test_an_unknown_key_in_the_training_of_a_model_is_refused(benchmark_file) -> None:
    own = 'models = [{ head = "mlp", training_on = { AFLOW = { epoch = 3 } } }]\n'
    with pytest.raises(BenchmarkError, match=r"'models.0.training_on.AFLOW.epoch'. .* 'epochs'"):
        Benchmark.load(benchmark_file(own + GOOD))


def test_a_wrong_value_names_line_and_key(benchmark_file) -> None:
    path = benchmark_file(GOOD.replace("epochs = 20", 'epochs = "many"'))
    with pytest.raises(BenchmarkError, match=r"line 7: training.epochs: .*'many'"):
        Benchmark.load(path)


def test_a_missing_key_is_named(benchmark_file) -> None:
    path = benchmark_file('train_on = ["Dataset1"]\n')
    with pytest.raises(BenchmarkError, match=r"the key 'test_on' is missing"):
        Benchmark.load(path)


def test_broken_toml_is_named(benchmark_file) -> None:
    with pytest.raises(BenchmarkError, match=r"benchmark.toml: not valid TOML"):
        Benchmark.load(benchmark_file("train_on = ["))


def test_overrides_are_toml_and_checked_like_the_file(benchmark_file) -> None:
    path = benchmark_file(GOOD)
    changed = Benchmark.load(path, ["training.epochs=3", "seed=7", 'training.loss="mse"'])
    assert (changed.training.epochs, changed.seed, changed.training.loss) == (3, 7, "mse")
    with pytest.raises(BenchmarkError, match=r"unknown key 'training.epocs'"):
        Benchmark.load(path, ["training.epocs=3"])
    with pytest.raises(BenchmarkError, match="expected key=value"):
        Benchmark.load(path, ["training.epochs"])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("training.epoch=3", r"^--set training.epoch: unknown key 'training.epoch'. Did you mean"),
        ("training={epoch=3}", r"^--set training: unknown key 'training.epoch'"),
        ("train_on=Dataset1", r"^--set train_on: train_on: expected a list of names \(got 'Data"),
        ("training_on.AFLOW.epoch=3", r"^--set training_on.AFLOW.epoch: unknown key"),
        ("heads=3", r"^--set heads: heads: expected a name or a list of names \(got 3\)"),
    ],
)
def test_a_wrong_override_is_blamed_and_not_the_file(
    benchmark_file, override: str, complaint: str
) -> None:
    with pytest.raises(BenchmarkError, match=complaint):
        Benchmark.load(benchmark_file(GOOD), ["training.epochs=3", override])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('test_on = "Dataset1"', r"line 2: test_on: expected a list of names \(got 'Dataset1'\)"),
        ("test_on = []", "line 2: test_on: expected at least one entry"),
        ("runs = 1.5", "line 2: runs: expected a whole number"),
        ("training = 3", "line 2: training: expected a table"),
        ("title = 3", "line 2: title: expected text in quotes"),
        ('device = "gpu"', "line 2: device: expected 'auto', 'cpu' or 'cuda'"),
        ("heads = [3]", "line 2: heads: expected a name, or a table as"),
        ("heads = [{ hidden = [8] }]", "line 2: the key 'heads.0.name' is missing"),
    ],
)
def test_a_wrong_type_is_told_in_words(benchmark_file, line: str, complaint: str) -> None:
    with pytest.raises(BenchmarkError, match=complaint):
        Benchmark.load(benchmark_file(f'train_on = ["Dataset1"]\n{line}\n'))


def test_a_missing_file_says_where_it_looked() -> None:
    with pytest.raises(BenchmarkError, match=r"No benchmark 'quickstrat'.*leaderboards/quickstrat"):
        Benchmark.load("quickstrat")


@pytest.mark.parametrize("name", ["quickstart", "paraisite"])
def test_shipped_benchmarks_are_valid(name: str) -> None:
    assert Benchmark.load(name).name == name


NAMES = 'train_on = ["A"]\ntest_on = ["A"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runs = 1000000000", "line 3: runs: expected less than or equal to 10000"),
        ("[training]\nbatch_size = 1000000000000", "line 4: training.batch_size"),
        ("[training]\nepochs = true", "line 4: training.epochs: expected another value than true"),
        ("[training]\nlr = inf", "line 4: training.lr: expected a finite number"),
        ("[training]\nweight_decay = nan", "expected a finite number"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("seed = " + "9" * 5000, "more than 4,300 digits"),
        ("seed = " + "9" * 50, "line 3: seed: expected less than"),
        ('title = "\udcff"', "not valid TOML in UTF-8"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_numbers_without_sense_and_files_that_are_none_are_refused_with_their_place(
    text: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "benchmark.toml"
    path.write_bytes((NAMES + text).encode(errors="surrogateescape"))
    with pytest.raises(BenchmarkError) as refusal:
        Benchmark.load(path)
    assert str(path) in str(refusal.value)
    assert told in str(refusal.value)
