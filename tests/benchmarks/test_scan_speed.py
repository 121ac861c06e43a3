"""The promise: a scan by nine members makes a hundred times the structures of the published way.

The published loop gives one crystal at a time to one model at a time, and every model builds the
graph anew: `predict_structure` of matgl, nine times. The networks are the same on both sides:
MEGNet of the published sizes with the head 450-350-350. Ours reads structures from a file and
writes a table, with intervals and distances, and its start counts; theirs are in memory already,
and only predicted.

What is judged are processor seconds on one core, so that other work on the machine counts for
neither side, times the number of cores: ours has a process on each, which share nothing, while
theirs gains nothing from a second thread (its graphs are too small). By the clock, with both cores
and whichever number of threads is faster for theirs, the ratio is the same on an idle machine only:
it is shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import pytest
from torch import nn

from harness import Dataset, scan

pytest.importorskip("matgl", reason="matgl is absent: pip install 'paraisite-harness[matgl]'")

from matgl.layers import MLP
from matgl.models import MEGNet

PROMISED_RATIO = 100.0
MEMBERS = 9
PUBLISHED_CRYSTALS = 48
COPIES = 4
"""So often stands AFLOW in the file, each time a little stretched: 13,000 structures."""


@dataclass(frozen=True)
class Seconds:
    wall: float
    cpu: float

    @classmethod
    def of(cls, work: Callable[[], object]) -> Seconds:
        wall, cpu = perf_counter(), process_time()
        work()
        return cls(perf_counter() - wall, process_time() - cpu)


def write_structures(path: Path, dataset: Dataset, copies: int) -> int:
    """Writes a dataset in neutral form, again and again, each time a little stretched."""
    with path.open("w") as file:
        for copy in range(copies):
            for name, crystal in zip(dataset.ids, dataset.crystals, strict=True):
                row = {
                    "id": f"{name} {copy}",
                    "lattice": (crystal.lattice * (1 + 0.001 * copy)).tolist(),
                    "species": list(crystal.species),
                    "frac_coords": crystal.frac_coords.tolist(),
                }
                file.write(json.dumps(row) + "\n")
    return copies * len(dataset)


def make_model() -> nn.Module:
    model: Any = MEGNet()
    activation = model.output_proj.layers[1]
    model.output_proj = nn.Sequential(
        MLP([160, 32, 16], activation), MLP([16, 450, 350, 350, 1], nn.ReLU())
    )
    return model.eval()


@pytest.mark.benchmark(group="scan: nine members")
def test_a_hundred_times_the_structures_of_the_published_way(
    bundle: Path, aflow, tmp_path, threads: Callable[[int], None], alternate, report
) -> None:
    cores = len(os.sched_getaffinity(0))
    file = tmp_path / "structures.jsonl"
    rows = write_structures(file, aflow, COPIES)
    models = [make_model() for _ in range(MEMBERS)]
    few = [crystal.to_pymatgen() for crystal in aflow.limited(PUBLISHED_CRYSTALS).crystals]
    tables = (tmp_path / f"{number}.parquet" for number in count())

    def on_one_core() -> None:
        threads(1)
        assert scan(file, bundle, next(tables)).rows == rows

    def on_all_cores() -> None:
        assert scan(file, bundle, next(tables), jobs=cores).rows == rows

    def published() -> None:
        for model in models:
            for structure in few:
                model.predict_structure(structure)

    def published_on_all_cores() -> Seconds:
        taken = []
        for number in sorted({1, cores}):
            threads(number)
            taken.append(Seconds.of(published))
        return min(taken, key=lambda seconds: seconds.wall)

    with_cores = [(Seconds.of(on_all_cores).wall, published_on_all_cores().wall) for _ in range(2)]
    own, other = alternate(on_one_core, published, rounds=2)
    ratio = (rows / own.cpu) / (PUBLISHED_CRYSTALS / other.cpu)
    report(
        cores=cores,
        ratio_on_one_core=ratio,
        ratio_on_all_cores=cores * ratio,
        structures_per_processor_second=rows / own.cpu,
        structures_per_processor_second_published=PUBLISHED_CRYSTALS / other.cpu,
        ratio_by_the_clock=max(rows / a / (PUBLISHED_CRYSTALS / b) for a, b in with_cores),
        structures_per_second_by_the_clock=max(rows / a for a, _ in with_cores),
        structures_per_second_by_the_clock_published=max(
            PUBLISHED_CRYSTALS / b for _, b in with_cores
        ),
    )
    assert cores * ratio >= PROMISED_RATIO
