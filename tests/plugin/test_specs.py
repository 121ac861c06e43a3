"""Specs that cannot work are refused when they are made."""

from __future__ import annotations

import pytest

from harness.errors import PluginError
from harness.plugin.head import HeadSpec
from harness.plugin.settings import Settings
from harness.plugin.transfer import Stage


def test_an_unknown_start_of_a_stage_is_refused() -> None:
    expected = r"'AFLOW' starts from 'pretrain'. Known: random, pretrained, previous"
    with pytest.raises(PluginError, match=expected):
        Stage("AFLOW", "pretrain")  # type: ignore[arg-type]


def test_a_head_is_trained_or_fitted_and_not_both() -> None:
    with pytest.raises(PluginError, match=r"'mine' gives neither of `make`"):
        HeadSpec("mine", "", Settings)
    with pytest.raises(PluginError, match=r"'mine' gives both of `make`"):
        HeadSpec("mine", "", Settings, make=lambda *_: None, fit=lambda *_: None)
    assert HeadSpec("mine", "", Settings, fit=lambda *_: None).make is None
