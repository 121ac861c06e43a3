"""A backbone made from a file of weights: where it is looked for, and what depends on that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import api
from harness.apps.predict import predicting
from harness.apps.predict.bundle import load_bundle
from harness.errors import PluginError, WeightsError
from harness.planning.benchmark import Benchmark
from harness.planning.chosen_settings import Setting
from harness.planning.configurations import reconfigure
from harness.plugin import Locations
from harness.registry.registry import Registry
from harness.testing import BackboneCases
from tests.conftest import ridge_benchmark

WEIGHED = Path(__file__).resolve().parents[1] / "plugins" / "weighed.py"
FILE = "numbers.json"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "weights")


def put(folder: Path, content: str = "[1.0, 0.5]") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(content)
    return folder


def benchmark(weights: str = FILE, **changes: Any) -> Benchmark:
    weighed = {"name": "weighed", "weights": weights, "seen": "Source"}
    return ridge_benchmark("weighed", **{"backbones": [weighed], **changes})


@pytest.fixture
def prepare(tiny: Path) -> Callable[..., Any]:
    def lay_out(weights: str = FILE, weights_dir: Path | None = None, **changes: Any) -> Any:
        asked, registry = benchmark(weights, **changes), Registry([tiny, WEIGHED])
        return api.prepare(asked, weights_dir=weights_dir, registry=registry)

    return lay_out


def found(planned: Any) -> Path:
    return planned.stages[0].weights.path


def test_it_is_found_in_the_folder_that_is_named(prepare: Any, folder: Path) -> None:
    (stage,) = prepare(weights_dir=folder).stages
    assert (stage.weights.name, stage.weights.seen) == (FILE, "Source")
    assert stage.weights.path == folder / FILE


def test_folders_come_in_order_before_the_one_where_the_work_is_done(
    prepare: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = put(Path.cwd())
    assert found(prepare()) == here / FILE
    other = put(tmp_path / "other")
    monkeypatch.setenv("HARNESS_WEIGHTS", str(other))
    assert found(prepare()) == other / FILE
    assert found(prepare(weights_dir=folder)) == folder / FILE
    assert found(prepare(str(here / FILE), weights_dir=folder)) == here / FILE


def test_a_missing_file_names_all_places_and_the_remedy(
    prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    monkeypatch.setenv("HARNESS_WEIGHTS", str(two))
    places = f"{one / FILE}, {two / FILE}, {FILE}. Put the file in a folder that --weights-dir or"
    with pytest.raises(WeightsError, match=f"'{FILE}' not found. Looked for: {places}"):
        prepare(weights_dir=one)


def test_keys_depend_on_what_is_in_it_wherever_it_lies(
    prepare: Any, folder: Path, tmp_path: Path
) -> None:
    def key(*where: Any) -> str:
        (stage,) = prepare(*where).stages
        return stage.key

    same, other = put(tmp_path / "same"), put(tmp_path / "other", "[1.0, 0.7]")
    assert key(FILE, folder) == key(FILE, same) == key(str(folder / FILE))
    assert key(FILE, folder) != key(FILE, other)


def test_a_file_that_was_edited_is_another_one(prepare: Any, folder: Path) -> None:
    before = prepare(weights_dir=folder).stages[0].key
    put(folder, "[1.0, 0.25, 3.0]")
    assert prepare(weights_dir=folder).stages[0].key != before


def test_backbones_that_others_are_made_of_find_theirs(prepare: Any, folder: Path) -> None:
    parts = [{"name": "weighed", "weights": FILE, "power": power} for power in (1.0, 2.0)]
    concat = [{"name": "concat", "of": parts}]
    (stage,) = prepare(weights_dir=folder, backbones=concat).stages
    assert stage.model.backbone.width == 4
    with pytest.raises(WeightsError, match="not found"):
        prepare(backbones=concat)


def test_settings_that_a_search_has_chosen_find_theirs(
    prepare: Any, folder: Path, tiny: Path
) -> None:
    planned, registry = prepare(weights_dir=folder), Registry([tiny, WEIGHED])
    setting = Setting(backbone={"power": 2.0})
    changed = reconfigure(planned.configurations[0], setting, registry, planned.locations)
    assert changed.model.settings["backbone"][1]["power"] == 2.0
    with pytest.raises(WeightsError, match="not found"):
        reconfigure(planned.configurations[0], setting, registry, Locations())


def test_without_a_name_the_backbone_is_given_none(prepare: Any) -> None:
    with pytest.raises(PluginError, match="name a file"):
        prepare("")


@pytest.mark.parametrize("named", [FILE, "{folder}/" + FILE])
def test_a_table_is_verified_and_a_bundle_predicts_from_any_folder(
    named: str, folder: Path, tiny: Path, tmp_path: Path, harness: Any
) -> None:
    out, plugins, asked = tmp_path / "out", [tiny, WEIGHED], benchmark(named.format(folder=folder))
    leaderboard = api.run(asked, out=out, weights_dir=folder, plugins=plugins)
    assert not leaderboard.failed
    moved = folder.rename(tmp_path / "moved")
    verified = api.verify(out, weights_dir=moved, plugins=plugins, deep=True)
    assert not verified.differences
    bundle = tmp_path / "bundle"
    predicting.export(out, "transfer=fixed", bundle, weights_dir=moved, plugins=plugins)
    assert len(load_bundle(bundle, weights_dir=moved, plugins=plugins).record.runs) == 2
    poscar = tmp_path / "POSCAR"
    poscar.write_text("salt\n5.6\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    command = ["predict", str(poscar), "-b", str(bundle), *(f"--plugin={p}" for p in plugins)]
    assert harness(*command, "--weights-dir", str(moved))[0] == 0
    status, _, told = harness(*command)
    assert status == 2
    assert "Put the file in a folder that --weights-dir" in " ".join(told.split())


def test_a_setting_that_does_not_exist_is_the_plugins_fault(tmp_path: Path) -> None:
    plugin = tmp_path / "misspelt.py"
    plugin.write_text(WEIGHED.read_text().replace('weights_in="weights"', 'weights_in="weight"'))
    with pytest.raises(PluginError, match=r"weights_in = 'weight'.* Did you mean 'weights'"):
        Registry([plugin])


class TestPromises(BackboneCases):
    """The conformance cases find the file where the harness does."""

    @pytest.fixture
    def spec(self, folder: Path) -> Any:
        self.settings = {"weights": FILE}
        self.locations = Locations(weights=(folder,))
        return Registry([WEIGHED]).backbones["weighed"]
