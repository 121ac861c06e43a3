"""Promises of crystal graphs: complete edges, exact collapsing, however a cell is written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.nn import graph as module
from harness.nn.graph import CrystalGraph, build_graph, build_graphs
from harness.plugin.crystal import Crystal

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUTOFF = 4.0
law = settings(max_examples=60, deadline=None, derandomize=True)


# --- crystals ---------------------------------------------------------------------------------


@st.composite
def crystals(draw: st.DrawFn) -> Crystal:
    """Crystals of 1 to 6 sites, half of them on a grid of twelfths, where symmetry abounds.

    Some are a row of five such cells with one atom replaced: it takes rounds to tell that apart.
    """
    length = st.floats(2.5, 5.0)
    lattice = np.diag([draw(length), draw(length), draw(length)])
    lattice[np.tril_indices(3, -1)] = [draw(st.floats(-1.0, 1.0)) for _ in range(3)]
    grid = st.integers(0, 11).map(lambda twelfths: twelfths / 12)
    coordinate = grid if draw(st.booleans()) else st.floats(0.0, 1.0, exclude_max=True)
    sites = draw(st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=1, max_size=6))
    species = [draw(st.sampled_from(["Na", "Cl", "O"])) for _ in sites]
    crystal = Crystal(lattice, tuple(species), np.array(sites))
    if len(sites) > 3 or not draw(st.booleans()):
        return crystal
    row = supercell(crystal, (5, 1, 1))
    return Crystal(row.lattice, ("O", *row.species[1:]), row.frac_coords)


def supercell(crystal: Crystal, repeats: tuple[int, int, int]) -> Crystal:
    shifts = np.array(list(np.ndindex(*repeats)))
    coords = (crystal.frac_coords[None] + shifts[:, None]).reshape(-1, 3) / repeats
    lattice = crystal.lattice * np.array(repeats)[:, None]
    return Crystal(lattice, crystal.species * len(shifts), coords)


def permuted(crystal: Crystal, seed: int) -> Crystal:
    order = np.random.default_rng(seed).permutation(len(crystal.species))
    species = tuple(crystal.species[i] for i in order)
    return Crystal(crystal.lattice, species, crystal.frac_coords[order])


def shifted(crystal: Crystal, seed: int) -> Crystal:
    shift = np.random.default_rng(seed).uniform(-3, 3, size=3)
    return Crystal(crystal.lattice, crystal.species, crystal.frac_coords + shift)


def rotated(crystal: Crystal, seed: int) -> Crystal:
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return Crystal(crystal.lattice @ rotation, crystal.species, crystal.frac_coords)


def away_from_ties(crystal: Crystal) -> bool:
    """Whether no length lies where rounding errors decide: at the cutoff or between two steps."""
    edges = build_graph(crystal, CUTOFF + 1e-5, collapse=False).distance.astype(np.float64)
    step = edges / 1e-3
    return not (
        (np.abs(edges - CUTOFF) < 1e-5).any() or (np.abs(step - np.floor(step) - 0.5) < 1e-2).any()
    )


def assert_same(one: CrystalGraph, other: CrystalGraph, times: int = 1) -> None:
    assert one.species == other.species
    np.testing.assert_array_equal(one.multiplicity * times, other.multiplicity)
    np.testing.assert_array_equal(one.src, other.src)
    np.testing.assert_array_equal(one.dst, other.dst)
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_allclose(one.distance, other.distance, atol=2e-6)


# --- what a message-passing network makes of a graph --------------------------------------------


def weighted_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights @ values / max(weights.sum(), 1.0))


def pass_messages(graph: CrystalGraph, seed: int) -> NDArray[np.float64]:
    """A small random network: three rounds of edge, node and state updates, all by means."""
    rng = np.random.default_rng(seed)
    width, atoms = 8, graph.multiplicity.astype(np.float64)
    table = {symbol: rng.normal(size=width) for symbol in ("Na", "Cl", "O")}
    node = np.array([table[symbol] for symbol in graph.species])
    # As MEGNet: exp(-0.5 (d - c)²) for centres c.
    offset = graph.distance[:, None].astype(np.float64) - np.linspace(0, 5, width)
    edge, state = np.exp(-0.5 * offset**2), np.zeros(width)
    into = np.zeros((len(graph.species), len(graph.src)))
    into[graph.dst, np.arange(len(graph.src))] = graph.count
    into /= np.maximum(into.sum(axis=1, keepdims=True), 1.0)
    bonds = graph.count.astype(np.float64) * atoms[graph.dst]
    for _ in range(3):
        mix = [rng.normal(size=(width, width)) / 4 for _ in range(9)]
        ends = node[graph.src] @ mix[0] + node[graph.dst] @ mix[1]
        edge = np.tanh(ends + edge @ mix[2] + state @ mix[3])
        node = np.tanh(node @ mix[4] + into @ edge @ mix[5] + state @ mix[6])
        means = weighted_mean(node, atoms) @ mix[7] + weighted_mean(edge, bonds) @ mix[8]
        state = np.tanh(state + means)
    return np.concatenate([weighted_mean(node, atoms), weighted_mean(edge, bonds), state])


# --- laws -------------------------------------------------------------------------------------


@law
@given(crystals(), st.integers(0, 99))
def test_a_network_cannot_tell_the_collapsed_graph_from_the_whole(
    crystal: Crystal, seed: int
) -> None:
    whole = pass_messages(build_graph(crystal, CUTOFF, collapse=False), seed)
    collapsed = pass_messages(build_graph(crystal, CUTOFF), seed)
    np.testing.assert_allclose(collapsed, whole, atol=1e-6, rtol=0)


@law
@given(crystals())
def test_classes_account_for_every_atom_and_every_edge(crystal: Crystal) -> None:
    whole = build_graph(crystal, CUTOFF, collapse=False)
    collapsed = build_graph(crystal, CUTOFF)
    assert collapsed.multiplicity.sum() == len(crystal.species)
    assert (collapsed.count * collapsed.multiplicity[collapsed.dst]).sum() == len(whole.src)
    assert collapsed.isolated == whole.isolated


@settings(law, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(crystals(), min_size=1, max_size=5), st.booleans(), st.sampled_from([1, 2000]))
def test_graphs_built_together_are_those_built_one_by_one_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, some: list[Crystal], collapse: bool, edges_at_once: int
) -> None:
    alone = [build_graph(crystal, CUTOFF, collapse) for crystal in some]
    monkeypatch.setattr(module, "EDGES_AT_ONCE", edges_at_once)
    together = build_graphs(some, CUTOFF, collapse)
    for one, other in zip(alone, together, strict=True):
        assert one.species == other.species
        for name in ("multiplicity", "src", "dst", "distance", "count"):
            first, second = getattr(one, name), getattr(other, name)
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)


def test_graphs_of_no_crystals_are_none() -> None:
    assert build_graphs([], CUTOFF) == []


@law
@given(crystals())
def test_nodes_of_one_class_see_the_same(crystal: Crystal) -> None:
    """Counts are per node: fractions would betray a class that was not refined to the end."""
    count = build_graph(crystal, CUTOFF).count
    np.testing.assert_array_equal(count, np.rint(count))


@law
@given(crystals(), st.integers(0, 99))
def test_collapsing_does_not_depend_on_how_a_crystal_is_written(
    crystal: Crystal, seed: int
) -> None:
    assume(away_from_ties(crystal))
    graph = build_graph(crystal, CUTOFF)
    assert_same(graph, build_graph(permuted(crystal, seed), CUTOFF))
    assert_same(graph, build_graph(shifted(crystal, seed), CUTOFF))
    assert_same(graph, build_graph(rotated(crystal, seed), CUTOFF))
    assert_same(graph, build_graph(supercell(crystal, (2, 1, 3)), CUTOFF), times=6)
    together = permuted(shifted(supercell(crystal, (1, 2, 2)), seed), seed)
    assert_same(graph, build_graph(together, CUTOFF), times=4)


@law
@given(crystals(), st.booleans())
def test_arrays_have_the_promised_types_and_order(crystal: Crystal, collapse: bool) -> None:
    graph = build_graph(crystal, CUTOFF, collapse=collapse)
    assert graph.src.dtype == graph.dst.dtype == np.int32
    assert graph.distance.dtype == graph.count.dtype == graph.multiplicity.dtype == np.float32
    edges = list(zip(graph.dst, graph.src, graph.distance, strict=True))
    assert edges == sorted(edges)


# --- examples ---------------------------------------------------------------------------------


def rocksalt(bond: float) -> Crystal:
    lattice = bond * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    return Crystal(lattice, ("Na", "Cl"), np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]))


def test_rocksalt_has_four_edge_classes() -> None:
    graph = build_graph(rocksalt(2.8), CUTOFF)
    assert graph.species == ("Cl", "Na")
    np.testing.assert_array_equal(graph.src, [0, 1, 0, 1])
    np.testing.assert_array_equal(graph.dst, [0, 0, 1, 1])
    np.testing.assert_allclose(graph.distance, [2.8 * 2**0.5, 2.8, 2.8, 2.8 * 2**0.5])
    np.testing.assert_array_equal(graph.count, [12, 6, 6, 12])


def test_an_impurity_is_seen_from_afar() -> None:
    """A ring of ten atoms, one of them another: six distances from it, so six classes."""
    ring = supercell(Crystal(np.diag([3.0, 30, 30]), ("Na",), np.zeros((1, 3))), (10, 1, 1))
    graph = build_graph(Crystal(ring.lattice, ("Cl", *ring.species[1:]), ring.frac_coords), 4.0)
    assert graph.species == ("Cl", *["Na"] * 5)
    assert sorted(graph.multiplicity) == [1, 1, 2, 2, 2, 2]
    assert len(build_graph(ring, 4.0).species) == 1


def test_a_length_between_two_steps_stays_one_class() -> None:
    cell = supercell(rocksalt(2.0005), (3, 2, 2))
    assert_same(build_graph(rocksalt(2.0005), 3.0), build_graph(shifted(cell, 1), 3.0), times=12)


def test_the_length_of_a_class_is_the_mean_and_not_the_rounded_length() -> None:
    coords = np.array([[0.0, 0.0, 0.0], [0.2501, 0.0, 0.0]])
    graph = build_graph(Crystal(np.diag([8.0008, 30.0, 30.0]), ("Na", "Cl"), coords), 3.0)
    np.testing.assert_allclose(graph.distance, 0.2501 * 8.0008, rtol=1e-7)
    split = np.array([[0, 0, 0], [0.25002, 0, 0], [0.5, 0, 0], [0.75, 0, 0]])
    chain = build_graph(Crystal(np.diag([8.0, 30, 30]), ("Na", "Cl", "Na", "Cl"), split), 3.0)
    assert len(chain.species) == 2
    np.testing.assert_allclose(chain.distance, 2.0, atol=1e-7)


def test_an_atom_without_neighbours_is_counted_as_isolated() -> None:
    coords = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]])
    graph = build_graph(Crystal(np.eye(3) * 20, ("Na", "Cl", "O"), coords), CUTOFF)
    assert graph.isolated == 1
    alone = build_graph(Crystal(np.eye(3) * 20, ("O",) * 2, coords[1:]), CUTOFF)
    assert (alone.isolated, len(alone.species), len(alone.src)) == (2, 1, 0)


def test_coordinates_far_outside_the_cell_mean_the_same() -> None:
    near, far = rocksalt(2.8), rocksalt(2.8)
    far.frac_coords[1] += [2.0e6, -1.0e6, 0.0]
    assert_same(build_graph(near, CUTOFF), build_graph(far, CUTOFF))


@pytest.mark.parametrize(
    ("crystal", "cutoff", "message"),
    [
        (Crystal(np.eye(3), (), np.zeros((0, 3))), 4.0, "n ≥ 1"),
        (Crystal(np.eye(3) * 3, ("O",), np.zeros((2, 3))), 4.0, r"shape \(2, 3\)"),
        (Crystal(np.eye(3) * 3, ("O",), np.full((1, 3), np.nan)), 4.0, "finite"),
        (Crystal(np.ones((3, 3)), ("O",), np.zeros((1, 3))), 4.0, "lattice is in Å"),
        (Crystal(np.eye(3) * 3, ("O",), np.zeros((1, 3))), 0.0, "cutoff_angstrom"),
    ],
)
def test_an_impossible_crystal_is_refused_with_the_reason(
    crystal: Crystal, cutoff: float, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_graph(crystal, cutoff)


# --- real crystals ----------------------------------------------------------------------------


def read_crystals(path: Path) -> Iterator[Crystal]:
    with gzip.open(path) as lines:
        for row in map(json.loads, lines):
            yield Crystal(
                np.array(row["lattice"]), tuple(row["species"]), np.array(row["frac_coords"])
            )


def test_aflow_shrinks_as_much_as_the_design_says(shared: Path) -> None:
    atoms = edges = kept_atoms = kept_edges = 0.0
    for crystal in read_crystals(shared / "data" / "AFLOW.jsonl.gz"):
        graph = build_graph(crystal, CUTOFF)
        atoms += graph.multiplicity.sum()
        edges += (graph.count * graph.multiplicity[graph.dst]).sum()
        kept_atoms += len(graph.species)
        kept_edges += len(graph.src)
    assert edges / kept_edges == pytest.approx(7.4, abs=0.05)
    assert atoms / kept_atoms == pytest.approx(2.9, abs=0.05)


def test_edges_are_those_of_matgl(shared: Path) -> None:
    pytest.importorskip("matgl", reason="matgl is the reference for edge sets")
    from matgl.config import DEFAULT_ELEMENTS
    from matgl.ext.pymatgen import Structure2Graph

    converter = Structure2Graph(DEFAULT_ELEMENTS, cutoff=CUTOFF)
    aflow = list(read_crystals(shared / "data" / "AFLOW.jsonl.gz"))[::20]
    mix = list(read_crystals(shared / "data" / "MIX.jsonl.gz"))
    for crystal in aflow + mix:
        data, lattice, _ = converter.get_graph(crystal.to_pymatgen())
        src, dst = data.edge_index.numpy()
        coords = data.frac_coords.numpy().astype(np.float64)
        bonds = (coords[dst] + data.pbc_offset.numpy() - coords[src]) @ lattice[0].numpy()
        distance = np.linalg.norm(bonds, axis=1)
        order = np.lexsort((distance, src, dst))
        graph = build_graph(crystal, CUTOFF, collapse=False)
        np.testing.assert_array_equal(graph.src, src[order])
        np.testing.assert_array_equal(graph.dst, dst[order])
        np.testing.assert_allclose(graph.distance, distance[order], atol=2e-5)
