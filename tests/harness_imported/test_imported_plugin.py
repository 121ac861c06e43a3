"""Imported datasets arrive as a plugin's; damage is told when it matters and costs no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import DataError, Registry, import_dataset, load_dataset

ROW = (
    '{"id": "a%d", "kappa": %d, "lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], '
    '"species": ["Cs", "Cl"], "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}\n'
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `Damaged` lies, imported beside `Good`."""
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    (tmp_path / "rows.jsonl").write_text("".join(ROW % (i, i + 1) for i in range(200)))
    said: dict[str, Any] = {"unit": "W/(m·K)", "temperature": 300, "method": "measured"}
    for name in ("Good", "Damaged"):
        import_dataset(name, tmp_path / "rows.jsonl", **said)
    return tmp_path / "imports" / "Damaged"


def test_they_are_offered_by_the_plugin_imported(folder: Path) -> None:
    registry = Registry()
    assert registry.datasets.owner("Good") == "imported"
    assert len(load_dataset("Good")) == 200
    assert not registry.broken


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("rows.jsonl.gz", None, r"'Damaged' is damaged.*--replace.*datasets remove Damaged"),
        ("rows.jsonl.gz", b"half", "rows.jsonl.gz cannot be read beyond line"),
        ("card.toml", None, "card.toml does not exist"),
        ("card.toml", b"title = ", "card.toml is malformed"),
        ("card.toml", b"\xff", "card.toml is malformed"),
        (
            "card.toml",
            b'title = "t"\nunit = "eV"',
            "of the dataset 'Damaged': 'eV' is not a unit",
        ),
    ],
)
def test_damage_is_told_when_it_matters(
    file: str, content: bytes | None, message: str, folder: Path, harness
) -> None:
    path = folder / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] if content == b"half" else content)
    with pytest.raises(DataError, match=message):
        load_dataset("Damaged")
    assert len(load_dataset("Good")) == 200
    status, out, err = harness("datasets", "list")
    assert (status, err) == (0, "")
    assert "Good" in out
    assert ("unusable" in out) == (file == "card.toml")
    status, out, _ = harness("datasets", "remove", "Damaged")
    assert status == 0
    assert not folder.exists()


def test_a_name_that_a_plugin_takes_later_is_nobodys_and_the_message_tells_the_way_out(
    folder: Path, tmp_path: Path, harness
) -> None:
    plugin = tmp_path / "later.py"
    plugin.write_text(
        "from pathlib import Path\nfrom harness import DatasetSpec, hookimpl\n\n"
        "@hookimpl\ndef register_datasets():\n"
        "    return [DatasetSpec('Good', Path('card.toml'), load=lambda locations: [])]\n"
    )
    status, _, err = harness("datasets", "list", "--plugin", str(plugin))
    assert status == 2
    assert "Two plugins offer the dataset 'Good': 'imported' and" in err


def test_a_folder_that_cannot_be_listed_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "imports").mkdir()
    monkeypatch.setenv("HARNESS_IMPORTS", str(tmp_path / "imports"))
    monkeypatch.setattr(Path, "iterdir", refuse)
    registry = Registry()
    assert "Experiment" in registry.datasets
    (broken,) = registry.broken
    assert broken.name == "imported"
    assert "Permission denied" in broken.problem
