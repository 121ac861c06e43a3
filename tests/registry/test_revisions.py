"""Whoever changes what a built-in backbone, head or metric computes must say so."""

from __future__ import annotations

import pytest

from revisions import LOCK, PYTHON, bare_code, find_revisions, read_lock


@pytest.fixture(scope="module")
def lock() -> dict[str, object]:
    found = read_lock()
    if found["python"] != PYTHON:
        pytest.skip(f"{LOCK.name} was written by Python {found['python']}")
    return found


def test_code_and_revisions_of_built_in_plugins_are_those_that_were_looked_at(lock) -> None:
    now = find_revisions()
    changed = sorted(name for name in now.keys() | lock.keys() if now.get(name) != lock.get(name))
    assert not changed, (
        f"The code or a revision of {', '.join(changed)} is another one than in {LOCK.name}. "
        "Where a backbone, head or metric now computes something else from the same settings, "
        "raise `revision` in its spec: stages that are stored would be taken for its own. Where "
        "results stay what they were, leave it. Then write the lock again: `make revisions`."
    )


def test_what_is_said_of_code_is_no_part_of_it() -> None:
    said = '"""A module."""\nx = 1\n"""One."""\n\ndef f():\n    """Does."""\n    return x  # why\n'
    assert bare_code(said) == bare_code("x = 1\ndef f():\n    return x\n")
    assert bare_code(said) != bare_code("x = 2\ndef f():\n    return x\n")


def test_a_function_that_is_only_documented_is_still_code() -> None:
    assert bare_code('def f():\n    """Does nothing."""\n') == "def f():\n    pass"
