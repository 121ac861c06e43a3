"""`harness plugins new`: what it writes, what it says, and how it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from harness.apps.scaffold import Kind


@pytest.fixture
def new(harness):
    return partial(harness, "plugins", "new")


@pytest.mark.parametrize("kind", Kind)
def test_it_writes_a_package_where_it_is_told_and_lists_its_files(
    new, kind: Kind, tmp_path: Path
) -> None:
    status, out, err = new(kind, "my-thing", "--dir", str(tmp_path))
    assert (status, err) == (0, "")
    files = [path for path in (tmp_path / "my-thing").rglob("*") if path.is_file()]
    assert {"pyproject.toml", "README.md", "test_my_thing.py"} <= {path.name for path in files}
    listed = {line.strip() for line in out.splitlines()}
    assert {str(path.relative_to(tmp_path / "my-thing")) for path in files} <= listed


def test_it_writes_into_the_current_folder_unless_told(
    new, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new("head", "my-head")[0] == 0
    assert (tmp_path / "my-head" / "my_head" / "__init__.py").is_file()


def test_it_says_what_to_do_next(new, tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    _, out, _ = new("metric", "my-metric", "--dir", str(folder))
    steps = [line.strip() for line in out.partition("Try it:")[2].splitlines() if line.strip()]
    assert steps == [
        f"cd '{folder / 'my-metric'}'",
        "pip install -e '.[test]'",
        "pytest",
        "harness plugins check my-metric",
        "harness run example",
        "In a benchmark file:",
        'metrics = ["my-metric", "mae-log"]',
    ]


def test_an_unknown_kind_lists_the_kinds(new) -> None:
    status, _, err = new("heads", "mine")
    assert status == 2
    assert all(kind in err for kind in Kind)


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("head", "2d", "'2d' cannot name a plugin"),
        ("head", "mlp", "offers a head 'mlp' already"),
        ("head", "numpy", "'numpy' can be imported"),
        ("head", "taken", "exists already"),
    ],
)
def test_it_refuses_with_status_2_and_writes_nothing(
    new, kind: str, name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    status, out, err = new(kind, name, "--dir", str(tmp_path))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert reason in err
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]


def test_a_folder_that_does_not_exist_is_named(new, tmp_path: Path) -> None:
    status, _, err = new("head", "mine", "--dir", str(tmp_path / "nowhere"))
    assert status == 2
    assert "nowhere" in "".join(letter for letter in err if letter.isalnum()), "it is wrapped"
