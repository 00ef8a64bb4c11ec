"""Redis's glob patterns, for the side that is not Redis."""

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> re.Pattern[bytes]:
    """The regular expression, on UTF-8 bytes, that accepts what Redis's `SCAN … MATCH` accepts.

    `*` is any bytes, `?` one byte, `[a-c]`, `[^a]` a byte of a set or outside it, a backslash takes the next byte
    literally. The corner cases (an unclosed set, `[]`, a reversed range, a closing backslash) follow
    `stringmatchlen` in Redis's util.c.
    """
    source = pattern.encode()
    parts: list[bytes] = []
    at = 0
    while at < len(source):
        byte = source[at : at + 1]
        at += 1
        if byte == b"*":
            # A run of stars is one: each further one would only multiply the backtracking.
            if not parts or parts[-1] != b".*":
                parts.append(b".*")
        elif byte == b"?":
            parts.append(b".")
        elif byte == b"[":
            part, at = _set(source, at)
            parts.append(part)
        else:
            if byte == b"\\" and at < len(source):
                byte = source[at : at + 1]
                at += 1
            parts.append(re.escape(byte))
    return re.compile(b"".join(parts), re.DOTALL)


def _set(source: bytes, at: int) -> tuple[bytes, int]:
    """The expression of the set that begins at `at`, and where the pattern goes on."""
    negated = source[at : at + 1] == b"^"
    at += negated
    members: set[int] = set()
    while at < len(source):
        left = len(source) - at
        if source[at] == 0x5C and left >= 2:
            members.add(source[at + 1])
            at += 2
        elif source[at] == 0x5D:
            at += 1
            break
        elif left >= 3 and source[at + 1] == 0x2D:
            # Redis compares signed chars: bytes from 0x80 on come before all others.
            low, high = sorted((byte ^ 0x80) - 0x80 for byte in (source[at], source[at + 2]))
            members.update(byte & 0xFF for byte in range(low, high + 1))
            at += 3
        else:
            members.add(source[at])
            at += 1
    if not members:
        return (b"." if negated else b"(?!)"), at
    inside = b"".join(b"\\x%02x" % member for member in sorted(members))
    return b"[" + (b"^" if negated else b"") + inside + b"]", at
