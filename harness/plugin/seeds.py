"""Seeds derived by name from one root seed, so that adding a run or a dataset changes no other."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *names: str | int) -> int:
    """Returns a seed in [0, 2**63) that depends on `root` and on every name, in order."""
    text = "\x1f".join(str(part) for part in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
