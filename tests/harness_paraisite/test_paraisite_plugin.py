"""The plugin is light, and its cards say what its datasets are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness_paraisite import register_datasets, register_protocols

SPECS = {spec.name: spec for spec in register_datasets()}


def test_it_offers_the_four_datasets_and_the_protocol():
    assert set(SPECS) == {"Dataset1", "Dataset2", "MIX", "AFLOW"}
    assert [spec.name for spec in register_protocols()] == ["published"]


def test_mix_is_made_of_its_parts():
    assert SPECS["MIX"].parts == ("Dataset1", "Dataset2")
    assert SPECS["MIX"].load is None


@pytest.mark.parametrize(
    ("name", "rows"), [("Dataset1", 95), ("Dataset2", 143), ("MIX", 238), ("AFLOW", 5578)]
)
def test_cards_hold_the_published_facts(name, rows):
    card = SPECS[name].read_card()

    assert card.rows == rows
    assert card.unit == "W/(m·K)"
    assert "2411.18259" in card.citation
    assert len(card.files) == 2


def test_the_aflow_card_says_how_many_rows_the_mirror_has():
    assert "3,318" in SPECS["AFLOW"].read_card().notes


def test_importing_the_plugin_loads_nothing_heavy():
    heavy = "torch pymatgen pandas optuna matgl pooch requests"
    code = (
        "import sys, harness_paraisite as p; list(p.register_datasets()); "
        "list(p.register_protocols()); "
        f"print([m for m in {heavy.split()!r} if m in sys.modules])"
    )

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
