"""An error of a plugin names the plugin, the file and the line; an error of ours does not."""

from __future__ import annotations

import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import api
from harness.errors import DataError, FailedCellsWarning, PluginError
from harness.nn.encodings import load_encodings
from harness.planning.benchmark import Benchmark
from harness.plugin.crystal import Crystal
from harness.registry.attribution import blaming
from harness.registry.registry import Registry
from harness.report.leaderboard import Leaderboard
from harness.results.store import Store

SICK = Path(__file__).resolve().parents[1] / "plugins" / "sick.py"
RAISE = 'raise ArithmeticError("no luck")'

BENCHMARK = """
name = "sickness"
train_on = ["Sick"]
test_on = ["Sick"]
backbones = ["sick"]
heads = ["sick", "sick-fit"]
transfers = ["sick"]
protocols = ["sick"]
metrics = ["sick"]
baselines = []
runs = 1

[training]
epochs = 1
loss = "mae-log"
"""


class Patient:
    """A copy of the plugin `sick`, to be made ill, and a run that uses all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "sick.py"
        cards = repr(str(SICK.parent))
        self.path.write_text(SICK.read_text().replace("Path(__file__).parent", f"Path({cards})"))

    def change(self, old: str, new: str) -> int:
        """Replaces a piece of text that is there once; returns its line."""
        text = self.path.read_text()
        assert text.count(old) == 1
        self.path.write_text(text.replace(old, new))
        return text[: text.index(old)].count("\n") + 1

    def run(self, **changes: Any) -> Leaderboard:
        benchmark = Benchmark.model_validate({**tomllib.loads(BENCHMARK), **changes})
        return api.run(benchmark, out=self.folder / "out", plugins=[self.path])

    def error(self, **changes: Any) -> PluginError:
        """What is told: at once while the plan is laid out, else of the cells that failed."""
        try:
            with warnings.catch_warnings(action="ignore", category=FailedCellsWarning):
                failures = self.run(**changes).failures
        except PluginError as problem:
            return problem
        return PluginError(next(iter(failures.values())))


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))  # encode anew in every test
    return Patient(tmp_path)


def test_a_plugin_that_is_well_runs(patient: Patient) -> None:
    patient.run()
    assert (patient.folder / "out" / "table.md").is_file()


@pytest.mark.parametrize(
    ("spot", "function"),
    [
        ("load", "load"),
        ("make", "SickBackbone.__init__"),
        ("encode", "SickBackbone.encode"),
        ("pool", "SickBackbone.pool"),
        ("batch", "Pool.batch"),
        ("build", "SickBackbone.build"),
        ("forward", "Module.forward"),
        ("make_head", "Head.__init__"),
        ("head", "Head.forward"),
        ("fit", "fit"),
        ("predict", "fit.<locals>.predict"),
        ("stages", "stages"),
        ("rules", "Rules.__init__"),
        ("split", "Rules.split"),
        ("scaler_rows", "Rules.scaler_rows"),
        ("labels", "Rules.labels"),
        ("score", "score"),
    ],
)
def test_what_a_plugin_raises_names_plugin_file_line_and_function(
    patient: Patient, spot: str, function: str
) -> None:
    line = patient.change(f"pass  # {spot}\n", f"{RAISE}  # {spot}\n")
    error = patient.error()
    assert str(error).startswith(f"The plugin '{patient.path}' failed")
    assert f"ArithmeticError: no luck ({patient.path}, line {line}, in {function})" in str(error)
    assert "in the plugin, not in the harness" in str(error)
    if error.__cause__ is None:
        kept = [own.traceback for own in Store(patient.folder / "out").failures().values()]
        assert RAISE in kept[0], "the full traceback is kept"


@pytest.mark.parametrize(
    ("spot", "doing"),
    [
        ("load", "while loading the dataset 'Sick': "),
        ("encode", "while encoding the crystal 'ClK' by SickBackbone: "),
        ("split", "while splitting the dataset 'Sick' for run 1: "),
        ("score", "while computing the metric 'sick': "),
    ],
)
def test_what_was_asked_of_the_plugin_is_named(patient: Patient, spot: str, doing: str) -> None:
    patient.change(f"pass  # {spot}\n", f"{RAISE}  # {spot}\n")
    assert doing in str(patient.error())


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("def load(where: Any)", "def load()", "load"),
        ("def encode(self, crystal: Any)", "def encode(self)", "encode"),
        ("def forward(self, batch: Any)", "def forward(self)", "forward"),
        ("def split(self, formulas: Any, run: int, seed: int)", "def split(self, run)", "split"),
        ("def score(targets: Any, predictions: Any)", "def score(targets)", "score"),
    ],
)
def test_a_function_that_takes_other_arguments_is_the_plugins_error(
    patient: Patient, old: str, new: str, name: str
) -> None:
    line = patient.change(old, new)
    text = str(patient.error())
    assert re.match(rf"The plugin '{patient.path}' failed.*: TypeError: .*{name}\(\) ", text)
    assert f"({patient.path}, line {line})" in text


def test_a_function_of_a_library_is_the_error_of_the_plugin_that_offers_it(
    patient: Patient,
) -> None:
    patient.change("False, score)", "False, max)")
    assert re.match(
        rf"The plugin '{patient.path}' failed while computing the metric 'sick': ValueError",
        str(patient.error()),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    pass  # load\n",
            "    yield 'row'\n",
            r"'Sick': `load` must return mappings.*row 25 is",
        ),
        (
            "        pass  # encode\n",
            "        return None\n",
            r"encode must return collections.abc.Mapping, but .* None,",
        ),
        (
            "        pass  # split\n",
            "        return run\n",
            r"Rules.split must return harness.plugin.Split, .*int, 1,",
        ),
        (
            "        pass  # split\n",
            "        return Split(*[np.array([99])] * 3)\n",
            r"array\(\[99\]\) as train rows: expected .* row positions, whole numbers from 0 to 23",
        ),
        (
            "    pass  # score\n",
            "    return 'good'\n",
            r"score must return numbers.Real.*str.*metric 'sick'",
        ),
    ],
)
def test_what_is_not_as_promised_names_the_plugin_and_its_function(
    patient: Patient, old: str, new: str, message: str
) -> None:
    patient.change(old, new)
    text = str(patient.error())
    assert re.search(message, text)
    assert text.startswith(f"The plugin '{patient.path}' breaks its contract.")
    assert re.search(rf"\({patient.path}, line \d+\)$", text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Settings, SickBackbone)",
            "Settings, bad)",
            r"bad must return .*Backbone, .* None, while",
        ),
        ("    width = 4\n", "", r"SickBackbone lacks width\."),
        (
            "        pass  # build\n",
            "        return None\n",
            r"build must return .*Module, .* None, ",
        ),
        (
            "(generators, 1, 4)",
            "(generators, 1, 5)",
            r"embeddings, 1 members × .* 4, .* shape .* 5\)",
        ),
        ("make=make_head", "make=bad", r"bad must return .*Module, .* making the head 'sick'"),
        (".squeeze(-1)", "", r"Head.forward must return scaled targets, .* returned shape .* 1\)"),
        (
            "    pass  # stages\n",
            "    return None\n",
            r"stages must return .*Sequence, .* on 'Sick'",
        ),
        ("[Stage(target", "['x', Stage(target", r"'sick' must return Stage objects, .* str: 'x'"),
        ("Settings, Rules)", "Settings, bad)", r"bad must return .*ProtocolRules, .* None"),
        ("    selection = ", "    selected = ", r"Rules lacks selection"),
        ("    return predict\n", "    return 3.0\n", r"fit must return .*Callable, .* 3.0, while"),
        ("        pass  # predict\n", "        return np.ones(1)\n", r"'sick-fit' .* shape \(1,\)"),
        ("        pass  # predict\n", "        return 'x'\n", r"'sick-fit' predicted .* type <U1"),
    ],
)
def test_what_a_model_is_made_of_is_held_to_its_contract(
    patient: Patient, old: str, new: str, message: str
) -> None:
    patient.change(
        "def ask_in_vain()", "def bad(*arguments):\n    return None\n\n\ndef ask_in_vain()"
    )
    patient.change(old, new)
    text = str(patient.error())
    assert re.search(message, text), text
    assert text.startswith(f"The plugin '{patient.path}' breaks its contract.")
    assert f"({patient.path}" in text


SEARCH = {"trials": 1, "ensemble": 0}


@pytest.mark.parametrize("returns", [RAISE, "return 'good'"])
@pytest.mark.parametrize(
    ("selection", "changes"),
    [
        ("mae-log", {"heads": ["sick"]}),
        ("sick", {"heads": ["sick"], "metrics": ["mae-log"]}),
        ("sick", {"heads": ["sick"], "metrics": ["mae-log"], "tuning": SEARCH}),
        (
            "sick",
            {
                "heads": ["nearest"],
                "metrics": ["mae-log"],
                "tuning": {**SEARCH, "space": {"heads": {"nearest": {"standardise": [True]}}}},
            },
        ),
    ],
    ids=["cells", "epochs", "trials", "trials in closed form"],
)
def test_a_sick_metric_is_named_wherever_it_is_asked(
    patient: Patient, selection: str, changes: dict[str, Any], returns: str
) -> None:
    patient.change('    selection = "mae-log"', f'    selection = "{selection}"')
    patient.change("    pass  # score\n", f"    {returns}\n")
    text = str(patient.error(**changes))
    assert text.startswith(f"The plugin '{patient.path}'")
    assert "while computing the metric 'sick'" in text


def test_a_module_that_is_missing_is_said_to_be_needed(patient: Patient) -> None:
    line = patient.change("pass  # encode\n", "import not_installed_anywhere\n")
    assert str(patient.error()) == (
        f"The plugin '{patient.path}' needs the module 'not_installed_anywhere', which cannot be "
        f"found ({patient.path}, line {line}, in SickBackbone.encode). "
        "Install it into this environment."
    )


def test_a_plugin_that_exits_is_named_like_one_that_raises(patient: Patient) -> None:
    patient.change("pass  # fit\n", "raise SystemExit(0)\n")
    assert "SystemExit: 0" in str(patient.error())


@pytest.mark.parametrize(
    ("spot", "line"),
    [
        ("fit", "rows.embeddings[:] = 0"),
        ("fit", "rows.targets.sort()"),
        ("predict", "embeddings += 1"),
    ],
)
def test_a_head_cannot_change_what_others_are_handed_too(
    patient: Patient, spot: str, line: str
) -> None:
    patient.change(f"pass  # {spot}\n", f"{line}\n")
    text = str(patient.error())
    assert "ValueError" in text
    assert "read-only" in text


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("rows.kappa", r"`rows\.targets` are the labels"),
        ("from harness.plugin import KAPPA_FLOOR", r"`lowest` of the property"),
        (
            "from harness.plugin import Uncertain; Uncertain(kappa=1, std_log=1)",
            r"Uncertain\(median=…, std=…\)",
        ),
        (
            "from harness.plugin import FitRows; FitRows(embeddings=1, kappa=1, scaler=1, seed=1)",
            r"FitRows\(embeddings, targets, scaler, property, seed\)",
        ),
    ],
)
def test_a_plugin_of_the_time_of_kappa_alone_is_told_what_to_write(
    patient: Patient, line: str, instead: str
) -> None:
    number = patient.change("pass  # fit\n", f"{line}\n")
    text = str(patient.error())
    assert re.search(rf"The contract of plugins has changed \(.*\): .*{instead}", text)
    assert f"line {number}" in text


def test_embeddings_of_whole_numbers_are_refused(patient: Patient) -> None:
    patient.change("return self.linear(batch)", "return self.linear(batch).int()")
    assert re.search(
        r"embeddings, 1 members × batch × width 4, in floating-point numbers, but returned shape "
        r"\(1, \d+, 4\) of torch.int32",
        str(patient.error(heads=["sick"])),
    )


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("return self.linear(batch)", "return self.linear(batch).detach()", "backbone"),
        ("self.linear(embeddings)", "self.linear(embeddings.detach())", "backbone"),
        (".squeeze(-1)", ".squeeze(-1).detach()", "backbone"),
        (
            "return self.linear(embeddings).squeeze(-1)",
            "return self.linear(embeddings.detach()).detach().squeeze(-1) + embeddings.sum(-1)",
            "head",
        ),
    ],
)
def test_a_part_that_no_gradient_reaches_is_named(
    patient: Patient, old: str, new: str, part: str
) -> None:
    patient.change(old, new)
    text = str(patient.error(heads=["sick"]))
    assert f"No gradient reaches the {part}" in text
    assert str(patient.path) in text


def test_what_a_plugin_says_to_the_user_passes_as_it_is(patient: Patient) -> None:
    patient.change(
        "    pass  # load\n", "    from harness import DataError\n    raise DataError('no')\n"
    )
    with pytest.raises(DataError, match=r"^no$"):
        patient.run()


def test_an_interrupt_passes(patient: Patient) -> None:
    patient.change("pass  # fit\n", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        patient.run()


def test_when_a_plugin_calls_the_facade_with_nonsense_both_places_are_named(
    patient: Patient,
) -> None:
    patient.change("pass  # stages\n", "ask_in_vain()\n")
    text = str(patient.error())
    assert re.search(
        rf"AttributeError: .*graph\.py, line \d+, in build_graph, called by {patient.path}, "
        r"line \d+, in ask_in_vain\)",
        text,
    )
    assert "asked for what the harness cannot do, or this is a bug in the harness" in text


def test_a_bug_of_ours_is_blamed_on_nobody(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("our own")

    monkeypatch.setattr("harness.training.stage_trainer.stage_ledger", fail)
    with pytest.raises(ZeroDivisionError, match="our own"):
        patient.run()


def test_a_built_in_plugins_error_is_ours_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_experiment import table

    monkeypatch.setattr(table, "float", lambda text: 1 / 0, raising=False)
    monkeypatch.setattr(table, "int", lambda text: 1 / 0, raising=False)
    with pytest.raises(PluginError) as caught:
        api.load_dataset("Experiment")
    text = str(caught.value)
    assert text.startswith("The built-in plugin 'experiment' failed while loading")
    assert "That is a bug in the harness: please report it." in text


def test_load_dataset_prepare_and_verify_name_plugins_too(patient: Patient) -> None:
    patient.run()
    benchmark = Benchmark.model_validate(tomllib.loads(BENCHMARK))
    patient.change("pass  # load\n", f"{RAISE}\n")
    with pytest.raises(PluginError, match="ArithmeticError: no luck"):
        api.load_dataset("Sick", plugins=[patient.path])
    with pytest.raises(PluginError, match="ArithmeticError: no luck"):
        api.prepare(benchmark, registry=Registry([patient.path]))
    found = api.verify(benchmark, out=patient.folder / "out", plugins=[patient.path])
    assert any("ArithmeticError: no luck" in line for line in found.unchecked)
    patient.change("pass  # score\n", f"{RAISE}\n")
    with pytest.raises(PluginError, match="ArithmeticError: no luck"):
        api.verify(benchmark, out=patient.folder / "out", plugins=[patient.path])


# --- packages -----------------------------------------------------------------------------------


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], None]]:
    """Makes files importable for as long as the test runs."""
    before = set(sys.modules)

    def go(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = tmp_path / "site" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    yield go
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("ill_package", "ill_space"):
            del sys.modules[name]


ENCODING = """
from harness.plugin import Backbone

