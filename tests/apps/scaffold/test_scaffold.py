"""New plugins: packages that keep the style, are found, and pass the tests that they come with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from harness import Registry, load_dataset
from harness.apps.scaffold import Kind
from harness.apps.scaffold.names import LONGEST, check_free, package_of
from harness.apps.scaffold.package import TEMPLATES, NewPlugin, write_plugin
from harness.plugin import HarnessError, Locations, read_neutral

PYTHONPATH = list(filter(None, (os.environ.get("PYTHONPATH"),)))
LIST = "from harness.cli import main; main()"


def python(*arguments: str | Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python with a folder of installed packages, as if it were its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(site), *PYTHONPATH))},
        capture_output=True,
        text=True,
        check=False,
    )


def pretend_to_install(plugin: NewPlugin, site: Path) -> None:
    """Puts into `site` what pip would: the package, and metadata with its entry point."""
    project = tomllib.loads((plugin.folder / "pyproject.toml").read_text())
    name, version = project["project"]["name"], project["project"]["version"]
    (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    (site / package).symlink_to(plugin.folder / package)
    info = site / f"{package}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = (f"{k} = {v}" for k, v in project["project"]["entry-points"]["harness"].items())
    (info / "entry_points.txt").write_text("\n".join(("[harness]", *lines)))


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, NewPlugin]:
    """One new plugin of every kind, side by side."""
    folder = tmp_path_factory.mktemp("plugins")
    return {kind: write_plugin(kind, f"new-{kind}", folder) for kind in Kind}


@pytest.fixture(scope="module")
def site(plugins: dict[Kind, NewPlugin], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all of them are installed."""
    folder = tmp_path_factory.mktemp("site")
    for plugin in plugins.values():
        pretend_to_install(plugin, folder)
    return folder


def test_the_kinds_are_those_of_the_registry() -> None:
    assert list(Kind) == [catalog.kind for catalog in Registry().catalogs()]


def test_every_kind_has_templates() -> None:
    folders = {path.name for path in TEMPLATES.iterdir() if path.is_dir()}
    assert folders == {"common", *Kind}


@pytest.mark.parametrize("name", ["x", f"{'long-' * LONGEST}"[: LONGEST - 1] + "x"])
def test_every_kind_keeps_the_style_whatever_the_name(tmp_path: Path, name: str) -> None:
    for kind in Kind:
        (tmp_path / kind).mkdir()
        write_plugin(kind, name, tmp_path / kind)
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        ruff = ["-m", "ruff", *command, "--no-cache"]
        done = python(*ruff, tmp_path, site=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_is_found_once_installed(site: Path) -> None:
    done = python("-c", LIST, "plugins", "list", "--json", site=site)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    offers = {(o["kind"], o["name"]) for o in found["offers"] if o["plugin"].startswith("new-")}
    own = {(kind, f"new-{kind}") for kind in Kind}
    assert offers == own | {(Kind.DATASET, "new-property")}  # of which there is something to show
    assert found["broken"] == []


@pytest.mark.slow
def test_every_kind_passes_the_tests_it_comes_with(
    plugins: dict[Kind, NewPlugin], site: Path
) -> None:
    tests = [plugin.folder / "tests" for plugin in plugins.values()]
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, site=site)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_kind_loads_nothing_heavy(site: Path) -> None:
    modules = ", ".join(f"new_{kind}" for kind in Kind)
    done = python("-c", f"import {modules}, sys; print(*sys.modules)", site=site)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "new_head" in loaded
    assert not {"torch", "pymatgen", "optuna", "pandas"} & loaded


@pytest.mark.slow
def test_every_kind_has_an_example_that_can_be_planned(
    plugins: dict[Kind, NewPlugin], site: Path
) -> None:
    plan = "import sys\nfrom harness import prepare\nfor path in sys.argv[1:]: prepare(path)"
    examples = [plugin.folder / "example" for plugin in plugins.values()]
    done = python("-c", plan, *examples, site=site)
    assert done.returncode == 0, done.stderr


