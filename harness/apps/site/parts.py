"""What plugins say of the parts that models are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.apps.site.html_tables import PAPER
from harness.planning.selectors import name_of
from harness.plugin.transfer import TransferSpec

if TYPE_CHECKING:
    from harness.registry.catalog import Catalog
    from harness.registry.registry import Registry

KINDS = ("backbone", "head", "transfer", "protocol")
"""Columns of cells that name a plugin's offer."""


def tell_parts(
    cells: Iterable[Mapping[str, str]], registry: Registry
) -> dict[tuple[str, str], str]:
    """Returns what is told of every part, by its kind and its name with settings.

    Args:
        cells: columns of all cells.
        registry: knows the plugins.
    """
    parts = dict.fromkeys((kind, cell[kind]) for cell in cells for kind in KINDS)
    return {(kind, text): _told(registry, kind, text) for kind, text in parts}


def _told(registry: Registry, kind: str, text: str) -> str:
    """What a plugin says of what it offers: its summary, and the papers that it names."""
    catalogs: dict[str, Catalog[Any]] = {
        "backbone": registry.backbones,
        "head": registry.heads,
        "transfer": registry.transfers,
        "protocol": registry.protocols,
    }
    name = name_of(text)
    if name not in catalogs[kind]:
        return ""
    spec = catalogs[kind][name]
    told = (spec.settings, *([spec.stages] if isinstance(spec, TransferSpec) else ()))
    docs = [inspect.getdoc(own) or "" for one in told for own in getattr(one, "__mro__", (one,))]
    papers = [
        " ".join(paragraph.split())
        for doc in docs
        for paragraph in doc.split("\n\n")
        if re.search(PAPER, paragraph)
    ]
    return " ".join([f"{spec.summary[:1].upper()}{spec.summary[1:].rstrip('.')}.", *papers])
