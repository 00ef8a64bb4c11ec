"""Request bodies encoded ahead: a load generator that encodes while it measures would measure itself."""

import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from typing import NamedTuple

from pulse.load.traffic import Event, Traffic

BATCH_EVENTS = 100
# Stands in visitors', sessions' and events' ids for twelve hexadecimal digits that differ in each round.
TOKEN = "5a17c0ffee00"
_TOKEN = TOKEN.encode()


class Body(NamedTuple):
    """One request's bytes, its events, and how many of them reports count (all but `engagement`)."""

    data: bytes
    events: int
    counted: int


class Bodies:
    """Single events and batches in a circle; each round is one of new visitors, sessions and event ids."""

    def __init__(self, singles: int = 2_000, batches: int = 100, seed: int = 1) -> None:
        # Few people at once, so that a round holds whole sessions; at first everybody only arrives: that is left out.
        stream = (timed.event for timed in itertools.islice(Traffic(seed).stream(50), 2_000, None))
        source = random.Random(seed)
        # Browsers give their events an id, so that a retry is stored once; servers that send batches seldom do.
        self._singles = [
            _encode({**mark(event), "event_id": f"{source.getrandbits(32):08x}-0000-4000-8000-{TOKEN}"})
            for event in itertools.islice(stream, singles)
        ]
        self._batches = [
            _encode_batch([mark(event) for event in itertools.islice(stream, BATCH_EVENTS)]) for _ in range(batches)
        ]
        self._lock = threading.Lock()
        self._rounds = _make_rounds()
        self._next_single = self._circle(self._singles)
        self._next_batch = self._circle(self._batches)

    def single(self) -> Body:
        """Return one event."""
        with self._lock:
            return next(self._next_single)

    def batch(self) -> Body:
        """Return a batch of BATCH_EVENTS."""
        with self._lock:
            return next(self._next_batch)

    def _circle(self, bodies: list[Body]) -> Iterator[Body]:
        while True:
            digits = next(self._rounds)
            for body in bodies:
                yield Body(body.data.replace(_TOKEN, digits), body.events, body.counted)


def mark(event: Event) -> Event:
    """Return the event with the token in its visitor's and session's ids."""
    marked = {name: f"{event[name]}-{TOKEN}" for name in ("visitor_id", "session_id")}
    return {**event, **marked}


def _make_rounds() -> Iterator[bytes]:
    own = f"{os.getpid() & 0xFFFF:04x}{random.SystemRandom().getrandbits(16):04x}"
    return (f"{own}{number & 0xFFFF:04x}".encode() for number in itertools.count())


def _encode(event: Event) -> Body:
    return Body(json.dumps(event, separators=(",", ":")).encode(), 1, int(is_counted(event)))


def _encode_batch(events: list[Event]) -> Body:
    data = json.dumps({"events": events}, separators=(",", ":")).encode()
    return Body(data, len(events), sum(map(is_counted, events)))


def is_counted(event: Event) -> bool:
    """Tell whether reports count it among the events."""
    return bool(event["event_type"] != "engagement")
