"""Every built-in backbone that sees bonds counts the atoms that have none."""

from __future__ import annotations

import numpy as np
import pytest

from harness import Crystal, PluginError, Registry

SITES = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.5, 0.5, 0.5]])


@pytest.mark.parametrize("name", ["megnet", "megnet-dgl", "m3gnet", "tensornet", "composition"])
def test_isolated_atoms_are_counted(name: str) -> None:
    spec = Registry().backbones[name]
    try:
        backbone = spec.make(spec.settings())
    except PluginError as problem:
        pytest.skip(str(problem))
    bonds = backbone.cutoff_angstrom is not None
    assert bonds == (name != "composition")
    for edge, isolated in ((4.0, 0), (20.0, 1), (80.0, 3)):  # 0.1 of them is 0.4, 2 and 8 Å
        crystal = Crystal(np.eye(3) * edge, ("Na", "Na", "Cl"), SITES)
        assert backbone.count_isolated(backbone.encode(crystal)) == (isolated if bonds else 0)
