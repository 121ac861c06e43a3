"""Global random numbers: set to a known state, so that whatever depends on them is seen."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seeds the global generators of Python, numpy and (where it is loaded) torch; then restores.

    Args:
        seed: less than 2**32.
    """
    torch = sys.modules.get("torch")
    state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)
