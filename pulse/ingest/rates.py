"""How many events a second a key may send, counted by all web processes of this host together.

The generic cell rate algorithm (ITU-T I.371): a key's whole state is the instant at which what it sent so far would
have been due at its rate. One number a key fits into memory that the processes share, so that a check needs no lock and
no server (1 µs). Two processes that write at the same moment lose one of the two counts: the key may send so much more.
"""

import mmap
import os
import time
from math import ceil
from pathlib import Path

from pulse.errors import RateLimited

# How far ahead of its rate a key may run: a burst of this many seconds' events.
BURST_S = 2.0
# No key waits longer than this; a number further ahead is from before the clock was set back.
MAX_AHEAD_S = 60.0
# Keys share a place when their ids are this far apart.
PLACES = 1 << 16
_BYTES = PLACES * 8


class Rates:
    """The limit of every key, in events a second; 0 is none. Without a file it is this process's own."""

    def __init__(self, per_s: int, path: Path | None = None) -> None:
        self.per_s = per_s
        self._due = memoryview(_map(path)).cast("d")

    def take(self, key_id: int) -> None:
        """Count one event. Raises RateLimited while the key is ahead of its rate by more than the burst."""
        if not self.per_s:
            return
        now = time.time()
        due = self._due[key_id % PLACES]
        ahead_s = due - now
        if BURST_S < ahead_s <= MAX_AHEAD_S:
            wait_s = ceil(ahead_s - BURST_S)
            raise RateLimited(f"This key may send {self.per_s} events a second.", retry_after_s=wait_s)
        self._due[key_id % PLACES] = (due if 0 < ahead_s <= BURST_S else now) + 1 / self.per_s

    def charge(self, key_id: int, events: int) -> None:
        """Count further events of a request that was let in."""
        if self.per_s:
            due = self._due[key_id % PLACES] + events / self.per_s
            self._due[key_id % PLACES] = min(due, time.time() + MAX_AHEAD_S)


def _map(path: Path | None) -> mmap.mmap:
    if path is None:
        return mmap.mmap(-1, _BYTES)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size < _BYTES:
            os.ftruncate(descriptor, _BYTES)
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
