"""The registry checks what pluggy does not: names, types, markers, and plugins that break."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from harness.errors import PluginError
from harness.plugin.hookspecs import hookimpl
from harness.registry.registry import Registry


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
        from harness.plugin import MetricSpec, hookimpl

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
        from harness.plugin import hookimpl

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
        from harness.plugin import hookimpl

        @hookimpl
        def register_heads():
            return ["mlp"]
    """)
    with pytest.raises(PluginError, match=r"mine.py.*register_heads\(\) must return HeadSpec"):
        Registry([path])


def test_a_duplicate_name_names_both_plugins(plugin_file) -> None:
    path = plugin_file("""
        from harness.plugin import MetricSpec, hookimpl

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
        from harness.plugin import hookimpl

        @hookimpl
        def epoch_finished(report):
            pass
    """)
    with pytest.raises(PluginError, match=r"mine.py.*epoch_finished\(report\) must take 'event'"):
        Registry([path])


def test_an_offer_takes_no_argument(plugin_file) -> None:
    path = plugin_file("""
        from harness.plugin import hookimpl

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


# --- installed plugins ---------------------------------------------------------------------------

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a one-module distribution, with its entry point, for as long as the test runs."""
    modules: list[str] = []

    def go(name: str, text: str, entry: str = "", module: str = "") -> None:
        module = module or f"{name}_plugin"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(dedent(text))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[harness]\n{entry or name} = {module}\n")
        monkeypatch.syspath_prepend(str(tmp_path))

    yield go
    for module in modules:
        sys.modules.pop(module, None)


HEADER = """
from pathlib import Path
from harness.plugin import Card, DatasetSpec, HeadSpec, MetricSpec, Settings, hookimpl

def bias(targets, predictions):
    return float((predictions - targets).mean())
"""
METRICS = "\n@hookimpl\ndef register_metrics():\n    "


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("import not_installed_anywhere", r"ModuleNotFoundError: .*sick_plugin\.py, line 8\)"),
        ("from harness import Bakcbone", r"(Import|Attribute)Error: .*sick_plugin\.py, line 8\)"),
        ("x = = 1", r"SyntaxError: .*sick_plugin\.py, line 8\)"),
        ("raise SystemExit(3)", r"SystemExit: 3 .*sick_plugin\.py, line 8\)"),
        ("HeadSpec('h', '', Settings)", r"PluginError: .*neither.*sick_plugin\.py, line 8\)"),
        (METRICS + "1 / 0", r"register_metrics\(\) raised ZeroDivis.*sick_plugin\.py, line 11\)"),
        (METRICS + "raise SystemExit", r"raised SystemExit \(.*sick_plugin\.py, line 11\)"),
        (
            METRICS + "return [HeadSpec('h', '', Settings)]",
            r"raised PluginError: .*neither.*sick_plugin\.py, line 11\)",
        ),
        (METRICS + "yield 3", r"must return MetricSpec objects, but returned int.*line 9\): 3"),
        (
            METRICS + "return None",
            r"must return MetricSpec objects, but returned NoneType.*line 9",
        ),
        (METRICS.replace("@hookimpl", ""), r"without the marker \(.*sick_plugin\.py, line 10\)"),
        (METRICS.replace("()", "(x)"), r"must take no argument \(.*sick_plugin\.py, line 9\)"),
        (
            METRICS.replace("metrics", "metric"),
            r"is no hook \(.*plugin\.py, line 9\).*Did you",
        ),
        (METRICS + "yield MetricSpec('', '', '', False, bias)", r"name = '': expected a name of"),
        (
            METRICS + "yield MetricSpec(3, '', '', False, bias)",
            r"name = 3: .*\.py, line 9\)",
        ),
        (METRICS + "yield MetricSpec('a b', '', '', False, bias)", r"name = 'a b': expected"),
        (METRICS + "yield MetricSpec('a', '', '', False, None)", r"function = None: .* a function"),
        (METRICS + "yield MetricSpec('a', '', '', False)", r"function = '': .* a function"),
        (METRICS + "yield MetricSpec('a', '', '', False, 'bias')", r"= 'bias': .*module:Name'"),
        (METRICS + "yield MetricSpec('a', '', '', False, bias, 0)", r"revision = 0: .* 1 or more"),
        (
            METRICS.replace("metrics", "heads")
            + "yield HeadSpec('h', '', fit=bias, space={'k': 3})",
            r"space = .'k': 3.: expected ranges by name, as \{'lr': Range\(",
        ),
        (
            METRICS.replace("metrics", "datasets") + "DatasetSpec('D', Card(title='D'))",
            r"ValidationError: (.|\n)*unit\n  Field required",
        ),
        (
            METRICS + "yield from 2 * [MetricSpec('twin', '', '', False, bias)]",
            r"offers the name 'twin' twice \(.*sick_plugin\.py, line 9\)",
        ),
        (
            METRICS.replace("metrics", "heads") + "yield HeadSpec('h', '', dict, make=bias)",
            r"'h' with settings = <class 'dict'>: expected a subclass of harness.plugin.Settings",
        ),
        (
            METRICS.replace("metrics", "datasets") + "yield DatasetSpec('D', 'd.toml', bias)",
            r"'D' with card = 'd.toml': expected a harness.plugin.Card, or a pathlib.Path",
        ),
        (
            METRICS.replace("metrics", "datasets") + "yield DatasetSpec('D', Path(), parts='AB')",
            r"'D' with parts = 'AB': expected a tuple of names",
        ),
    ],
)
def test_whatever_an_installed_plugin_does_the_harness_starts_and_says_where(
    install: Install, rest: str, problem: str
) -> None:
    if rest.endswith("\n    "):
        rest += "return []"
    install("sick", f"{HEADER}\n{rest}\n")
    registry = Registry()
    assert "megnet" in registry.backbones
    (broken,) = registry.broken
    assert broken.name == "sick"
    assert re.search(problem, broken.problem), broken.problem
    with pytest.raises(
        PluginError, match=r"Unknown metric 'sickness'(.|\n)*failed to load: sick: "
    ):
        registry.metrics["sickness"]


