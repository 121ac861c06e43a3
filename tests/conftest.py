"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the mirrored data of others, or a skip that says why."""
    if not SHARED.is_dir():
        pytest.skip("the mirrored data folder ../shared is absent")
    return SHARED
