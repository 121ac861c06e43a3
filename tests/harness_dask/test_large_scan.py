"""A large scan by workers: none lost, none twice, and memory that does not grow.

HARNESS_SCANNED=200000 pytest tests/harness_dask/test_large_scan.py -m slow -s
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import time
from pathlib import Path
from statistics import median

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from harness.apps.predict import predicting
from harness.apps.predict.scanner import ScanReport
from harness.plugin import ExecutorRequest
from tests.plugins.tiny import ANIONS, CATIONS, FCC

pytest.importorskip("distributed", reason="the extra `dask` is not installed")

STRUCTURES = int(os.environ.get("HARNESS_SCANNED", "40_000"))
PROMISED_GROWTH = 0.1


def generate(path: Path) -> None:
    with gzip.open(path, "wt", compresslevel=1) as file:
        for number in range(STRUCTURES):
            a = 4.0 + 3.0 * number / STRUCTURES
            row = {
                "id": f"generated {number}",
                "lattice": [[a * x for x in vector] for vector in FCC],
                "species": [CATIONS[number % len(CATIONS)], ANIONS[number % len(ANIONS)]],
                "frac_coords": [[0, 0, 0], [0.5, 0.5, 0.5]],
            }
            file.write(json.dumps(row) + "\n")


def workers() -> list[int]:
    """Processes that this one has started to work for it."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def resident_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system has no /proc")
def test_a_large_scan_loses_nothing_and_memory_stays_flat(toy_bundle, tiny, tmp_path):
    source, table = tmp_path / "structures.jsonl.gz", tmp_path / "scan.parquet"
    generate(source)
    here: list[tuple[float, float]] = []
    there: list[tuple[float, float]] = []
    killed: list[int] = []

    def look(report: ScanReport) -> None:
        share, busy = report.rows / STRUCTURES, workers()
        here.append((share, resident_mb(os.getpid())))
        there.append((share, max(map(resident_mb, busy), default=0.0)))
        if share > 0.5 and not killed:
            killed.append(busy[0])
            os.kill(busy[0], signal.SIGKILL)

    began = time.process_time()
    report = predicting.scan(
        source,
        toy_bundle,
        table,
        plugins=[tiny],
        executor=ExecutorRequest("dask", workers=2),
        progress=look,
    )
    spent = time.process_time() - began
    ids = pq.read_table(table, columns=["id"])["id"]
    assert killed
    assert report.rows == len(ids) == STRUCTURES
    assert len(pc.unique(ids)) == STRUCTURES
    for what, samples in (("this process", here), ("the largest worker", there)):
        first, last = (
            median(size for share, size in samples if low < share <= high)
            for low, high in ((0.1, 0.3), (0.8, 1.0))
        )
        sys.stdout.write(f"\n{what}: {first:.0f} MB early, {last:.0f} MB late")
        assert last < first * (1 + PROMISED_GROWTH)
    sys.stdout.write(
        f"\n{STRUCTURES} structures, {report.seconds:.0f} s, "
        f"{STRUCTURES / report.seconds:.0f} a second; {spent:.0f} s of this process's processor, "
        f"load {os.getloadavg()[1]:.1f}, table {table.stat().st_size / 2**20:.1f} MB"
    )
