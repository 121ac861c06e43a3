"""All that authors import is there when it is asked for, types of arrays included."""

from __future__ import annotations

import harness
from harness import plugin


def test_every_name_can_be_imported() -> None:
    assert all(getattr(plugin, name) is not None for name in dir(plugin))
    assert {"Floats", "Indices", "Range", "Choice", "Card"} <= set(dir(plugin))


def test_plugins_written_for_the_one_facade_still_find_their_names() -> None:
    assert getattr(harness, "HeadSpec") is plugin.HeadSpec  # noqa: B009 (not for type checkers)
