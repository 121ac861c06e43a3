"""The strict protocol: grouped splits, and no test row in any other role."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import ProtocolSpec, hookimpl
from harness_strict.rules import StrictRules, StrictSettings


@hookimpl
def register_protocols() -> Iterable[ProtocolSpec]:
    """Offers `strict`, the default protocol."""
    yield ProtocolSpec(
        "strict",
        "formulas kept whole, 70/10/20 % of rows; test rows are scored once",
        StrictSettings,
        StrictRules,
    )
