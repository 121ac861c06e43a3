"""The 103 compounds of matbench-discovery's κ task: rock salt, zinc blende and wurtzite, by DFT.

Addresses and digests stand in `matbench_discovery/data-files.yml` of the repository
github.com/janosh/matbench-discovery, read at commit 02c292dbc95fb54b688f7100137d96c3244a4090; the
package on PyPI does not ship that file. Its own downloader takes files of figshare from the address
of figshare's API, as here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plugin import Card, DataError, read_json_list, read_structures
from harness_matbench.files import PublishedFile, find_file

if TYPE_CHECKING:
    from harness.plugin import Locations

NAME = "phonondb_pbe_103"
KELVIN = 300.0
FIGSHARE = "https://api.figshare.com/v2/file/download"
STRUCTURES = PublishedFile(
    "2024-11-09-phononDB-PBE-103-structures.extxyz",
    f"{FIGSHARE}/52179965",
    "md5:0b149802835e260aa3ab0c7e3c88625b",
)
CONDUCTIVITIES = PublishedFile(
    "2024-11-09-kappas-phononDB-PBE-noNAC.json.gz",
    f"{FIGSHARE}/59988539",
    "md5:70c7a8b0df4cbb4d98f12aea5f61aeee",
)
CARD = Card(
    title="κ of 103 rock-salt, zinc-blende and wurtzite compounds (matbench-discovery)",
    unit="W/(m·K)",
    temperature_kelvin=KELVIN,
    method="DFT (PBE) force constants, phono3py, Wigner transport, no non-analytic correction",
    rows=103,
    notes="The reference of matbench-discovery's κ task; mean of the diagonal of the tensor. "
    "Other datasets of κ may have the same compounds: see `harness audit`.",
    url="https://figshare.com/articles/dataset/22715158",
    licence="CC BY 4.0",
    citation="B. Póta et al., arXiv 2408.00755; A. Togo, L. Chaput, I. Tanaka, Phys. Rev. B 91, "
    "094306 (2015)",
    files={file.name: file.digest for file in (STRUCTURES, CONDUCTIVITIES)},
)


def load_rows(locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Yields structures with their κ at 300 K, paired by id.

    Raises:
        DataError: a file is nowhere and cannot be fetched, is not the published one, or cannot be
            read; the extra `ase` is not installed.
    """
    structures, conductivities = (
        find_file(NAME, file, locations) for file in (STRUCTURES, CONDUCTIVITIES)
    )
    kappa = read_kappa(conductivities)
    for row in read_structures(structures):
        found: dict[str, Any] = {"id": row.id, "kappa": kappa.get(row.id)}
        if row.crystal is not None:
            found |= vars(row.crystal)
        yield found


def read_kappa(path: Path) -> dict[str, float]:
    """Reads κ in W/(m·K) at 300 K, by id."""
    kappa: dict[str, float] = {}
    for number, row in enumerate(read_json_list(path), start=1):
        try:
            at = [float(kelvin) for kelvin in row["temperatures"]].index(KELVIN)
            kappa[str(row["material_id"])] = float(row["kappa_tot_avg"][at])
        except (KeyError, ValueError, TypeError, IndexError) as problem:
            raise DataError(
                f"{path}, row {number}, does not hold what the published file holds "
                f"({type(problem).__name__}: {problem}). Fetch it again."
            ) from None
    return kappa
