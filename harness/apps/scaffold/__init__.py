"""New plugins: small packages that work as they are, made from the templates beside this file.

A template is a file as the author gets it, plus the suffix `.template`, with `$name` (in benchmark
files, and of the distribution), `$package` (to import) and `$kind` in its text and `PACKAGE` in its
path. `templates/common` goes into every package, `templates/<kind>` into those of one kind, where
`guide.md` becomes a part of the README.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a plugin may offer, as the registry's catalogs call it."""

    PROPERTY = "property"
    DATASET = "dataset"
    BACKBONE = "backbone"
    HEAD = "head"
    TRANSFER = "transfer"
    PROTOCOL = "protocol"
    METRIC = "metric"