def test_the_readme_names_only_files_that_were_written(plugins: dict[Kind, NewPlugin]) -> None:
    for plugin in plugins.values():
        rows = (plugin.folder / "README.md").read_text().splitlines()
        named = [row.split("`")[1] for row in rows if row.startswith("| `")]
        assert named
        assert all((plugin.folder / path).exists() for path in named)


def test_the_lines_for_a_benchmark_name_the_plugin(plugins: dict[Kind, NewPlugin]) -> None:
    assert plugins[Kind.HEAD].uses[0].startswith('heads = ["new-head"')
    assert all(plugin.uses for plugin in plugins.values())


def test_the_rows_of_a_new_dataset_are_rows_of_the_embedded_one(
    plugins: dict[Kind, NewPlugin],
) -> None:
    experiment = Registry().datasets["Experiment"].parts
    embedded = [row for part in experiment for row in load_rows(part)]
    rows = list(read_neutral(plugins[Kind.DATASET].folder / "new_dataset" / "rows.jsonl"))
    assert len(rows) == len({row["id"] for row in rows}) == 15
    for row in rows:
        (same,) = (other for other in embedded if other["id"] == row["id"])
        assert row == {key: same[key] for key in row}


def load_rows(part: str) -> list[dict[str, object]]:
    load = Registry().datasets[part].load
    assert load is not None
    return [dict(row) for row in load(Locations())]


def test_the_package_is_named_as_python_wants_it() -> None:
    assert package_of("My-Model2") == "my_model2"


@pytest.mark.parametrize("name", ["", "2d", "my_model", "a--b", "a-", "é", "a b", "x" * 41, "a/b"])
def test_a_name_that_is_not_possible_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(HarnessError, match="as 'my-model'"):
        package_of(name)


@pytest.mark.parametrize("name", ["class", "Lambda", "tests", "example"])
def test_a_keyword_and_a_folder_of_the_package_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match="cannot name a plugin"):
        package_of(name)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (Kind.BACKBONE, "megnet", "offers a backbone 'megnet' already"),
        (Kind.PROPERTY, "band-gap", "offers a property 'band-gap' already"),
        (Kind.PROPERTY, "Rocksalt", "offers a dataset 'Rocksalt' already"),
        (Kind.HEAD, "megnet", "A plugin called 'megnet' is installed"),
        (Kind.HEAD, "numpy", "can be imported"),
        (Kind.HEAD, "harness", "can be imported"),
        (Kind.HEAD, "json", "can be imported"),
        (Kind.HEAD, "lazy-loader", "can be imported"),
        (Kind.HEAD, "paraisite-harness", "is installed"),
    ],
)
def test_a_name_that_is_taken_is_refused(kind: Kind, name: str, reason: str) -> None:
    with pytest.raises(HarnessError, match=reason):
        check_free(kind, name, package_of(name))


def test_a_distribution_without_a_package_of_its_name_is_not_replaced() -> None:
    assert distribution("pytest-benchmark")
    with pytest.raises(HarnessError, match="'pytest-benchmark' is installed"):
        check_free(Kind.HEAD, "pytest-benchmark", "pytest_benchmark_")


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_what_exists_is_never_written_over(tmp_path: Path, make) -> None:
    make(tmp_path / "mine")
    with pytest.raises(HarnessError, match="exists already"):
        write_plugin(Kind.HEAD, "mine", tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write_text = Path.write_text

    def full_disk(path: Path, *arguments: str, **options: str) -> int:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(HarnessError, match=r"Cannot write .*mine.*No space left"):
        write_plugin(Kind.HEAD, "mine", tmp_path)
    assert len(written) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_new_dataset_can_be_loaded_at_once(plugins: dict[Kind, NewPlugin]) -> None:
    module = plugins[Kind.DATASET].folder / "new_dataset" / "__init__.py"
    dataset = load_dataset("new-dataset", plugins=[module])
    assert len(dataset) == 15
    assert dataset.problems == ()
