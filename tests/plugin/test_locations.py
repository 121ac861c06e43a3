"""Folders: those named must exist; what counts as offline."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DataError, WeightsError
from harness.plugin.locations import Locations


@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("true", True), ("0", False), ("False", False), ("", False)]
)
def test_offline_is_a_switch(value: str, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_OFFLINE", value)
    assert Locations().offline is offline


def test_a_named_folder_comes_first_and_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", "elsewhere")
    assert Locations.of(tmp_path).data == (tmp_path, Path("elsewhere"))
    with pytest.raises(DataError, match=r"datasets, .*missing, does not exist: correct --data-dir"):
        Locations.of(tmp_path / "missing")
    with pytest.raises(WeightsError, match=r"weights, .*missing, does not exist"):
        Locations.of(None, tmp_path / "missing")
