"""What the contract once called otherwise, and what to write now.

A plugin that was written for version 0.1, when all there was to predict was κ, fails with a name
that is not there. Whoever reports such an error says what has become of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PROPERTY = "the harness predicts any property now, not κ alone"

CHANGES: Mapping[str, str] = {
    r"'FitRows' object has no attribute 'kappa'": (
        "`rows.targets` are the labels, in the unit of `rows.property`"
    ),
    r"FitRows.*argument 'kappa'": "write FitRows(embeddings, targets, scaler, property, seed)",
    r"Uncertain.*(attribute|argument) '(kappa|std_log)'": (
        "write Uncertain(median=…, std=…), the std on the scale of `rows.property`"
    ),
    r"cannot import name 'KAPPA_FLOOR'": (
        "`lowest` of the property, as in `rows.property.to_scale(…)`; a metric with `needs='log'` "
        "is given logarithms that are floored already"
    ),
    r"'Dataset' object has no attribute 'kappa'": "`dataset.targets`, in `dataset.property.unit`",
    r"cannot import name 'UNITS' from 'harness.plugin.dataset'": (
        "`known_units` of the property, `dataset.property`"
    ),
}
"""From what an error says to what is written instead."""


def remedy(problem: BaseException) -> str:
    """Returns what to write instead, as a sentence to add; empty if nothing has changed there."""
    told = str(problem)
    for pattern, instead in CHANGES.items():
        if re.search(pattern, told):
            return f" The contract of plugins has changed ({PROPERTY}): {instead}."
    return ""
