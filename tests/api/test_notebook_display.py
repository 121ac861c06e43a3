"""What a notebook shows of the things that one holds: a line in lists, a table alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import load_bundle, load_dataset
from harness.api import compare, read_leaderboard, run, table

HOSTILE = "<script>alert(1)</script>"
BENCHMARK = f"""
title = "{HOSTILE}"
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
heads = [{{ name = "mlp", hidden = [8] }}]
runs = 2
metrics = ["mae-log"]

[training]
epochs = 1
"""


@pytest.fixture
def shown(tmp_path: Path, tiny: Path, toy_bundle: Path):
    """Things that one has in a notebook, with a word that stands in their table."""
    (tmp_path / "benchmark.toml").write_text(BENCHMARK)
    run(tmp_path, plugins=[tiny])
    leaderboard = read_leaderboard(tmp_path)
    only = {"transfer": "scratch"}
    return [
        (leaderboard, "Twins"),
        (table(leaderboard), "Twins"),
        (compare(tmp_path, tmp_path, only_a=only, only_b=only), "same configuration"),
        (load_dataset("Experiment"), "AlSb"),
        (load_bundle(toy_bundle, plugins=[tiny]), "tested on"),
    ]


def test_each_is_a_table_by_itself_and_a_line_in_a_list(shown) -> None:
    for thing, word in shown:
        html = thing._repr_html_()
        assert html.count("<table") == html.count("</table>") == 1
        assert word in html
        assert HOSTILE not in html
        assert len(repr(thing)) < 160
        assert "\n" not in repr(thing)
        assert repr(thing).startswith(f"<{type(thing).__name__} ")
