"""Which values a list can begin with, told from the first values of each span alone.

What a value adds up to is at least what the spans that name it say, and at most that and, for each other span, the
greatest weight of a value not named there. Few values can be among the first by that, and no other can, unless values
are so alike that the first of a span say nothing.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pulse.storage.heads import Head, Span


class Leaders(NamedTuple):
    """Values by dimension among which the first are, and the dimensions of which that can't be told."""

    candidates: dict[str, list[str]]
    unknown: list[str]


def find_leaders(spans: Iterable[Span], limit: int, dimensions: Iterable[str]) -> Leaders:
    """Find the values that can be among the first `limit` of each of these dimensions of all spans together."""
    heads: defaultdict[str, list[Head]] = defaultdict(list)
    late = 0
    for span in spans:
        late += span.late
        for dimension, head in span.heads.items():
            heads[dimension].append(head)
    candidates: dict[str, list[str]] = {}
    # One that no head names has no values, unless its first came late.
    unknown = [dimension for dimension in dimensions if dimension not in heads] if late else []
    for dimension, found in heads.items():
        values = _find(found, late, limit)
        if values is None:
            unknown.append(dimension)
        else:
            candidates[dimension] = values
    return Leaders(candidates, unknown)


def _find(heads: list[Head], late: int, limit: int) -> list[str] | None:
    """Return the values of one dimension among which the first `limit` are; None where that can't be told.

    `late` is what any value may have changed by since the heads were made, more or less.
    """
    known: dict[str, int] = {}
    get = known.get
    for head in heads:
        for value, weight in zip(head.values, head.weights, strict=True):
            known[value] = get(value, 0) + weight
    partial = [(head.rest, head) for head in heads if head.rest is not None]
    unseen = sum(rest for rest, _ in partial)
    if len(known) <= limit:
        return None if partial or late else list(known)
    # The last place is taken by at least so much, whatever came late.
    least = heapq.nlargest(limit, known.values())[-1] - late
    if (partial or late) and unseen + late >= least:
        return None
    found = [value for value, weight in known.items() if weight + unseen + late >= least]
    if unseen and len(found) > limit:
        named = [(rest, frozenset(head.values)) for rest, head in partial]
        missed = {value: sum(rest for rest, values in named if value not in values) for value in found}
        found = [value for value in found if known[value] + missed[value] + late >= least]
    return found
