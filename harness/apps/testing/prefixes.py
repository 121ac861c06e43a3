"""Prefixes of parameter names, as layers, `freeze` and groups use them."""

from __future__ import annotations

from collections.abc import Iterable


def under(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a parameter, or a part of a model, is or lies in what one of the prefixes names."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
