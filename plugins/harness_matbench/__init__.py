"""Datasets that people have: the structure tasks of Matbench, and κ of 103 compounds.

Matbench v0.1: A. Dunn, Q. Wang, A. Ganose, D. Dopp, A. Jain, npj Comput. Mater. 6, 138 (2020).
Addresses and hashes of its files come from the installed matminer. The 103 compounds are those of
the κ task of matbench-discovery: B. Póta, P. Ahlawat, G. Csányi, M. Simoncelli, arXiv 2408.00755.

None of these files could be downloaded where this was written: the readers are tested on small
files of the same form.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from harness.plugin import DatasetSpec, PropertySpec, hookimpl
from harness_matbench import phonondb, properties, tasks


@hookimpl
def register_properties() -> Iterable[PropertySpec]:
    """What Matbench's tasks ask for beside moduli, gaps and formation energies."""
    return properties.PROPERTIES


@hookimpl
def register_datasets() -> Iterable[DatasetSpec]:
    """The tasks, by matminer's names, and `phonondb_pbe_103`."""
    for task in tasks.TASKS:
        yield DatasetSpec(task.name, task.card, partial(tasks.load_rows, task))
    yield DatasetSpec(phonondb.NAME, phonondb.CARD, phonondb.load_rows)
