"""Properties of the elements, from pymatgen's own tables, and their statistics over a composition.

In the manner of Magpie (Ward et al., npj Comput. Mater. 2, 16028, 2016), without its mode, which is
undefined where two elements are equally frequent.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from harness.plugin import SYMBOLS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core.periodic_table import Element

KNOWN = SYMBOLS[:94]
"""H to Pu. Of the heavier elements too little is tabulated."""

PROPERTIES = tuple(
    """Z mendeleev_no group row atomic_mass X atomic_radius van_der_waals_radius molar_volume
    melting_point thermal_conductivity ionization_energy electron_affinity""".split()
)
"""Attributes of pymatgen's `Element`, in its units.

Without a value are X (He Ne Ar), atomic radius (He Ne Kr Xe At Rn Fr), molar volume (At Fr) and
thermal conductivity (Fr): such a gap takes the median of the other elements."""

SHELLS = "spdf"
"""Further properties: electrons outside the noble gas core in s, p, d and f shells."""

STATISTICS = 5
"""Minimum, maximum, range, mean, and mean absolute deviation from the mean."""


@cache
def property_table() -> NDArray[np.float64]:
    """Returns elements × properties, in the order of `KNOWN` and of `PROPERTIES`, then `SHELLS`."""
    from pymatgen.core.periodic_table import Element

    elements = [Element(symbol) for symbol in KNOWN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen tells of every gap
        rows = [[getattr(element, name) for name in PROPERTIES] for element in elements]
    tabulated = np.array(rows, dtype=np.float64)  # None, too, becomes NaN
    filled = np.where(np.isnan(tabulated), np.nanmedian(tabulated, axis=0), tabulated)
    return np.hstack([filled, [_valence(element) for element in elements]])


def _valence(element: Element) -> list[int]:
    """Counts the electrons of each shell: [Ar].3d6.4s2 has two s and six d."""
    shells = re.findall(r"\d([spdf])(\d+)", element.electronic_structure)
    return [sum(int(n) for shell, n in shells if shell == own) for own in SHELLS]


def describe(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the statistics of every property, weighted by the elements' fractions.

    Args:
        fractions: one per element of `SYMBOLS`; those beyond `KNOWN` must be zero.

    Returns:
        `STATISTICS` blocks, each with one value per property.
    """
    present = np.flatnonzero(fractions)
    weights, values = fractions[present], property_table()[present]
    low, high, mean = values.min(axis=0), values.max(axis=0), weights @ values
    return np.concatenate([low, high, high - low, mean, weights @ np.abs(values - mean)])
