"""The registry checks what pluggy does not: names, types, markers, and plugins that break."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from harness.errors import PluginError
from harness.hookspecs import hookimpl
from harness.registry import Registry


@pytest.fixture
def plugin_file(tmp_path: Path):
    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(dedent(text))
        return path

    return write


def test_built_in_plugins_offer_what_the_readme_names() -> None:
    registry = Registry()
    assert not registry.broken
    assert {"Dataset1", "Dataset2", "MIX", "AFLOW", "Experiment"} <= set(registry.datasets)
    assert "megnet" in registry.backbones
    assert "mlp" in registry.heads
    assert {"scratch", "pretrained", "two-stage"} <= set(registry.transfers)
    assert {"published", "strict"} <= set(registry.protocols)
    assert registry.datasets.owner("MIX") == "paraisite"


def test_a_plugin_file_is_loaded(plugin_file) -> None:
    path = plugin_file("""
        from harness import MetricSpec, hookimpl

        @hookimpl
        def register_metrics():
            return [MetricSpec("bias", "bias", "", False, lambda t, p: float((p - t).mean()))]
    """)
    assert Registry([path]).metrics["bias"].title == "bias"


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(PluginError, match=r"Unknown backbone 'megnett'. Did you mean 'megnet'"):
        Registry().backbones["megnett"]


def test_a_misspelt_hook_is_refused(plugin_file) -> None:
    path = plugin_file("""
        from harness import hookimpl

        @hookimpl
        def register_dataset():
            return []
    """)
    with pytest.raises(PluginError, match=r"'register_dataset', which is no hook.*register_data"):
        Registry([path])


def test_a_hook_without_its_marker_is_refused(plugin_file) -> None:
    path = plugin_file("def register_datasets():\n    return []\n")
    with pytest.raises(PluginError, match=r"'register_datasets' without the marker.*@hookimpl"):
        Registry([path])


def test_a_wrong_type_is_refused_naming_plugin_and_hook(plugin_file) -> None:
    path = plugin_file("""
        from harness import hookimpl

        @hookimpl
        def register_heads():
            return ["mlp"]
    """)
    with pytest.raises(PluginError, match=r"mine.py.*register_heads\(\) must return HeadSpec"):
        Registry([path])


def test_a_duplicate_name_names_both_plugins(plugin_file) -> None:
    path = plugin_file("""
        from harness import MetricSpec, hookimpl

        @hookimpl
        def register_metrics():
            return [MetricSpec("mape", "again", "", False, max)]
    """)
    with pytest.raises(PluginError, match=r"Two plugins offer the metric 'mape': 'metrics' and"):
        Registry([path])


def test_a_plugin_file_that_raises_is_named_with_file_and_line(plugin_file) -> None:
    path = plugin_file("x = 1\nraise RuntimeError('no luck')\n")
    with pytest.raises(PluginError, match=r"mine.py failed: RuntimeError: no luck \(.*line 2\)"):
        Registry([path])


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"nowhere.py does not exist"):
        Registry([tmp_path / "nowhere.py"])


def test_an_installed_plugin_that_raises_costs_nothing_until_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sick_plugin.py").write_text("import not_installed_anywhere\n")
    info = tmp_path / "sick-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sick\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nsick = sick_plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    registry = Registry()

    assert "megnet" in registry.backbones
    assert [broken.name for broken in registry.broken] == ["sick"]
    with pytest.raises(PluginError, match=r"sick: ModuleNotFoundError.*sick_plugin.py, line 1"):
        registry.backbones["sicknet"]


def test_a_hook_with_other_arguments_is_refused_naming_plugin_and_argument(plugin_file) -> None:
    path = plugin_file("""
        from harness import hookimpl

        @hookimpl
        def epoch_finished(report):
            pass
    """)
    with pytest.raises(PluginError, match=r"mine.py.*epoch_finished\(report\) must take 'event'"):
        Registry([path])


def test_an_offer_takes_no_argument(plugin_file) -> None:
    path = plugin_file("""
        from harness import hookimpl

        @hookimpl
        def register_heads(registry):
            return []
    """)
    with pytest.raises(PluginError, match=r"register_heads\(registry\) must take no argument"):
        Registry([path])


class Observer:
    @hookimpl
    def stage_finished(self, event: object) -> None:
        """Looks on."""


class Misspelt:
    @hookimpl
    def stage_ended(self, event: object) -> None:
        """Is never called."""


class Unmarked:
    def stage_finished(self, event: object) -> None:
        """Is never called."""


class Differing:
    @hookimpl
    def stage_finished(self, stage: object) -> None:
        """Cannot be called."""


def test_observers_are_added_even_two_of_a_class() -> None:
    registry = Registry()
    registry.add_observer(Observer())
    registry.add_observer(Observer())
    assert len(registry.manager.hook.stage_finished.get_hookimpls()) == 2


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (Misspelt(), r"Misspelt.*'stage_ended', which is no hook"),
        (Unmarked(), r"Unmarked.*'stage_finished' without the marker"),
        (Differing(), r"Differing.*stage_finished\(stage\) must take 'event'"),
        (Observer, r"Observer.*stage_finished\(self, event\) must take 'event'"),
        (print, r"print> has no hook.*epoch_finished"),
    ],
)
def test_an_observer_is_checked_like_a_plugin(observer: object, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        Registry().add_observer(observer)
