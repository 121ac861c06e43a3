"""How a case ends that does not pass: with a broken promise, or with a reason not to apply."""

from __future__ import annotations

from typing import NoReturn
from unittest import SkipTest


class BrokenPromise(AssertionError):
    """A plugin does not do what its kind promises."""


class Remark(UserWarning):
    """What an author should hear of, though the case passes."""


def broken(promised: str, found: str, remedy: str) -> NoReturn:
    """Ends a case: says what was promised, what was found, and what to do.

    Raises:
        BrokenPromise: always.
    """
    __tracebackhide__ = True  # pytest then shows the case, not this line
    raise BrokenPromise(f"Promised: {promised}.\nFound: {found}.\nRemedy: {remedy}.")


def promise(holds: bool, promised: str, found: str, remedy: str) -> None:
    """Ends a case unless something holds.

    Raises:
        BrokenPromise: it does not.
    """
    __tracebackhide__ = True
    if not holds:
        broken(promised, found, remedy)


def skip(reason: str) -> NoReturn:
    """Ends a case that does not apply.

    Raises:
        unittest.SkipTest: always; pytest shows a skip.
    """
    __tracebackhide__ = True
    raise SkipTest(reason)
