"""Crystals as graphs: made once by matgl's converter, kept as arrays, put together in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Arrays, Crystal

if TYPE_CHECKING:
    from numpy.typing import NDArray

ELEMENTS: tuple[str, ...] = tuple(
    symbol for symbol in SYMBOLS[:94] if symbol not in ("Po", "At", "Rn", "Fr", "Ra")
)
"""The 89 elements of `matgl.config.DEFAULT_ELEMENTS`, in that order: it numbers the atoms."""


def encode(crystal: Crystal, cutoff_angstrom: float) -> dict[str, NDArray[Any]]:
    """Turns one crystal into its graph, with every number as matgl has it.

    Coordinates are wrapped into the cell first, because the search for neighbours takes time in
    proportion to how far apart sites are written down.

    Returns:
        `node_type` (element numbers) and `pos` (Å) of atoms; `edge_index` (2 × bonds; the atom a
        bond starts from, in ascending order, and the one it ends at) and `image` (the cell it ends
        in); `lattice` (3 × 3, Å).
    """
    from matgl.ext.pymatgen import Structure2Graph

    inside = crystal.frac_coords - np.floor(crystal.frac_coords)
    structure = Crystal(crystal.lattice, crystal.species, inside).to_pymatgen()
    graph, lattices, _ = Structure2Graph(ELEMENTS, cutoff_angstrom).get_graph(structure)
    return {
        "node_type": graph.node_type.numpy().astype(np.int16),
        "pos": (graph.frac_coords @ lattices[0]).numpy(),
        "edge_index": graph.edge_index.numpy(),
        "image": graph.pbc_offset.numpy().astype(np.int8),
        "lattice": lattices[0].numpy(),
    }


def collate(encodings: Sequence[Arrays]) -> Any:
    """Puts graphs side by side in one, with the attributes that matgl's networks read."""
    import torch
    from torch_geometric.data import Data

    def join(name: str, axis: int = 0) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([e[name] for e in encodings], axis))

    crystals = torch.arange(len(encodings))
    atoms = torch.tensor([len(e["node_type"]) for e in encodings])
    bonds = torch.tensor([len(e["image"]) for e in encodings])
    edge_batch = crystals.repeat_interleave(bonds)
    first_atom = (atoms.cumsum(0) - atoms)[edge_batch]
    lattice = torch.from_numpy(np.stack([e["lattice"] for e in encodings]))
    return Data(
        num_nodes=int(atoms.sum()),
        num_graphs=len(encodings),
        batch=crystals.repeat_interleave(atoms),
        node_type=join("node_type").long(),
        pos=join("pos"),
        edge_index=join("edge_index", axis=1).long() + first_atom,
        pbc_offshift=torch.einsum("bi,bij->bj", join("image").float(), lattice[edge_batch]),
    )
