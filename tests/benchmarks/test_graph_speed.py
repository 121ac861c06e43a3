"""Graphs: how fast they are built beside matgl's, and what the cache on disk saves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from harness.nn.encodings import load_encodings

CUTOFF = 4.0


@pytest.mark.benchmark(group="graphs: 400 crystals")
def test_collapsed_graphs_beside_those_of_matgl(
    registry, sample, threads: Callable[[int], None], alternate, report
) -> None:
    """Ours pay for collapsing, which training gets back in every epoch; the edges are the same."""
    pytest.importorskip("matgl", reason="matgl is absent: pip install 'paraisite-harness[matgl]'")
    from matgl.config import DEFAULT_ELEMENTS
    from matgl.ext.pymatgen import Structure2Graph

    threads(1)
    spec = registry.backbones["megnet"]
    collapsing, whole = (spec.make(spec.settings(collapse=choice)) for choice in (True, False))
    converter = Structure2Graph(DEFAULT_ELEMENTS, cutoff=CUTOFF)
    structures = [crystal.to_pymatgen() for crystal in sample.crystals]
    own, other = alternate(
        lambda: collapsing.encode_all(sample.crystals),
        lambda: [converter.get_graph(structure) for structure in structures],
    )
    report(
        ratio_by_processor_seconds=other.cpu / own.cpu,
        milliseconds_per_crystal=1e3 * own.wall / len(sample),
        milliseconds_per_crystal_of_matgl=1e3 * other.wall / len(sample),
    )
    for crystal, structure in zip(sample.crystals[::20], structures[::20], strict=True):
        graph, _, _ = converter.get_graph(structure)
        assert len(whole.encode(crystal)["src"]) == graph.num_edges


@pytest.mark.benchmark(group="graphs: the cache, all of AFLOW")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_warm_cache_beats_building(
    processes: int, registry, aflow, tmp_path, alternate, report
) -> None:
    spec = registry.backbones["megnet"]
    backbone = spec.make(spec.settings())
    folders = (tmp_path / str(number) for number in count())
    latest = [next(folders)]

    def build() -> None:
        latest[0] = next(folders)
        load_encodings(backbone, aflow.crystals, latest[0], workers=processes)

    def read() -> None:
        load_encodings(backbone, aflow.crystals, latest[0], workers=processes)

    warm, cold = alternate(read, build, rounds=1)
    megabytes = sum(file.stat().st_size for file in latest[0].rglob("*.safetensors")) / 1e6
    report(
        rows=len(aflow),
        processes=processes,
        seconds_cold=cold.wall,
        seconds_warm=warm.wall,
        ratio_by_the_clock=cold.wall / warm.wall,
        megabytes_on_disk=megabytes,
    )
    assert cold.wall > warm.wall
