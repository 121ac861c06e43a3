"""Functions of specs may be given as text, and are then imported when they are called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import PluginError
from harness.plugin import BackboneSpec, HeadSpec
from harness.registry.attribution import blaming
from harness.registry.plugin_calls import call, defined_at
from harness.registry.registry import Registry

HOOK = """
from harness.plugin import HeadSpec, hookimpl


@hookimpl
def register_heads():
    return [HeadSpec("mine", "for tests", fit="{text}")]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`text_target`, a module that can be imported and was not yet."""
    path = tmp_path / "text_target.py"
    path.write_text("answer = 42\n\n\ndef fit(settings, rows):\n    return lambda rows: rows\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("text_target", None)


def ask(text: str, folder: Path) -> object:
    """Fits the head of a plugin, as the trainer does."""
    path = folder / "plugin.py"
    path.write_text(HOOK.format(text=text))
    registry = Registry([path])
    with blaming(registry):
        return call(registry.heads["mine"].fit, None, None, action="fitting", returns=object)


def test_a_function_given_as_text_is_imported_when_it_is_called(
    module: Path, tmp_path: Path
) -> None:
    spec = HeadSpec("mine", "for tests", fit="text_target:fit")
    assert "text_target" not in sys.modules
    assert callable(ask("text_target:fit", tmp_path))
    assert "text_target" in sys.modules
    assert defined_at(spec.fit) == f"{module}, line 4"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text_targt:fit", r"there is no module 'text_targt'"),
        ("text_target.deep:fit", r"there is no module 'text_target.deep'"),
        ("text_target:fitt", r"nothing there is called 'fitt'.*Did you mean 'fit'"),
        ("text_target:answer", r"int cannot be called"),
    ],
)
def test_wrong_text_is_told_with_plugin_spec_and_text(
    module: Path, tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(PluginError) as told:
        ask(text, tmp_path)
    said = str(told.value)
    for part in (str(tmp_path / "plugin.py"), "HeadSpec 'mine', fit", repr(text)):
        assert part in said
    assert told.match(problem)


def test_what_the_module_itself_lacks_is_told_as_that(module: Path, tmp_path: Path) -> None:
    module.write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        HeadSpec("mine", "for tests", fit="text_target:fit").fit(None, None)


def test_settings_may_be_left_out() -> None:
    settings = BackboneSpec("mine", "for tests", make=print).settings()
    assert settings.model_dump() == {}
