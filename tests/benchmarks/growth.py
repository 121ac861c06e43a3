"""How cost grows: with cells, rows, members and structures, from one run, drawn on log-log axes.

    python -m tests.benchmarks.growth --out growth.png     # some ten minutes of one core

What is measured are processor seconds of whole commands, start included, as a user runs them (each
in a process of its own), and of epochs of training in this one. A line's slope, fitted to its
larger half, stands beside its name: 1 is as much again for as many again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.drawing.style import Sheet, panels, plain_log_axis, series_style, write_figure
from tests.benchmarks.gpu import Material

CPU = torch.device("cpu")
SIDES = (4, 8, 16, 32)
"""Datasets trained and tested on, each with each."""

IMPORTED = (1_000, 4_000, 16_000, 64_000)
SCANNED = (250, 1_000, 4_000, 16_000)
MEMBERS = (1, 3, 9, 27)
ROWS = (40, 80, 160, 320)

PLUGIN = """
import json
from pathlib import Path
from harness.plugin import DatasetSpec, Card, hookimpl

N = {sides}

def rows(number):
    with (Path(__file__).parent / "rows.jsonl").open() as file:
        for row in [json.loads(line) for line in file][number % 3 :: 3]:
            yield {{**row, "kappa": row["kappa"] * (1 + number / 100)}}

@hookimpl
def register_datasets():
    for number in range(N):
        card = Card(title=f"Part {{number}}", property="thermal-conductivity", unit="W/(m·K)")
        yield DatasetSpec(f"D{{number}}", card=card, load=lambda _, number=number: rows(number))
