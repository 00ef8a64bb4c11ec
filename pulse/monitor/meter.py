"""Counts and histograms of one process: since the last reset, and sliced by time for the last 5 minutes and hour."""

from collections import deque

import msgspec

from pulse.monitor.histogram import Histogram, bucket_of
from pulse.monitor.snapshot import Slice, encode, encode_kept

SLICE_S = 10
SLICES = 30
MINUTE_S = 60
MINUTES = 60
RECENT_S = SLICE_S * (SLICES + 1)
# Names are few and fixed; a client that could invent them must not fill the memory.
MAX_NAMES = 300
OTHER = "(other)"


class Meter:
    """Not thread-safe: the recorder's lock is held by every caller.

    Each value goes into the current slice alone. A slice that ends is added to the totals and to its minute, then
    kept encoded (a few hundred bytes a histogram), so that 90 slices cost little memory and nothing to publish.
    """

    def __init__(self, now: float) -> None:
        self.since = now
        self.current = Slice(_align(now, SLICE_S))
        self.ends_at = float(self.current.starts_at + SLICE_S)
        self._totals = Slice(0)
        self._minute = Slice(_align(now, MINUTE_S))
        self._slices: deque[bytes] = deque(maxlen=SLICES)
        self._minutes: deque[bytes] = deque(maxlen=MINUTES)

    def count(self, name: str, times: int) -> None:
        """Add to a count."""
        counts = self.current.counts
        try:
            counts[name] += times
        except KeyError:
            known = name in self._totals.counts or len(self._totals.counts) + len(counts) < MAX_NAMES
            name = name if known else OTHER
            counts[name] = counts.get(name, 0) + times

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram."""
        self.histogram(name).add_known(value, bucket_of(value))

    def histogram(self, name: str) -> Histogram:
        """The current slice's histogram of a name."""
        histograms = self.current.histograms
        try:
            return histograms[name]
        except KeyError:
            known = name in self._totals.histograms or len(self._totals.histograms) + len(histograms) < MAX_NAMES
            return histograms.setdefault(name if known else OTHER, Histogram())

    def rotate(self, now: float) -> None:
        """Close the current slice when its time is over (50 µs every 10 s); a clock set back closes it too."""
        if self.current.starts_at <= now < self.ends_at:
            return
        done = self.current
        self.current = Slice(_align(now, SLICE_S))
        self.ends_at = float(self.current.starts_at + SLICE_S)
        if not done.is_empty:
            self._slices.append(encode_kept(done))
            self._totals.merge(done)
            self._minute.merge(done)
        minute = _align(now, MINUTE_S)
        if minute != self._minute.starts_at:
            if not self._minute.is_empty:
                self._minutes.append(encode_kept(self._minute))
            self._minute = Slice(minute)

    def totals(self) -> Slice:
        """Everything since the start or the last reset; a copy."""
        found = Slice(0)
        found.merge(self._totals)
        found.merge(self.current)
        return found

    def slices(self) -> list[msgspec.Raw]:
        """The slices of 10 seconds with the current one, encoded, oldest first."""
        return [msgspec.Raw(found) for found in [*self._slices, encode(self.current)]]

    def minutes(self) -> list[msgspec.Raw]:
        """The minutes with the current one, encoded, oldest first."""
        current = Slice(self._minute.starts_at)
        current.merge(self._minute)
        current.merge(self.current)
        return [msgspec.Raw(found) for found in [*self._minutes, encode(current)]]


def _align(now: float, step_s: int) -> int:
    return int(now) // step_s * step_s
