"""Turns: long work of a web process in steps, between which its other requests go on."""

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import CursorResult, Row

# How long a computation goes on between two turns. Each turn costs it a request of everybody who waits: with one after
# every row, which is done in some 60 µs, waiting would be most of a report of 200 rows.
SLICE_S = 0.003
_resumed_at = 0.0


def yield_to_requests() -> None:
    """Let other requests of the process have their turn, at most once in SLICE_S: called between steps of any length.

    In web workers both sleeps are gevent's. One of 0 comes back before sockets are looked at; one that is over at once
    comes back when they have been, but before what they brought is handled: together they let all of it go first.
    Costs 5 µs, and a tenth of one within the slice; with a microsecond in place of the nanosecond it would be 200.
    """
    global _resumed_at
    # One clock for all computations of the process: while one gives way the others begin a slice of their own.
    if time.perf_counter() - _resumed_at < SLICE_S:
        return
    time.sleep(1e-9)
    time.sleep(0)
    _resumed_at = time.perf_counter()


def read_in_steps(rows: CursorResult[Any], size: int) -> Iterator[Row[Any]]:
    """Give out a result's rows, giving way after `size` of them: a kilobyte takes a microsecond to be read."""
    for some in rows.partitions(size):
        yield from some
        yield_to_requests()