def test_a_plugin_that_breaks_halfway_leaves_nothing_behind(install: Install) -> None:
    text = HEADER + METRICS + "return [MetricSpec('bias', '', '', False, bias)]\n"
    install("sick", text + METRICS.replace("metrics", "datasets") + "1 / 0\n")
    registry = Registry()
    assert [plugin.name for plugin in registry.broken] == ["sick"]
    assert "bias" not in registry.metrics
    assert not registry.manager.has_plugin("sick")


def test_an_entry_point_that_leads_nowhere_is_broken(install: Install, tmp_path: Path) -> None:
    install("sick", "", module="no_plugin")
    (tmp_path / "no_plugin.py").unlink()
    assert "No module named 'no_plugin'" in Registry().broken[0].problem


@pytest.mark.parametrize("value", ["not a module!", "no_plugin:missing"])
def test_an_entry_point_that_names_nothing_is_broken(
    install: Install, tmp_path: Path, value: str
) -> None:
    install("sick", "", module="no_plugin")
    (tmp_path / "sick-1.0.dist-info" / "entry_points.txt").write_text(
        f"[harness]\nsick = {value}\n"
    )
    assert [plugin.name for plugin in Registry().broken] == ["sick"]


def offer(*names: str) -> str:
    specs = ", ".join(f"MetricSpec({name!r}, '', '', False, bias)" for name in names)
    return f"{HEADER}{METRICS}return [{specs}]\n"


def test_a_name_that_two_installed_plugins_offer_is_neithers(install: Install) -> None:
    install("one", offer("bias", "one"))
    install("two", offer("two", "bias"))
    registry = Registry()
    assert not registry.broken
    assert "bias" not in registry.metrics
    assert {"one", "two"} <= set(registry.metrics)
    remedy = r"Two plugins offer the metric 'bias': 'one' and 'two'. Uninstall all but one, or"
    with pytest.raises(PluginError, match=remedy):
        registry.metrics["bias"]
    assert list(registry.metrics.contested) == ["bias"]


def test_three_plugins_that_offer_a_name_are_all_named(install: Install) -> None:
    for name in ("one", "two", "six"):
        install(name, offer("bias"))
    with pytest.raises(PluginError, match=r"3 plugins offer .*'bias': 'one', 'six' and 'two'"):
        Registry().metrics_of("thermal-conductivity")["bias"]


def test_a_plugin_file_may_not_take_a_contested_name(install: Install, plugin_file) -> None:
    install("one", offer("bias"))
    install("two", offer("bias"))
    with pytest.raises(PluginError, match=r"3 plugins offer the metric 'bias': 'one', 'two' and"):
        Registry([plugin_file(offer("bias"))])


def test_two_distributions_may_call_their_plugins_by_one_name(install: Install) -> None:
    """`metrics` is what one of the built-in plugins is called, too."""
    install("other", offer("bias"), entry="metrics")
    registry = Registry()
    assert registry.metrics.owner("mape") == "metrics"
    assert registry.metrics.owner("bias") == "metrics (other)"
    assert "metrics" in registry.built_in
    assert "metrics (other)" not in registry.built_in


def test_one_module_is_one_plugin(install: Install) -> None:
    install("one", offer("bias"))
    install("two", offer("bias"), module="one_plugin")
    registry = Registry()
    assert registry.metrics.owner("bias") == "one"
    assert [(plugin.name, plugin.problem) for plugin in registry.broken] == [
        ("two", "Plugin 'two' is registered already, as 'one'.")
    ]


@pytest.mark.parametrize("end", ["raise SystemExit(0)", "register_metrics = 1", METRICS + "1 / 0"])
def test_a_plugin_file_that_is_named_must_be_well(plugin_file, end: str) -> None:
    with pytest.raises(PluginError, match=r"mine\.py"):
        Registry([plugin_file(f"{HEADER}\n{end}\n")])
