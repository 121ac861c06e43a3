"""What collapsing the graphs gains in training: same rows, same members, same result."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.benchmark(group="collapsing: one epoch of nine members")
def test_collapsed_graphs_train_faster_than_whole_ones(
    make_stack, threads: Callable[[int], None], alternate, report
) -> None:
    threads(1)
    collapsed, whole = make_stack(True), make_stack(False)
    own, other = alternate(lambda: collapsed.train(1), lambda: whole.train(1))
    ratio = other.cpu / own.cpu
    small, large = collapsed.data.pool, whole.data.pool
    steps = -(-len(collapsed.data.train[0]) // 8)
    report(
        ratio_by_processor_seconds=ratio,
        ratio_by_the_clock=other.wall / own.wall,
        milliseconds_per_step=1e3 * own.wall / steps,
        edges_per_edge_kept=float(large.edges.sum() / small.edges.sum()),
        atoms_per_atom_kept=float(large.nodes.sum() / small.nodes.sum()),
    )
    assert ratio > 1