class Failing(Backbone):
    encoding = "failing"
    def encode(self, crystal):
        raise ArithmeticError("no luck")
    pool = build = encode
"""
EMPTY = "Metadata-Version: 2.1\nName: ill\nVersion: 1.0\n"


@pytest.mark.parametrize(
    ("package", "module"),
    [("ill_package", "ill_package.hooks"), ("ill_space/ill_package", "ill_space.ill_package")],
)
def test_all_files_of_an_installed_package_are_the_plugins_and_workers_change_nothing(
    install: Callable[[dict[str, str]], None], tmp_path: Path, package: str, module: str
) -> None:
    install(
        {
            f"{package}/__init__.py": "",
            f"{package}/hooks.py": "",
            f"{package}/deep/__init__.py": ENCODING,
            "ill-1.0.dist-info/METADATA": EMPTY,
            "ill-1.0.dist-info/entry_points.txt": f"[harness]\nill = {module}\n",
        }
    )
    registry = Registry()
    deep = __import__(f"{package.replace('/', '.')}.deep", fromlist=["Failing"])
    crystals = [Crystal(np.eye(3) * a, ("Si",), np.zeros((1, 3))) for a in (3, 4, 5)]
    for workers in (1, 2):
        with (
            pytest.raises(PluginError, match=r"The plugin 'ill' failed .* 'Si' .*line 7, in Fail"),
            _quiet(workers),
            blaming(registry),
        ):
            load_encodings(deep.Failing(), crystals, tmp_path / "cache", workers=workers)


def _quiet(workers: int) -> Any:
    import contextlib

    if workers == 1:
        return contextlib.nullcontext()
    return pytest.warns(UserWarning, match="2 processes failed")


def test_a_syntax_error_in_a_module_loaded_late_is_found(
    install: Callable[[dict[str, str]], None],
) -> None:
    install(
        {
            "ill_package/__init__.py": "def go():\n    import ill_package.late\n",
            "ill_package/late.py": "x = 1\nx = = 2\n",
            "ill-1.0.dist-info/METADATA": EMPTY,
            "ill-1.0.dist-info/entry_points.txt": "[harness]\nill = ill_package\n",
        }
    )
    registry = Registry()
    import ill_package  # type: ignore[import-not-found]

    with (
        pytest.raises(PluginError, match=r"'ill' failed: SyntaxError.*late\.py, line 2\)"),
        blaming(registry),
    ):
        ill_package.go()
