"""The tasks of Matbench v0.1 that ask for a number of a structure.

`matbench_mp_is_metal` asks for a class, and four tasks for something of a composition: none of
them is a dataset here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.plugin import Card, DataError, read_split_frame
from harness_matbench.files import PublishedFile, find_file

if TYPE_CHECKING:
    from harness.plugin import Locations

CITATION = "A. Dunn et al., npj Comput. Mater. 6, 138 (2020)"
URL = "https://matbench.materialsproject.org"
METADATA = "datasets/dataset_metadata.json"
"""In the package matminer."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of Matbench.

    Attributes:
        name: as matminer calls it.
        title: one line for lists.
        property_name: of what is asked for.
        unit: of the values in the file, or of those that their logarithms stand for.
        column: of the file, with the values.
        is_log: whether these are logarithms, to base 10.
        rows: how many there are.
        method: how they were computed.
        source: what to cite beside Matbench.
    """

    name: str
    title: str
    property_name: str
    unit: str
    column: str
    is_log: bool = False
    rows: int
    method: str
    source: str

    @property
    def card(self) -> Card:
        """What is known about it."""
        return Card(
            title=f"Matbench v0.1: {self.title}",
            property=self.property_name,
            target=self.column,
            unit=self.unit,
            method=self.method,
            rows=self.rows,
            notes="Rows are in Matbench's order, and called as there.",
            url=URL,
            citation=f"{CITATION}; {self.source}",
        )

    def name_row(self, label: str, number: int) -> str:
        """Returns the id of a row, in Matbench's way: `mb-phonons-0001`.

        Args:
            label: of the frame; a name if it has names.
            number: of the row, from 1.
        """
        if not label.isdigit():
            return label
        stem = self.name.removeprefix("matbench_").replace("_", "-")
        return f"mb-{stem}-{number:0{len(str(self.rows))}d}"


ELASTIC = "M. de Jong et al., Sci. Data 2, 150009 (2015)"
MATERIALS_PROJECT = "A. Jain et al., APL Mater. 1, 011002 (2013)"
TASKS = (
    Task(
        name="matbench_log_kvrh",
        title="bulk moduli (Voigt-Reuss-Hill), Materials Project",
        property_name="bulk-modulus",
        unit="GPa",
        column="log10(K_VRH)",
        is_log=True,
        rows=10987,
        method="density functional theory",
        source=ELASTIC,
    ),
    Task(
        name="matbench_log_gvrh",
        title="shear moduli (Voigt-Reuss-Hill), Materials Project",
        property_name="shear-modulus",
        unit="GPa",
        column="log10(G_VRH)",
        is_log=True,
        rows=10987,
        method="density functional theory",
        source=ELASTIC,
    ),
    Task(
        name="matbench_mp_e_form",
        title="formation energies, Materials Project",
        property_name="formation-energy",
        unit="eV/atom",
        column="e_form",
        rows=132752,
        method="density functional theory (PBE, PBE+U)",
        source=MATERIALS_PROJECT,
    ),
    Task(
        name="matbench_mp_gap",
        title="band gaps, Materials Project",
        property_name="band-gap",
        unit="eV",
        column="gap pbe",
        rows=106113,
        method="density functional theory (PBE)",
        source=MATERIALS_PROJECT,
    ),
    Task(
        name="matbench_phonons",
        title="frequency of the highest phonon peak",
        property_name="phonon-peak",
        unit="1/cm",
        column="last phdos peak",
        rows=1265,
        method="density functional perturbation theory",
        source="G. Petretto et al., Sci. Data 5, 180065 (2018)",
    ),
    Task(
        name="matbench_dielectric",
        title="refractive index",
        property_name="refractive-index",
        unit="",
        column="n",
        rows=4764,
        method="density functional perturbation theory (PBE)",
        source="I. Petousis et al., Sci. Data 4, 160134 (2017)",
    ),
    Task(
        name="matbench_jdft2d",
        title="exfoliation energies of layered crystals, JARVIS",
        property_name="exfoliation-energy",
        unit="meV/atom",
        column="exfoliation_en",
        rows=636,
        method="density functional theory (OptB88vdW)",
        source="K. Choudhary et al., Sci. Rep. 7, 5179 (2017)",
    ),
    Task(
        name="matbench_perovskites",
        title="formation energies of cells of perovskites",
        property_name="perovskite-formation-energy",
        unit="eV/cell",
        column="e_form",
        rows=18928,
        method="density functional theory (RPBE); oxygen against water vapour",
        source="I. E. Castelli et al., Energy Environ. Sci. 5, 9034 (2012)",
    ),
)


def load_rows(task: Task, locations: Locations) -> Iterator[Mapping[str, Any]]:
    """Yields the rows of a task, from its file on disk or, if need be, from its address.

    Raises:
        DataError: matminer is not installed, the file is nowhere and cannot be fetched, is not the
            published one, or cannot be read.
    """
    path = find_file(task.name, published_file(task.name), locations)
    for number, (label, row) in enumerate(read_split_frame(path), start=1):
        if task.column not in row or "structure" not in row:
            raise DataError(
                f"{path} has the columns {', '.join(row)}: expected structure and {task.column}."
            )
        value = row[task.column]
        if task.is_log and isinstance(value, int | float):
            value = 10.0**value
        yield {
            "id": task.name_row(label, number),
            task.column: value,
            "structure": row["structure"],
        }


def published_file(name: str) -> PublishedFile:
    """Returns the address and the hash of a task's file, as matminer has them.

    Raises:
        DataError: matminer is not installed, or says nothing of it.
    """
    try:
        facts = json.loads(find_metadata().read_text(encoding="utf-8"))[name]
        file, digest = f"{name}.{facts['file_type']}", f"sha256:{facts['hash']}"
        return PublishedFile(file, facts["url"], digest)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"The metadata of the installed matminer say nothing of {name!r} "
            f"({type(problem).__name__}: {problem}). Install the version that is meant to work: "
            "pip install 'paraisite-harness[matbench]'."
        ) from None


def find_metadata() -> Path:
    """Returns the file in which matminer describes its datasets; imports nothing.

    Raises:
        DataError: matminer is not installed.
    """
    found = find_spec("matminer")
    if found is None or not found.submodule_search_locations:
        raise DataError(
            "Addresses and hashes of Matbench's files come with the package matminer, which is not "
            "installed: pip install 'paraisite-harness[matbench]'."
        )
    return Path(found.submodule_search_locations[0]) / METADATA
