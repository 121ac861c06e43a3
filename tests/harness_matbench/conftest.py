"""Small files of the form of the published ones, served on 127.0.0.1; the network is out of reach.

The published files could not be downloaded where these tests were written.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness import Locations, load_dataset
from harness.plugin import Crystal


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, served in place of the addresses of the published files."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HARNESS_MATBENCH_URL", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    (tmp_path / "data").mkdir()
    return Locations(data=(tmp_path / "data",), weights=(), cache=tmp_path / "cache", offline=False)


@pytest.fixture(scope="session")
def crystals() -> Sequence[Crystal]:
    """Those of `Experiment`."""
    return load_dataset("Experiment").crystals


def _write_frame(
    path: Path, column: str, crystals: Sequence[Crystal], values: Sequence[Any]
) -> str:
    """Writes a task's file as matminer does; returns the sha256."""
    rows = [[c.to_pymatgen().as_dict(), v] for c, v in zip(crystals, values, strict=True)]
    frame = {"index": list(range(len(rows))), "columns": ["structure", column], "data": rows}
    path.write_bytes(gzip.compress(json.dumps(frame).encode(), mtime=0))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_phonondb(folder: Path, rows: Mapping[str, tuple[Crystal, float]]) -> dict[str, str]:
    """Writes the two files of the 103 compounds; returns the md5 of each, by name."""
    from harness_matbench.phonondb import CONDUCTIVITIES, STRUCTURES

    frames = []
    for name, (crystal, _) in rows.items():
        lattice = " ".join(f"{x!r}" for x in crystal.lattice.ravel().tolist())
        positions = (crystal.frac_coords @ crystal.lattice).tolist()
        sites = zip(crystal.species, positions, strict=True)
        frames.append(
            f'{len(crystal.species)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 '
            f'material_id={name} name={crystal.formula} symm.no=225 q_point_mesh="19 19 19" '
            'pbc="T T T"\n' + "".join(f"{el} {x!r} {y!r} {z!r}\n" for el, (x, y, z) in sites)
        )
    (folder / STRUCTURES.name).write_text("".join(frames))
    kappas = [
        {"material_id": name, "temperatures": [200, 300], "kappa_tot_avg": [9e9, kappa]}
        for name, (_, kappa) in rows.items()
    ]
    content = gzip.compress(json.dumps(kappas).encode(), mtime=0)
    (folder / CONDUCTIVITIES.name).write_bytes(content)
    return {
        path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in folder.iterdir()
    }


@pytest.fixture
def write_frame() -> Callable[..., str]:
    """Writes a task's file: see `_write_frame`."""
    return _write_frame


@pytest.fixture
def write_phonondb() -> Callable[..., dict[str, str]]:
    """Writes the two files of the 103 compounds: see `_write_phonondb`."""
    return _write_phonondb
