"""The error family of the harness: one root, so that callers can tell user errors from bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness.redaction import redacted


class HarnessError(Exception):
    """Something the user can mend. The message names the thing, what was expected and the remedy.

    The command line prints it without a traceback and exits with status 2. Secrets that its message
    would name are taken out.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(redacted(a) if isinstance(a, str) else a for a in arguments))


class BenchmarkError(HarnessError):
    """A benchmark file is malformed or asks for something impossible."""


class DataError(HarnessError):
    """A dataset is missing, unreadable, or its rows cannot be used."""


class CannotEncode(DataError):
    """A backbone cannot encode a crystal. The message is the reason, without the crystal's name.

    To be raised by `encode` of a backbone: the row is then left out for all models of a table, and
    counted with its id and the reason.
    """


class WeightsError(HarnessError):
    """Pretrained weights are missing, damaged, or are not what they claim to be."""


class PluginError(HarnessError):
    """A plugin failed to load, or broke the contract of a hook."""


class StoreError(HarnessError):
    """Results or artefacts cannot be read or written."""


class ExecutorError(HarnessError):
    """Tasks cannot be carried out elsewhere: no such executor, other code there, no connection."""


class BundleError(HarnessError):
    """A bundle cannot be made, is damaged, or does not predict what it should."""


class LeakError(HarnessError):
    """A protocol that promises to be leak-free would use a test row in another role."""


class FailedCellsWarning(UserWarning):
    """Some cells of a run have failed; their leaderboard says which, and why."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns the tail of an error about an unknown name: a suggestion, then what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1)
    by_lower = {n.lower(): n for n in names}
    hint = f" Did you mean {by_lower[close[0]]!r}?" if close else ""
    return f"{hint} Known: {', '.join(names) if names else '(none)'}."
