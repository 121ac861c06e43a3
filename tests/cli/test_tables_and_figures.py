"""`harness table`, `plot`, `compare` and `submission`, as a user would run them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import api
from harness.cli.plot import inches_of
from harness.errors import BenchmarkError

BENCHMARK = """
title = "A toy"
train_on = ["Toy"]
test_on = ["Toy", "Twins"]
backbones = ["tiny"]
baselines = [{ backbone = "tiny", head = "nearest" }]
heads = [{ name = "mlp", hidden = [8] }]
runs = 2
metrics = ["mae-log", "mape"]

[training]
epochs = 2
loss = "mae-log"
"""
CARD = """
name = "ada"
title = "A small network"
authors = ["Ada"]
summary = "For tests."
licence = "CC0-1.0"
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> str:
    folder = tmp_path_factory.mktemp("cli") / "toy"
    folder.mkdir()
    (folder / "benchmark.toml").write_text(BENCHMARK)
    api.run(folder, plugins=[tiny])
    return str(folder)


def test_a_table_is_turned_at_will(harness: Call, toy: str) -> None:
    arguments = ("--rows", "test-on", "--columns", "transfer", "--metric", "mape", "--n")
    status, out, _ = harness("table", toy, *arguments)
    assert status == 0
    assert "A toy. MAPE (lower is better), mean (std) over 2 runs. Everywhere: " in out
    (head,) = (line for line in out.splitlines() if line.split()[-2:-1] == ["baseline"])
    assert head.split()[0] == "test_on"
    assert head.split()[-2:] == ["baseline", "scratch"]
    assert ", n " in out


def test_a_table_comes_in_other_forms(harness: Call, toy: str, tmp_path: Path) -> None:
    _, out, _ = harness("table", toy, "--format", "latex")
    assert out.startswith("% needs \\usepackage{booktabs,graphicx}")
    for name, begins in (("t.html", "<!doctype"), ("t.tex", "% needs"), ("t.csv", "model")):
        status, out, _ = harness("table", toy, "--to", str(tmp_path / name))
        assert (status, out) == (0, f"Written: {tmp_path / name}\n")
        assert (tmp_path / name).read_text().startswith(begins)


def test_wrong_wishes_for_a_table_are_refused(harness: Call, toy: str, tmp_path: Path) -> None:
    for arguments, said in (
        (("--to", str(tmp_path / "t.doc")), "no form of table has the suffix '.doc'"),
        (("--to", str(tmp_path / "absent" / "t.md")), "Cannot write results to"),
        (("--format", "excel"), "No form of table 'excel'"),
        (("--rows", "transfers"), "Did you mean 'transfer'"),
        (("--only", "transfer"), "expected column=value"),
    ):
        status, out, err = harness("table", toy, *arguments)
        assert (status, out) == (2, "")
        assert said in err
    assert list(tmp_path.iterdir()) == []


def test_results_are_found_by_name(
    harness: Call, toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their benchmark file, and so with the published cells that it names; or without."""
    folder = tmp_path / "leaderboards" / "toy"
    shutil.copytree(toy, folder)
    published = "transfer,train_on,test_on,metric,mean,std\nscratch,Toy,Toy,mae-log,0.3,0.1\n"
    (folder / "known.csv").write_text(published)
    text = 'published = "known.csv"\n' + (folder / "benchmark.toml").read_text()
    (folder / "benchmark.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert "published | ours" in harness("table", "toy")[1]
    assert "Beside the published study" in (folder / "table.md").read_text()
    (folder / "benchmark.toml").unlink()
    status, out, _ = harness("table", "toy")
    assert status == 0
    assert "published | ours" not in out


def test_a_figure_goes_beside_the_results_or_where_it_is_wanted(
    harness: Call, toy: str, tmp_path: Path
) -> None:
    status, out, _ = harness("plot", "loss", toy)
    assert (status, out) == (0, f"Written: {Path(toy) / 'figures' / 'loss.png'}\n")
    assert (Path(toy) / "figures" / "loss.png").read_bytes().startswith(b"\x89PNG")
    wanted = [tmp_path / "f.svg", tmp_path / "f.pdf"]
    arguments = [part for path in wanted for part in ("--to", str(path))]
    assert harness("plot", "heatmap", toy, *arguments)[0] == 0
    assert all(path.stat().st_size > 1000 for path in wanted)


@pytest.mark.parametrize(("length", "inches"), [("3.4in", 3.4), ("86mm", 3.386), ("8.6 cm", 3.386)])
def test_the_width_of_a_figure_is_a_length(length: str, inches: float) -> None:
    assert inches_of(length) == pytest.approx(inches, abs=1e-3)


@pytest.mark.parametrize("length", ["3.4", "wide", "-3in", "1mm", "3.4 miles", ""])
def test_what_is_no_width_is_refused_with_an_example(length: str) -> None:
    with pytest.raises(BenchmarkError, match=r"expected a length with its unit, as 3\.4in"):
        inches_of(length)


def test_a_figure_that_there_is_not_is_named(harness: Call, toy: str) -> None:
    status, _, err = harness("plot", "heatmaps", toy)
    assert status == 2
    assert "No figure 'heatmaps'. Did you mean 'heatmap'" in err
    status, _, err = harness("plot", "gain", toy, toy)
    assert "shows one leaderboard; 2 are given" in err


def test_configurations_are_compared(harness: Call, toy: str) -> None:
    sides = ("--a", "transfer=baseline", "--a", "head=nearest", "--b", "transfer=scratch")
    status, out, _ = harness("compare", toy, toy, *sides)
    assert status == 0
    assert "a is toy (transfer baseline, head nearest), b is toy (transfer scratch)" in out
    assert "2 cells in common, 2 tested" in out
    _, out, _ = harness("compare", toy, toy, *sides, "--json")
    cells = json.loads(out)["cells"]
    assert all(sorted((*c["for_a"], *c["for_b"], *c["equal"])) == [1, 2] for c in cells)
    status, _, err = harness("compare", toy, toy, "--a", "head=nearest", "--a", "head=mlp")
    assert status == 2
    assert "A side has one head" in err


def test_a_submission_is_packed_checked_and_merged(
    harness: Call, toy: str, tiny: Path, tmp_path: Path
) -> None:
    card, folder = tmp_path / "ada.toml", tmp_path / "ada"
    card.write_text(CARD)
    status, out, _ = harness("submission", "pack", toy, "--card", str(card), "--to", str(folder))
    assert status == 0
    assert f"Try it: harness submission check {folder}" in out
    status, out, _ = harness("submission", "check", str(folder), "--plugin", str(tiny))
    assert status == 0
    assert out.splitlines()[-1].startswith("Everything that is kept agrees. ")
    many = str(tmp_path / "many")
    status, out, _ = harness("submission", "merge", str(folder), "--into", many)
    assert status == 0
    assert "many: 1 submission. MAE log₁₀ κ" in out
    assert harness("table", many)[0] == 0
    (folder / "extra.py").write_text("")
    status, out, _ = harness("submission", "check", str(folder))
    assert status == 1
    assert "DIFFERS: extra.py does not belong in a submission" in out
    status, out, _ = harness("submission", "merge", str(folder), "--into", str(tmp_path / "two"))
    assert status == 1
    assert not (tmp_path / "two").exists()
