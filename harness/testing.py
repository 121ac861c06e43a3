"""Conformance cases for authors of plugins: the door to `harness.apps.testing`."""

from harness.apps.testing import *  # noqa: F403 (its `__all__` is the one list of names)
from harness.apps.testing import __all__ as __all__  # noqa: PLC0414 (for type checkers)
