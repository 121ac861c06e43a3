"""Leak-free protocols: grouped splits, and no test row in any other role."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plugin import ProtocolSpec, hookimpl
from harness_strict.folds import FoldRules, FoldSettings
from harness_strict.left_out import LeftOutRules, LeftOutSettings
from harness_strict.rules import StrictRules, StrictSettings


@hookimpl
def register_protocols() -> Iterable[ProtocolSpec]:
    """Offers `strict`, the default protocol, and others that differ from it in how they split."""
    yield ProtocolSpec(
        "strict",
        "formulas kept whole, 70/10/20 % of rows; test rows are scored once",
        StrictSettings,
        StrictRules,
    )
    yield ProtocolSpec(
        "k-fold",
        "as strict, but every row is tested once per repeat",
        FoldSettings,
        FoldRules,
    )
    yield ProtocolSpec(
        "leave-one-out",
        "as strict, but a run tests all rows with an element, a prototype, …: extrapolation",
        LeftOutSettings,
        LeftOutRules,
    )