"""

BENCHMARK = """
train_on = {names}
test_on = {names}
plugins = ["many.py"]
backbones = ["composition"]
heads = [{{ name = "nearest" }}]
transfers = ["scratch"]
baselines = []
runs = 2
"""


@dataclass(frozen=True)
class Line:
    """What one thing costs: processor seconds by size."""

    what: str
    by: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def slope(self) -> float:
        """Of the larger half, on log-log axes."""
        start = len(self.sizes) // 2 - 1
        x, y = np.log(self.sizes[start:]), np.log(self.seconds[start:])
        return float(np.polyfit(x, y, 1)[0])


def command(*arguments: str | Path, folder: Path) -> float:
    """Runs `harness` and returns its processor seconds, those of its processes included."""
    before = os.times()
    program = "from harness.cli import main; main()"
    line = [sys.executable, "-c", program, *map(str, arguments)]
    subprocess.run(line, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def cells(folder: Path, material: Material) -> Iterator[Line]:
    """The plan, the first run, a run with nothing left to do, the table and the site, by cells."""
    found: dict[str, list[float]] = {}
    for side in SIDES:
        here = folder / f"side-{side}"
        here.mkdir()
        (here / "many.py").write_text(PLUGIN.format(sides=side))
        write_crystals(here / "rows.jsonl", 60, material)
        names = json.dumps([f"D{number}" for number in range(side)])
        (here / "benchmark.toml").write_text(BENCHMARK.format(names=names))
        for what, line in {
            "plan": ("run", here, "--plan"),
            "run": ("run", here, "--jobs", "1", "-q"),
            "run again": ("run", here, "--jobs", "1", "-q"),
            "table": ("table", here),
            "site": ("site", here, "--to", here / "site"),
        }.items():
            found.setdefault(what, []).append(command(*line, folder=folder))
    for what, seconds in found.items():
        yield Line(what, "cells", tuple(side**2 for side in SIDES), tuple(seconds))


def write_crystals(path: Path, number: int, material: Material) -> None:
    """Writes crystals in neutral form, each a little larger than the one before."""
    with path.open("w", encoding="utf-8") as file:
        for row in range(number):
            crystal = material.crystals[row % len(material.crystals)]
            line: dict[str, Any] = {
                "id": f"c{row}",
                "kappa": float(material.kappa[row % len(material.kappa)]),
                "lattice": (np.asarray(crystal.lattice) * (1 + row / 1e6)).tolist(),
                "species": list(crystal.species),
                "frac_coords": np.asarray(crystal.frac_coords).tolist(),
            }
            file.write(json.dumps(line) + "\n")


def rows(folder: Path, material: Material) -> Iterator[Line]:
    """Importing, by rows, and scanning, by structures."""
    imported, scanned = [], []
    for number in IMPORTED:
        path = folder / f"own{number}.jsonl"
        write_crystals(path, number, material)
        what = ("--unit", "W/(m·K)", "--temperature", "300", "--method", "unknown")
        line = ("datasets", "import", f"Own{number}", path, *what)
        imported.append(command(*line, folder=folder))
    yield Line("datasets import", "rows or structures", IMPORTED, tuple(imported))
    command("run", "quickstart", "--out", folder / "quickstart", "-q", folder=folder)
    bundle = folder / "bundle"
    cell = "transfer=scratch,train_on=Experiment"
    command("export", folder / "quickstart", cell, "--to", bundle, folder=folder)
    for number in SCANNED:
        path = folder / f"scan{number}.jsonl"
        write_crystals(path, number, material)
        out = folder / f"{number}.parquet"
        to_scan = ("scan", path, "--bundle", bundle, "--jobs", "1", "--to", out)
        scanned.append(command(*to_scan, folder=folder))
    yield Line("scan", "rows or structures", SCANNED, tuple(scanned))


def training(material: Material) -> Iterator[Line]:
    """An epoch of nine members by rows, and of all rows by members."""
    torch.set_num_threads(1)
    for what, by, sizes, shapes in (
        ("an epoch", "members", MEMBERS, [(members, 320) for members in MEMBERS]),
        ("an epoch of nine members", "rows", ROWS, [(9, rows) for rows in ROWS]),
    ):
        yield Line(what, by, sizes, tuple(_epoch(material, *shape) for shape in shapes))


def _epoch(material: Material, members: int, rows: int) -> float:
    fit = material.stack(members, 3, CPU, rows).fit
    fit.train(until=1)
    began = time.process_time()
    fit.train(until=3)
    return (time.process_time() - began) / 2


def draw(lines: list[Line], path: Path) -> None:
    """Draws all lines, a panel for what they grow by."""
    by = list(dict.fromkeys(line.by for line in lines))
    figure, ((*grid,), *_) = panels(1, len(by), 3.2, 3.0)
    for axes, what in zip(grid, by, strict=True):
        for number, line in enumerate(line for line in lines if line.by == what):
            label = f"{line.what}: {line.slope:.2f}"
            axes.plot(line.sizes, line.seconds, label=label, **series_style(number))
        for axis in "xy":
            plain_log_axis(axes, axis)
        axes.set_xlabel(what, fontsize=9)
        axes.legend(fontsize=7, frameon=False)
    grid[0].set_ylabel("processor seconds", fontsize=9)
    Sheet().entitle(figure, "Cost against size, with slopes")
    write_figure(figure, path)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("growth.png"))
    out = parser.parse_args().out
    material = Material.make(400)
    lines: list[Line] = []
    measured: list[Callable[[Path], Iterator[Line]]] = [
        lambda folder: rows(folder, material),
        lambda _: training(material),
        lambda folder: cells(folder, material),
    ]
    with tempfile.TemporaryDirectory() as folder:
        # what is imported and encoded is not to be found again, nor to be left behind
        os.environ |= {"XDG_DATA_HOME": f"{folder}/data", "HARNESS_CACHE": f"{folder}/cache"}
        for measure in measured:
            for line in measure(Path(folder)):
                lines.append(line)
                costs = ", ".join(
                    f"{size}: {seconds:.2f} s"
                    for size, seconds in zip(line.sizes, line.seconds, strict=True)
                )
                print(f"{line.what} by {line.by}: {costs}; slope {line.slope:.2f}", flush=True)
                draw(lines, out)


if __name__ == "__main__":
    main()
