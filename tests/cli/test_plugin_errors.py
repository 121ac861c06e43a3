"""What the command line says, and how it ends, when a plugin or the harness itself fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from harness import __version__

RAISING = """
from pathlib import Path
from harness.plugin import DatasetSpec, hookimpl

def load(where):
    raise ArithmeticError("no luck")

@hookimpl
def register_datasets():
    return [DatasetSpec("Sick", Path(CARD), load)]
"""
HINT = "`harness --traceback …` shows where."


@pytest.fixture
def raising(tmp_path: Path, tiny: Path) -> str:
    path = tmp_path / "raising.py"
    path.write_text(RAISING.replace("CARD", repr(str(tiny.parent / "cards" / "toy.toml"))))
    return str(path)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs modules with entry points for as long as the test runs."""
    modules: list[str] = []

    def go(name: str, text: str) -> None:
        modules.append(f"{name}_plugin")
        (tmp_path / f"{name}_plugin.py").write_text(dedent(text))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[harness]\n{name} = {name}_plugin\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield go  # type: ignore[misc]
    for module in modules:
        sys.modules.pop(module, None)


def test_a_plugins_error_prints_without_traceback_and_says_how_to_see_it(
    harness, raising: str
) -> None:
    status, out, err = harness("datasets", "show", "Sick", "--plugin", raising)
    assert (status, out) == (2, "")
    message, hint = err.splitlines()
    assert message.startswith(f"error: The plugin '{raising}' failed while loading the dataset")
    assert f"ArithmeticError: no luck ({raising}, line 6, in load)" in message
    assert hint == HINT


def test_the_traceback_of_a_plugins_error_is_shown_on_request(harness, raising: str) -> None:
    arguments = ("datasets", "fetch", "Sick", "--plugin", raising)
    status, _, err = harness("--traceback", *arguments)
    assert status == 2
    assert 'raise ArithmeticError("no luck")' in err
    assert "The above exception was the direct cause" in err
    assert err.splitlines()[-1].startswith(f"error: The plugin '{raising}' failed")
    assert HINT not in err


def test_an_error_without_more_to_show_says_so_by_silence(harness) -> None:
    status, _, err = harness("datasets", "show", "Datasett1")
    assert status == 2
    assert "Did you mean 'Dataset1'" in err
    assert "--traceback" not in err


def test_a_plugin_file_that_fails_is_an_error_of_the_user(harness, tmp_path: Path) -> None:
    path = tmp_path / "failing.py"
    path.write_text("import not_installed_anywhere\n")
    status, _, err = harness("plugins", "list", "--plugin", str(path))
    assert status == 2
    assert f"{path}, line 1" in err
    assert HINT in err


def test_a_bug_of_ours_prints_its_traceback_and_asks_for_a_report(
    harness, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("our own")

    monkeypatch.setattr("harness.data.dataset_loader.build_dataset", fail)
    status, _, err = harness("datasets", "show", "Toy", "--plugin", str(tiny))
    assert status == 1
    assert err.startswith("Traceback (most recent call last)")
    *_, problem, last = err.splitlines()
    assert problem == "ZeroDivisionError: our own"
    assert last == (
        f"This is a bug in the harness (paraisite-harness {__version__}): "
        "please report it, with the lines above."
    )


def test_exit_codes_reach_the_shell(raising: str) -> None:
    start = [sys.executable, "-c", "from harness.cli import main; main()"]
    done = subprocess.run(
        [*start, "datasets", "show", "Sick", "--plugin", raising],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: The plugin")


BIAS = """
    from harness.plugin import MetricSpec, hookimpl

    @hookimpl
    def register_metrics():
        return [MetricSpec("bias", "", "", False, max), MetricSpec("NAME", "", "", False, max)]
"""


def test_broken_plugins_and_contested_names_are_listed(harness, install) -> None:
    install("sick", "import not_installed_anywhere\n")
    install("one", BIAS.replace("NAME", "first"))
    install("two", BIAS.replace("NAME", "second"))
    status, out, _ = harness("plugins", "list", "--json")
    listed = json.loads(out)
    assert status == 0
    assert [plugin["name"] for plugin in listed["broken"]] == ["sick"]
    assert "sick_plugin.py, line 1" in listed["broken"][0]["problem"]
    (contested,) = listed["contested"]
    assert (contested["kind"], contested["name"]) == ("metric", "bias")
    assert "'one' and 'two'" in contested["problem"]
    assert {"first", "second"} <= {row["name"] for row in listed["offers"]}
    assert "bias" not in {row["name"] for row in listed["offers"]}
    _, out, _ = harness("plugins", "list")
    assert "Failed to load" in out
    assert "Offered by several plugins" in out
    _, out, _ = harness("doctor", "--json")
    found = {(row["what"], row["name"]): row["state"] for row in json.loads(out)}
    assert found["plugin", "sick"].startswith("failed: ModuleNotFoundError")
    assert found["metric", "bias"].startswith("contested: Two plugins")


def test_a_plugin_without_its_card_leaves_the_other_datasets_listed(harness, install) -> None:
    install("cardless", RAISING.replace("CARD", "'nowhere.toml'"))
    status, out, _ = harness("datasets", "list", "--json")
    listed = {row["name"]: row["title"] for row in json.loads(out)}
    assert status == 0
    assert "Dataset1" in listed
    assert listed["Sick"] == "unusable: The dataset card nowhere.toml does not exist."


NOISY = """
import os
import sys
from harness.plugin import HeadSpec, hookimpl

print("imported")

def fit(settings, rows):
    print("fitted")
    if os.environ.get("LOUD"):
        os.system("echo shouted")
    ENDING
    return lambda embeddings: embeddings[:, 0] ** 2 + 1

@hookimpl
def register_heads():
    return [HeadSpec("noisy", "", fit=fit)]
"""
NOISY_BENCHMARK = """
train_on = ["Toy"]
test_on = ["Toy"]
backbones = ["tiny"]
heads = ["noisy"]
baselines = []
runs = 1
metrics = ["mae-log"]
"""


@pytest.fixture
def noisy(tmp_path: Path, tiny: Path):
    """The arguments of a run whose head prints, and may end the process."""

    def write(ending: str = "pass") -> list[str]:
        (tmp_path / "benchmark.toml").write_text(NOISY_BENCHMARK)
        (tmp_path / "noisy.py").write_text(NOISY.replace("ENDING", ending))
        plugins = ["--plugin", str(tiny), "--plugin", str(tmp_path / "noisy.py")]
        return ["run", str(tmp_path), *plugins, "--json", "--jobs", "1"]

    return write


def test_what_a_plugin_prints_stays_out_of_the_json(harness, noisy) -> None:
    status, out, err = harness(*noisy())
    assert status == 0
    assert json.loads(out)["cells"][0]["runs"] == 1
    assert {"imported", "fitted"} <= set(err.splitlines())


@pytest.mark.slow
def test_what_a_plugins_processes_print_stays_out_of_the_json_too(
    noisy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOUD", "1")
    start = [sys.executable, "-c", "from harness.cli import main; main()"]
    done = subprocess.run([*start, *noisy()], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["cells"][0]["runs"] == 1
    assert "shouted" in done.stderr


@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
def test_a_plugin_cannot_end_the_command_unheard(harness, noisy, ending: str) -> None:
    status, out, err = harness(*noisy(ending))
    assert status == 3
    assert "fitting the head 'noisy': SystemExit" in json.loads(out)["failed"][0]["reason"]
    assert "noisy.py" in err
