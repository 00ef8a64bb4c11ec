"""The visitor's language, from the event or the Accept-Language header."""

import re

from pulse.ingest.memo import Memo

_TAG = re.compile(r"\s*([A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,3})(?![A-Za-z0-9])")


def _normalize(text: str) -> str | None:
    match = _TAG.match(text)
    if match is None:
        return None
    primary, *others = match.group(1).replace("_", "-").split("-")
    return "-".join([primary.lower(), *(_subtag(part) for part in others)])


def _subtag(text: str) -> str:
    """Spell a subtag as RFC 5646, section 2.1.1 recommends: regions in capitals, scripts capitalized."""
    if len(text) == 2:
        return text.upper()
    return text.capitalize() if len(text) == 4 and text.isalpha() else text.lower()


_LANGUAGES: Memo[str, str | None] = Memo(_normalize, size=4096)


def parse_language(text: str) -> str | None:
    """Return the first language tag of `text` in its usual spelling (`en-US`), or None without one."""
    return _LANGUAGES[text[:64]]
