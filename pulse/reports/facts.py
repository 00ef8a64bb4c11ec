"""Counting in the facts, by whichever way: what it yields, and how long it may take."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, TextClause
from sqlalchemy.exc import OperationalError

from pulse.errors import Unavailable
from pulse.storage.sql import load_queries

Q = load_queries("filtered")

TIMEOUT_S = 10.0
# Distinct visitors are exact up to so many visits. Beyond, they are worked out for each value from every second
# (fourth, eighth …) visitor and what these did, which is closer the more alike visitors are: see docs/DECISIONS.md.
SAMPLE_VISITS = 16_384
_CANCELLED = "57014"


class Sum(NamedTuple):
    """What visits or events add up to, of all or of one value.

    `sampled_visitors` are the distinct visitors that were looked at, and `sampled_rows` their visits (of a page, kind
    or screen: their events).
    """

    value: Any
    sessions: int
    pageviews: int
    events: int
    bounces: int
    duration_s: float
    sampled_visitors: int
    sampled_rows: int


@dataclass(frozen=True, slots=True)
class Counted:
    """All of a report: the total, each bucket by number from 1 on, and the first values of each dimension."""

    total: Sum
    buckets: Mapping[int, Sum]
    lists: Mapping[str, list[Sum]]


def sample_mask(visits: int) -> int:
    """Return the low bits that are zero in the hash of the visitors who are looked at, as block `figures` does."""
    return 2 ** max(0, math.ceil(math.log2(max(visits, 1) / SAMPLE_VISITS))) - 1


class Reading:
    """The statements of one report: in one snapshot where it begins the transaction, and until its time is up."""

    def __init__(self, connection: Connection, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = connection
        self._until = time.monotonic() + timeout_s
        if not connection.in_transaction():
            connection.execute(Q.one_snapshot)

    def run(self, statement: TextClause, binds: dict[str, Any]) -> list[Row[Any]]:
        """Return a statement's rows; binds it has no use for are left out. Raises Unavailable."""
        left_ms = max(1, round((self._until - time.monotonic()) * 1000))
        try:
            self._connection.execute(Q.limit, {"timeout": f"{left_ms}ms"})
            wanted = {name: binds[name] for name in statement.compile().params}
            return list(self._connection.execute(statement, wanted))
        except OperationalError as error:
            if getattr(error.orig, "pgcode", None) == _CANCELLED:
                raise _too_long() from error
            raise

    def check(self) -> None:
        """Raise Unavailable when the time is up."""
        if time.monotonic() > self._until:
            raise _too_long()


def _too_long() -> Unavailable:
    return Unavailable(
        f"The filtered report was not done within {TIMEOUT_S:g} s and was stopped; take a shorter range of"
        " days, or filters that leave fewer visits.",
        retry_after_s=10,
    )
