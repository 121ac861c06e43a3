"""Prototypes of crystals: which of them differ by their elements and by distances alone."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from harness.plugin import SYMPREC_ANGSTROM

if TYPE_CHECKING:
    from harness.plugin import Crystal

UNKNOWN = "none"
"""The prototype of crystals of which spglib finds no space group."""

_found: dict[str, str] = {}
"""Prototypes by digest of the crystal: one takes a few milliseconds, and every plan needs all."""


def prototype(crystal: Crystal) -> str:
    """Returns the name of a crystal's prototype, as `AB_cF8_225 a b` of rock salt.

    It is made of the anonymous formula, Pearson symbol, space group and Wyckoff positions of the
    protostructure label of pymatgen (Hicks et al., AFLOW-XtalFinder, npj Computational Materials 7,
    30, 2021; the choice of origin does not matter), with the elements of equal amounts in the order
    of their positions. Two crystals that pymatgen's StructureMatcher matches but for their elements
    have the same name, unless one is distorted; the reverse need not hold, as the name knows no
    free parameters. Unlike the matcher's, these classes do not depend on which crystals there are
    and in what order, and take a few milliseconds per crystal.
    """
    if crystal.digest not in _found:
        _found[crystal.digest] = _prototype(crystal)
    return _found[crystal.digest]


def _prototype(crystal: Crystal) -> str:
    from pymatgen.analysis.prototypes import get_protostructure_label_from_spglib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spglib's defaults, at every call
        label = get_protostructure_label_from_spglib(
            crystal.to_pymatgen(), raise_errors=False, init_symprec=SYMPREC_ANGSTROM
        )
    if label is None:
        return UNKNOWN
    formula, pearson, group, *sites = label.partition(":")[0].split("_")
    by_amount = sorted(zip(_amounts(formula), sites, strict=True))
    return f"{formula}_{pearson}_{group} {' '.join(positions for _, positions in by_amount)}"


def _amounts(formula: str) -> list[int]:
    """Amounts in an anonymous formula, as 1, 2, 4 of AB2C4."""
    return [int(digits or 1) for _, digits in re.findall(r"([A-Z][a-z]?)(\d*)", formula)]
