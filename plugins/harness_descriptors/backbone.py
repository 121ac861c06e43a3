"""The backbone `descriptors`."""

from __future__ import annotations

import warnings
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.plugin import SYMBOLS, Crystal, FixedFeatures, PluginError
from harness_descriptors.plain import PLAIN, describe_plainly, property_table

if TYPE_CHECKING:
    from harness.plugin import Floats
    from harness_descriptors import DescriptorSettings

KNOWN = SYMBOLS[:94]
"""H to Pu. Of the heavier elements too little is tabulated."""

MAGPIE = 132
"""22 properties of the elements, six statistics of each."""


def make_descriptors(settings: DescriptorSettings) -> FixedFeatures:
    """Makes the backbone.

    Raises:
        PluginError: `magpie` or `both` is asked for, and matminer is not installed.
    """
    # another version of pymatgen may tabulate other values
    encoding = f"descriptors-1 {sha256(property_table().tobytes()).hexdigest()[:16]}"
    if settings.features == "plain":
        return FixedFeatures(
            describe_plainly, len(PLAIN), elements=KNOWN, encoding=encoding, refuses=False
        )
    if find_spec("matminer") is None:
        raise PluginError(
            f"The backbone 'descriptors' with features = {settings.features!r} needs matminer: "
            "install the extra with `pip install 'paraisite-harness[matminer]'`, "
            "or set features = 'plain'."
        )
    magpie = f"magpie matminer {version('matminer')}"
    if settings.features == "magpie":
        return FixedFeatures(
            describe_by_magpie, MAGPIE, elements=KNOWN, encoding=magpie, refuses=False
        )
    return FixedFeatures(
        describe_both,
        len(PLAIN) + MAGPIE,
        elements=KNOWN,
        encoding=f"{encoding} {magpie}",
        refuses=False,
    )


def describe_both(crystal: Crystal) -> Floats:
    """Returns the plain descriptors, then Magpie's."""
    return np.concatenate([describe_plainly(crystal), describe_by_magpie(crystal)])


def describe_by_magpie(crystal: Crystal) -> Floats:
    """Returns the statistics of Ward et al., npj Comput. Mater. 2, 16028 (2016), by matminer."""
    from pymatgen.core.composition import Composition

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(_magpie().featurize(Composition(crystal.formula)), dtype=np.float64)


@cache
def _magpie() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.composition import ElementProperty

        return ElementProperty.from_preset("magpie", impute_nan=True)
