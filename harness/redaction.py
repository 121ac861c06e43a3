"""Secrets, kept out of whatever is written or printed: passwords in URLs, keys of the user's.

Plans, records, pages, messages and tracebacks go through `redacted`; what others send is asked for
`holds_secret`.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"

VARIABLES = ("MP_API_KEY", "PMG_MAPI_KEY")
"""Environment variables whose values are secrets."""

SHORTEST = 6
"""Letters of a secret that is looked for as it is: a shorter one would be found in any text."""

_IN_URL = re.compile(
    r"""(?P<before>\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s:/@?#"'<>]{0,255}:)[^\s"'<>]{1,512}(?=@)"""
)
_IN_QUERY = re.compile(
    r"""(?P<before>[?&](?:password|passwd|pwd|token|api_?key|secret)=)[^\s&"'<>#]+""",
    re.IGNORECASE,
)
_PATTERNS = ((_IN_URL, ("@",)), (_IN_QUERY, ("?", "&")))
"""Each with letters of which it needs one: text without is told apart a thousand times faster."""


def redacted_url(url: str) -> str:
    """Returns a URL without its password; `***` where it is none, and may hold one."""
    return HIDDEN if "@" in url and "://" not in url else redacted(url)


def redacted(text: str) -> str:
    """Returns text with every secret that can be told replaced by `***`."""
    for secret in _known():
        text = text.replace(secret, HIDDEN)
    for pattern, needed in _PATTERNS:  # bounded, so that no text of others takes for ever
        if any(letter in text for letter in needed):
            text = pattern.sub(rf"\g<before>{HIDDEN}", text)
    return text


def holds_secret(text: str) -> bool:
    """Whether text holds something that `redacted` would take out."""
    return redacted(text) != text


def _known() -> set[str]:
    """The user's keys; the environment of the moment says which."""
    keys = {os.environ.get(name, "") for name in VARIABLES}
    return {key for key in keys if len(key) >= SHORTEST}
