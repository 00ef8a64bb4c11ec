"""Distinct visitors of sketches that SQL has joined into one value."""

from collections.abc import Iterator

from pulse.storage.sketch import estimate


def count_joined(joined: bytes | memoryview, lengths: list[int]) -> int:
    """Return the distinct visitors of `string_agg(visitors, '')`, given `array_agg(length(visitors))` beside it."""
    return estimate(_split(bytes(joined), lengths))


def _split(joined: bytes, lengths: list[int]) -> Iterator[bytes]:
    at = 0
    for length in lengths:
        yield joined[at : at + length]
        at += length
