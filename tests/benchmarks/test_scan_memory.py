"""Memory of a scan: flat, however many structures there are."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
from pathlib import Path
from statistics import median

import pytest

from harness import scan

STRUCTURES = 200_000
FCC = [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
CATIONS = "Li Na K Rb Cs Mg Ca Sr Ba Zn Cd Al Ga In".split()
ANIONS = "F Cl Br I O S Se Te N P As Sb".split()
PROMISED_GROWTH = 0.05


def generate(path: Path, structures: int) -> None:
    """Writes rock salts of random elements and sizes."""
    chance = random.Random(0)
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(structures):
            a = chance.uniform(4.0, 7.0)
            row = {
                "id": f"generated {number}",
                "lattice": [[a * x for x in vector] for vector in FCC],
                "species": [chance.choice(CATIONS), chance.choice(ANIONS)],
                "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            }
            file.write(json.dumps(row) + "\n")


def resident_mb() -> float:
    """Of this process and those it has started."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    lines = (Path(f"/proc/{pid}/status").read_text().splitlines() for pid in pids)
    sizes = (line.split()[1] for status in lines for line in status if line.startswith("VmRSS"))
    return sum(map(int, sizes)) / 1024


@pytest.mark.benchmark(group="memory: a scan of 200,000 structures")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_memory_does_not_grow_with_the_number_of_structures(
    bundle: Path, tmp_path, benchmark, report
) -> None:
    source = tmp_path / "structures.jsonl.gz"
    generate(source, STRUCTURES)
    samples: list[tuple[int, float]] = []
    done = benchmark.pedantic(
        scan,
        (source, bundle, tmp_path / "scan.parquet"),
        {
            "jobs": len(os.sched_getaffinity(0)),
            "progress": lambda told: samples.append((told.rows, resident_mb())),
        },
        rounds=1,
    )
    first, last = (
        median(size for rows, size in samples if low < rows / STRUCTURES <= high)
        for low, high in ((0.05, 0.15), (0.9, 1.0))
    )
    report(
        structures=done.rows,
        structures_per_second=done.rows / done.seconds,
        mb_of_all_processes_after_a_tenth=first,
        mb_of_all_processes_at_the_end=last,
        largest_mb=max(size for _, size in samples),
    )
    assert done.rows == STRUCTURES
    assert last < first * (1 + PROMISED_GROWTH)
