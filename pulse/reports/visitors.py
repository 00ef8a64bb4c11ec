"""Distinct visitors of sketches that SQL has joined into one value."""

from collections.abc import Iterator

from pulse.storage.sketch import estimate


def count_joined(joined: bytes | memoryview, lengths: list[int]) -> int:
    """Return the distinct visitors of `string_agg(visitors, '')`, given `array_agg(length(visitors))` beside it."""
    return estimate(split_joined(joined, lengths))


def split_joined(joined: bytes | memoryview, lengths: list[int]) -> Iterator[bytes]:
    """Take the sketches that SQL has joined apart again."""
    joined, at = bytes(joined), 0
    for length in lengths:
        yield joined[at : at + length]
        at += length
